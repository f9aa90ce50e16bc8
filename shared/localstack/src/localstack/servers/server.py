"""What every private server has in common: a home, a port, a pid, and how it is treated badly."""

import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from localstack.servers import ports, process
from localstack.servers.errors import ServerError


class Server(ABC):
    """`start()` returns when it answers, `stop()` when it has ended; both may be repeated.

    Data stay in `home` over stop, kill and restart; the port stays too.
    """

    name: ClassVar[str]
    start_within_s: ClassVar[float] = 20.0
    stopping: ClassVar[tuple[tuple[signal.Signals, float], ...]] = ((signal.SIGTERM, 10.0),)
    at_our_death: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, home: Path, *, port: int | None = None, bind: str = "127.0.0.1") -> None:
        self.home = home.resolve()
        self.bind = bind
        self.port = port or ports.free_port(bind)
        self.log = self.home / f"{self.name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise ServerError(f"{self.name} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> Self:
        if self.is_running:
            return self
        self.home.mkdir(parents=True, exist_ok=True)
        self._prepare()
        if not ports.is_free(self.port, self.bind):
            raise ServerError(f"{self.name}: port {self.port} on {self.bind} is taken")
        self._child = self._spawn()
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """End it in order; by force if it does not."""
        if self.is_running:
            process.thaw(self.pid)
            self._end(self.stopping)
        self._child = None

    def kill(self) -> None:
        """As a crash or the out-of-memory killer would: kill -9, children included."""
        process.kill_tree(self.pid)
        if self._child is not None:
            self._child.wait(5)
        self._child = None

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze: connections stay open, nothing answers."""
        process.freeze(self.pid)

    def resume(self) -> None:
        process.thaw(self.pid)

    def __getstate__(self) -> dict[str, object]:
        """A copy in another process knows addresses and credentials; the child stays with us."""
        return {**self.__dict__, "_child": None}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, credentials included."""

    @abstractmethod
    def answers(self) -> bool:
        """Does it speak its protocol now?"""

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]: ...

    def _prepare(self) -> None:  # noqa: B027 - Redis needs nothing
        """What must be so before every start."""

    def _wait_until_it_answers(self) -> None:
        up = process.wait_until(
            lambda: not self.is_running or self.answers(), within_s=self.start_within_s
        )
        if up and self.is_running:
            return
        why = "does not answer" if self.is_running else "ended at once"
        said = process.tail(self.log)
        if self.is_running:
            self.kill()
        self._child = None
        raise ServerError(f"{self.name} {why}; the end of {self.log}:\n{said}")

    def _end(self, signals: tuple[tuple[signal.Signals, float], ...]) -> None:
        child = self._child
        if child is None:
            return
        for sent, within_s in signals:
            child.send_signal(sent)
            try:
                child.wait(within_s)
            except subprocess.TimeoutExpired:
                continue
            return
        self.kill()

    def _exchange(self, question: bytes, *, size: int = 64) -> bytes:
        """Say something on a fresh connection; what came back first, or nothing."""
        try:
            with socket.create_connection((self.bind, self.port), timeout=1) as connection:
                connection.sendall(question)
                return connection.recv(size)
        except OSError:
            return b""
