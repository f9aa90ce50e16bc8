"""A private PostgreSQL, durable by default, with its data in a folder of its own.

Run by root it drops to an account that owns the data. The superuser's password is new at every
start and never on disk. A server left over by a runner that was killed is ended by its pid.
"""

import json
import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from localstack.servers import postgres_binaries, process
from localstack.servers.errors import ServerError
from localstack.servers.server import Server

SUPERUSER = "mainstay"
ACCOUNTS = ("postgres", "nobody")
SSL_REQUEST = struct.pack(">II", 8, 80877103)
INITDB_TIMEOUT_S = 60
READY_LINE = 7  # of postmaster.pid
SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "96MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %a ",
}
# For tests: a crash of the process still loses nothing, a crash of the machine may.
FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer(Server):
    """`url` is the superuser's DSN on database `postgres`."""

    name: ClassVar[str] = "postgres"
    start_within_s: ClassVar[float] = 60.0
    # SIGINT: fast, ends clients' connections; SIGQUIT: at once, recovers at the next start.
    stopping: ClassVar[tuple[tuple[signal.Signals, float], ...]] = (
        (signal.SIGINT, 15.0),
        (signal.SIGQUIT, 5.0),
    )
    at_our_death: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        bind: str = "127.0.0.1",
        binaries: postgres_binaries.Binaries | None = None,
        durable: bool = True,
        settings: dict[str, str] | None = None,
    ) -> None:
        super().__init__(home, port=port, bind=bind)
        self.data = self.home / "data"
        self.password = secrets.token_urlsafe(24)
        self._binaries = binaries
        self._account: str | None = None
        self._durable = durable
        self._settings = {**SETTINGS, **({} if durable else FORGETFUL), **(settings or {})}
        self._password_is_set = False

    @property
    def binaries(self) -> postgres_binaries.Binaries:
        """Chosen at the first start, and kept for the data's life."""
        if self._binaries is None:
            self._binaries = postgres_binaries.find()
        return self._binaries

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@{self.bind}:{self.port}/{database}"

    def answers(self) -> bool:
        """Ready by its own word, and picks up the phone."""
        status = _pid_file(self.data)
        is_ready = len(status) > READY_LINE and status[READY_LINE].strip() == "ready"
        return is_ready and self._exchange(SSL_REQUEST) in {b"N", b"S"}

    def _prepare(self) -> None:
        self._account = self._choose_account()
        self._refuse_other_version()
        self._refuse_unreachable_home()
        self._binaries = self._reachable_binaries()
        self._end_left_over()
        if not self.data.exists():
            self._initialise()
        if not self._password_is_set:
            self._set_password()

    def _choose_account(self) -> str | None:
        if os.getuid() == 0 and self.data.exists() and self.data.stat().st_uid != 0:
            return self.data.owner()
        return process.account_for(*ACCOUNTS)

    @property
    def _origin(self) -> Path:
        return self.home / "origin.json"

    def _refuse_other_version(self) -> None:
        """Data of one major version cannot be read by another."""
        version = self.data / "PG_VERSION"
        if not version.exists():
            return
        major = int(version.read_text().split(".")[0])
        if major == self.binaries.major:
            return
        made_by = json.loads(self._origin.read_text()) if self._origin.exists() else {}
        raise ServerError(
            f"the data in {self.data} were made by PostgreSQL {major}"
            f" ({made_by.get('bindir', 'unknown')}), but {self.binaries.bindir} is"
            f" {self.binaries.major}: set PG_BINDIR to a PostgreSQL {major},"
            " or choose another MAINSTAY_HOME"
        )

    def _refuse_unreachable_home(self) -> None:
        if shut := self._first_shut(self.home):
            raise ServerError(
                f"account {self._account!r}, which runs PostgreSQL for root, cannot enter {shut}:"
                " choose a MAINSTAY_HOME below folders that everybody may enter, such as /var/tmp"
            )

    def _first_shut(self, directory: Path) -> str | None:
        """The first folder on the way to `directory` that our account cannot enter."""
        if self._account is None:
            return None
        way = [str(each) for each in (*reversed(directory.parents), directory)]
        script = 'for d; do [ -x "$d" ] || { printf %s "$d"; exit; }; done'
        asked = self._as_account("/bin/sh", "-c", script, "sh", *way)
        return asked.stdout.decode() or None

    def _reachable_binaries(self) -> postgres_binaries.Binaries:
        chosen = self.binaries
        if self._first_shut(chosen.bindir) is None:
            return chosen
        if chosen.source != "wheel":
            raise ServerError(f"account {self._account!r} cannot enter {chosen.bindir}")
        shared = Path("/var/tmp") / f"mainstay-{os.getuid()}" / "pg"  # noqa: S108
        return postgres_binaries.reachable_copy(chosen, shared)

    def _as_account(
        self, *argv: str, stdin: bytes = b"", timeout_s: float = INITDB_TIMEOUT_S
    ) -> subprocess.CompletedProcess[bytes]:
        identity: dict[str, Any] = {}
        if self._account is not None:
            identity = {"user": self._account, "group": _group(self._account), "extra_groups": []}
        return subprocess.run(
            argv, input=stdin, capture_output=True, timeout=timeout_s, check=False, cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}, **identity,
        )  # fmt: skip

    def _end_left_over(self) -> None:
        lines = _pid_file(self.data)
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        if pid and process.is_alive(pid) and str(self.data) in process.command_line(pid):
            process.thaw(pid)
            process.end(pid, *self.stopping)

    def _initialise(self) -> None:
        """Beside, then renamed: a start that is interrupted leaves no half-made data."""
        scratch = self.home / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        self._give(scratch)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        if not self._durable:
            options.append("--no-sync")
        with _secret_file(self.home / "password.new", self.password) as password_file:
            self._give(password_file)
            done = self._as_account(
                self.binaries.program("initdb"), "-D", str(scratch), "-U", SUPERUSER,
                f"--pwfile={password_file}", *options,
            )  # fmt: skip
        if done.returncode:
            raise ServerError(f"initdb failed: {(done.stderr or done.stdout).decode()[-800:]}")
        origin = {"major": self.binaries.major, "bindir": str(self.binaries.bindir)}
        self._origin.write_text(json.dumps(origin) + "\n")
        scratch.rename(self.data)
        self._password_is_set = True

    def _give(self, path: Path) -> None:
        if self._account is not None:
            shutil.chown(path, self._account, _group(self._account))

    def _set_password(self) -> None:
        """In single-user mode, which also recovers what a crash left behind."""
        sql = f"alter role {SUPERUSER} password '{self.password}'\n"
        options = [word for each in self._options() for word in ("-c", each)]
        done = self._as_account(
            self.binaries.program("postgres"), "--single", "-D", str(self.data), *options,
            "postgres", stdin=sql.encode(),
        )  # fmt: skip
        if done.returncode or b"ERROR" in done.stderr:
            raise ServerError(f"cannot open {self.data}: {done.stderr.decode()[-800:]}")
        self._password_is_set = True

    def _options(self) -> list[str]:
        return [f"{name}={value}" for name, value in self._settings.items()]

    def _spawn(self) -> subprocess.Popen[bytes]:
        where = [f"listen_addresses={self.bind}", f"port={self.port}"]
        options = [word for each in (*where, *self._options()) for word in ("-c", each)]
        return process.spawn(
            [self.binaries.program("postgres"), "-D", str(self.data), *options],
            log=self.log,
            account=self._account,
            cwd=Path("/"),
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            at_our_death=self.at_our_death,
        )


@contextmanager
def _secret_file(path: Path, text: str) -> Iterator[Path]:
    """A file only its owner can read, there for as long as the `with`."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _group(account: str) -> int:
    return pwd.getpwnam(account).pw_gid


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
