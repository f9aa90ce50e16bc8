"""Every problem code that the code can answer with is registered, under the status it has."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.kernel import errors
from chassis.web import problems
from contracts.problems import REGISTRY

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("shared/chassis/src/**/*.py")])
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.Fault)
}


def status_of(kind: type[errors.Fault]) -> int:
    return problems.status_of(kind())


def raised() -> Iterator[tuple[str, str, int]]:
    """(where, code, status) of each `errors.Kind(…, code="…")`."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            for given in node.keywords:
                if name in KINDS and given.arg == "code" and isinstance(given.value, ast.Constant):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield where, str(given.value.value), status_of(KINDS[name])


def test_codes_in_the_source_are_registered_under_their_status() -> None:
    found = list(raised())
    assert found
    wrong = [
        f"{where}: {code} is answered as {status}, registered as {REGISTRY.get(code)}"
        for where, code, status in found
        if code not in REGISTRY or REGISTRY[code][0] != status
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS.values())
def test_each_kind_of_failure_has_a_registered_code(kind: type[errors.Fault]) -> None:
    assert REGISTRY[kind.code][0] == status_of(kind)


def test_the_frameworks_refusals_have_registered_codes() -> None:
    for status, code in problems._CODES.items():
        assert REGISTRY[code][0] == status


def test_every_code_is_a_slug_with_a_sentence() -> None:
    for code, (status, sentence) in REGISTRY.items():
        assert code.replace("_", "").isalpha()
        assert code.islower()
        assert 400 <= status < 600
        assert sentence.endswith(".")
