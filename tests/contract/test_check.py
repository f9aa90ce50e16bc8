"""`tools/check.py`: each step runs what there is, and stops at what fails."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECK = Path(__file__).parents[2] / "tools" / "check.py"


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, in a workspace that is empty so far."""
    spec = importlib.util.spec_from_file_location("check", CHECK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def write(check: ModuleType, path: str) -> None:
    file = check.ROOT / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_a_folder_that_is_not_there_is_not_passed(check: ModuleType) -> None:
    assert [check.steps()[name] for name in ("unit", "integration", "e2e", "chaos")] == [[]] * 4
    write(check, "services/a/tests/unit/test_a.py")
    write(check, "tests/contract/test_c.py")
    (unit,), (integration,) = check.steps()["unit"], check.steps()["integration"]
    assert unit[-1] == "services/a/tests/unit"
    assert integration[-1] == "tests/contract"
    assert "services/a/tests/integration" not in integration
    assert check.steps()["chaos"] == []


def test_what_is_long_runs_when_it_is_asked_for_and_only_then(check: ModuleType) -> None:
    write(check, "tests/chaos/test_d.py")
    (chaos,), (long,) = check.steps()["chaos"], check.steps()["long"]
    assert "not long" in chaos
    assert "long" in long
    assert chaos[-1] == long[-1] == "tests/chaos"
    write(check, "services/a/tests/contract/test_c.py")
    others = [command[1] for command in check.steps()["postgres"]]
    assert [name.partition("=")[0] for name in others] == ["PG_BINDIR"] * len(others)
    assert not os.environ.get("PG_BINDIR") or not others


def test_the_first_failure_ends_it_with_its_code(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(code: int) -> list[list[str]]:
        return [[sys.executable, "-c", f"raise SystemExit({code})"]]

    monkeypatch.setattr(
        check,
        "steps",
        lambda: {"lint": ends(0), "none": [], "types": ends(3), "unit": ends(0), "long": ends(4)},
    )
    assert check.main([]) == 3
    said = capsys.readouterr().out
    assert "types failed (exit 3)" in said
    assert "=== unit" not in said
    assert check.main(["lint", "none", "unit"]) == 0
    assert check.main(["fly"]) == 2
    monkeypatch.setattr(check, "steps", lambda: {"unit": ends(0), "long": ends(4)})
    assert check.main([]) == 0
    assert check.main(["long"]) == 4
