"""The servers one test run shares: at most one of each kind, started by whoever asks first.

Each is held by a keeper, a process which lives exactly as long as the run: it waits for the lock
that the run holds on `alive`, and the kernel gives up that lock however the run ends.
"""

import fcntl
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from localstack.servers import process
from localstack.servers.errors import ServerError
from localstack.servers.postgres import PostgresServer
from localstack.servers.rabbit import RabbitServer
from localstack.servers.redis import RedisServer
from localstack.servers.server import Server

START_WITHIN_S = 90.0
END_WITHIN_S = 30.0
S = TypeVar("S", bound=Server)


def postgres(home: Path) -> PostgresServer:
    return PostgresServer(home, durable=False)


def redis(home: Path) -> RedisServer:
    return RedisServer(home, keeps_data=False)


def rabbit(home: Path) -> RabbitServer:
    return RabbitServer(home)


KINDS = {"postgres": postgres, "redis": redis, "rabbit": rabbit}


@contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """One process at a time."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


class Run:
    """A folder for the run: locks, what keepers announce, homes of servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._alive: IO[str] | None = None

    @classmethod
    def begin(cls) -> "Run":
        run = cls(Path(tempfile.mkdtemp(prefix="mainstay-tests-")))
        run.folder.chmod(0o711)  # root's Postgres runs as somebody else and must get in
        run._alive = run.alive.open("a")
        fcntl.flock(run._alive, fcntl.LOCK_EX)
        return run

    @property
    def alive(self) -> Path:
        return self.folder / "alive"

    def announced(self, kind: str) -> Path:
        return self.folder / f"{kind}.server"

    def end(self) -> None:
        """Let go: the keepers stop their servers and go. Returns when they have."""
        if self._alive is None:
            return
        self._alive.close()
        process.wait_until(
            lambda: not any(self.announced(kind).exists() for kind in KINDS),
            within_s=END_WITHIN_S,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def postgres(self) -> PostgresServer:
        return cast(PostgresServer, self._shared("postgres"))

    def redis(self) -> RedisServer:
        return cast(RedisServer, self._shared("redis"))

    def rabbit(self) -> RabbitServer:
        return cast(RabbitServer, self._shared("rabbit"))

    def _shared(self, kind: str) -> Server:
        """Its addresses and controls; the process itself belongs to the keeper."""
        announced = self.announced(kind)
        with locked(self.folder / f"{kind}.lock"):
            if not announced.exists():
                self._start_keeper(kind)
        return cast(Server, pickle.loads(announced.read_bytes()))

    def _start_keeper(self, kind: str) -> None:
        log = self.folder / f"{kind}.keeper.log"
        output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "testkit.keeper", kind, str(self.folder)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), output, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        announced = self.announced(kind)
        process.wait_until(
            lambda: announced.exists() or not process.is_alive(pid), within_s=START_WITHIN_S
        )
        if not announced.exists():
            raise ServerError(f"no {kind} for the tests:\n{process.tail(log, 20)}")

    @contextmanager
    def private(self, make: type[S], **options: Any) -> Iterator[S]:
        """One for a single test, which may kill it."""
        home = Path(tempfile.mkdtemp(prefix="private-", dir=self.folder))
        home.chmod(0o711)
        if make is PostgresServer:
            options = {"durable": False, **options}
        server = make(home, **options)
        try:
            yield server.start()
        finally:
            if server.is_running:
                server.kill()
            else:
                server.stop()
            shutil.rmtree(home, ignore_errors=True)
