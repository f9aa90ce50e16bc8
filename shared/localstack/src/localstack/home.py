"""The home of one stack: what it keeps between runs, and the lock that says it is in use.

Of secrets it holds the admin key, the keys that seal and the service keys, each for its owner's
eyes alone; every other secret reaches the processes by their environment and is new at each start.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from chassis import crypto
from localstack.servers import process

ROOT = Path(__file__).resolve().parents[4]
SHARED_TEMPORARY = Path("/var/tmp")  # noqa: S108 - its folder is refused unless it is ours
LEFT_OVER_S = 12.0


class HomeError(Exception):
    """The home cannot be used; the text says why and what to do."""


def default() -> Path:
    """In the checkout; for root where the account that runs Postgres can go as well."""
    if os.getuid() != 0:
        return ROOT / ".mainstay"
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    return SHARED_TEMPORARY / f"mainstay-{os.getuid()}" / checkout


class Home:
    """`open()` makes what is missing and takes the lock; `close()` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        self.keys = self.path / "keys"
        self.public_keys = self.keys / "public"
        self.postgres = self.path / "postgres"
        self.sandbox_messages = self.path / "sandbox" / "messages.ndjson"
        self.admin_key_file = self.path / "admin.key"
        self.session_keys_file = self.keys / "session.keys"
        self.queue_keys_file = self.keys / "queue.keys"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        self._make_folders()
        self._take_lock()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def admin_key(self, given: str | None) -> str:
        """The key given, which from now on is the home's; else the home's, made at the first."""
        if given is not None:
            _write_secret(self.admin_key_file, given)
        elif not self.admin_key_file.exists():
            _write_secret(self.admin_key_file, secrets.token_hex(32))
        return self.admin_key_file.read_text().strip()

    def ensure_keys(self, services: Iterable[str]) -> None:
        """A signing pair per service, and the keys that seal: made once."""
        for service in services:
            private, public = self.service_key(service), self.public_keys / f"{service}.pub"
            if not (private.exists() and public.exists()):
                private_pem, public_pem = crypto.new_service_key()
                _write_secret(private, private_pem)
                public.write_text(public_pem)
        for path in (self.session_keys_file, self.queue_keys_file):
            if not path.exists():
                _write_secret(path, f"k1:{crypto.new_key()}")

    def service_key(self, service: str) -> Path:
        return self.keys / f"{service}.pem"

    def pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def end_left_over(self, commands: dict[str, str]) -> list[str]:
        """Children of a runner that was killed get the time to end by themselves, then are ended.

        `commands`: process → what its command line holds, since a pid may by now be another's.
        """
        found = [
            (name, pid)
            for name, command in commands.items()
            if (pid := _pid_in(self.pid_file(name))) and command in process.command_line(pid)
        ]
        process.wait_until(
            lambda: not any(process.is_alive(pid) for _, pid in found), within_s=LEFT_OVER_S
        )
        for _, pid in found:
            if process.is_alive(pid):
                process.kill_tree(pid)
        for name in commands:
            self.pid_file(name).unlink(missing_ok=True)
        return [name for name, _ in found]

    def _make_folders(self) -> None:
        try:
            _make_ours(self.path)
            for folder in (self.logs, self.run, self.keys, self.sandbox_messages.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.public_keys.mkdir(exist_ok=True)
            self.postgres.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"cannot use {self.path}: {error.strerror}; set MAINSTAY_HOME to a folder of yours"
            ) from error

    def _take_lock(self) -> None:
        """The lock, not the file, says that we run: it ends with our process however that ends."""
        path = self.path / "lock"
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _pid_in(path) or "unknown"
            lock.close()
            raise HomeError(
                f"{self.path} is in use by a stack that runs (pid {owner}): stop it first,"
                " or set another MAINSTAY_HOME and MAINSTAY_PORT_BASE"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock


def _make_ours(path: Path) -> None:
    """Where everybody may write, somebody else may have been there first."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    shared = SHARED_TEMPORARY / f"mainstay-{os.getuid()}"
    for each in (path, *path.parents):
        if each in (path, shared) and each.stat().st_uid not in {os.getuid(), 0}:
            raise HomeError(f"{each} belongs to somebody else: set another MAINSTAY_HOME")


def _write_secret(path: Path, text: str) -> None:
    """Readable for its owner alone from its first moment on, and never half-written."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text.rstrip("\n") + "\n")
    scratch.replace(path)


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
