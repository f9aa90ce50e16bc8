"""Installs the peers by name and version, where nothing of ours can see them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.contestants import PEERS, Contestant, node_of, python_of
from testkit import node

INSTALL_TIMEOUT_S = 600


class PeersError(Exception):
    """What could not be installed, in the installer's own words."""


def wanted(names: Sequence[str]) -> list[Contestant]:
    """Those whose name begins so; all of them without names. Node's only where there is Node."""
    chosen = [
        peer
        for peer in PEERS
        if not names or any(peer.name.lower().startswith(name.lower()) for name in names)
    ]
    if shutil.which("node") and shutil.which("npm"):
        return chosen
    return [peer for peer in chosen if not peer.is_node]


def install(peers: Sequence[Contestant], scratch: Path) -> None:
    """Nothing to do where the same packages were installed before. Raises PeersError."""
    python = [package for peer in peers if not peer.is_node for package in peer.packages]
    packages = [package for peer in peers if peer.is_node for package in peer.packages]
    if python and _is_new(scratch / "venv.txt", python):
        _run([sys.executable, "-m", "venv", str(python_of(scratch).parents[1])])
        _run([str(python_of(scratch)), "-m", "pip", "install", "-q",
              "--disable-pip-version-check", *sorted(set(python))])  # fmt: skip
        _note(scratch / "venv.txt", python)
    install_node(packages, scratch)


def install_node(packages: Sequence[str], scratch: Path) -> None:
    """Into `node_of(scratch)`. Raises PeersError."""
    if packages and _is_new(scratch / "node.txt", packages):
        node_of(scratch).mkdir(parents=True, exist_ok=True)
        _run([*node.find().npm, "install", "--no-audit", "--no-fund", "--loglevel=error",
              "--prefix", str(node_of(scratch)), *sorted(set(packages))])  # fmt: skip
        _note(scratch / "node.txt", packages)


def _is_new(noted: Path, packages: Sequence[str]) -> bool:
    return not noted.exists() or not set(packages) <= set(noted.read_text().splitlines())


def _note(noted: Path, packages: Sequence[str]) -> None:
    before = noted.read_text().splitlines() if noted.exists() else []
    noted.write_text("\n".join(sorted({*before, *packages})) + "\n")


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
    )
    if done.returncode:
        raise PeersError(f"{' '.join(argv[:4])} …: {(done.stderr or done.stdout)[-600:]}")
