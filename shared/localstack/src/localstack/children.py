"""Processes that are kept alive: a dead one comes back, at once or, if it keeps dying, later.

`Child.run_once()` is one look; whoever owns the child looks several times a second. A pid file
says who it is now.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chassis.kernel import backoff
from localstack.servers import process
from localstack.servers.errors import ServerError

# Full jitter: the first return waits under a second, later ones up to half a minute.
RESTART_BASE_S = 1.0
RESTART_MAX_S = 30.0
STEADY_S = 60.0


class Startable(Protocol):
    """What a child needs of the thing that it keeps alive: a private server, or a program."""

    def start(self) -> object: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    @property
    def pid(self) -> int: ...
    @property
    def is_running(self) -> bool: ...


class Program:
    """A command in a session of its own that is asked to end by SIGTERM."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.argv = argv
        self.log = log
        self._env = env
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._popen = process.spawn(self.argv, env=self._env, log=self.log)

    @property
    def pid(self) -> int:
        if self._popen is None:
            raise ServerError(f"{self.argv} was never started")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self.code is None and self._popen is not None

    @property
    def code(self) -> int | None:
        """How it ended; negative by a signal; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def stop(self) -> None:
        """Only asks; also a frozen one."""
        if self._popen is not None and self.is_running:
            self._popen.terminate()
            self._popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._popen is not None and self.is_running:
            process.kill_tree(self.pid)
            self._popen.wait(5)


class Child:
    """`say` is told of every death and return."""

    def __init__(
        self,
        name: str,
        server: Startable,
        *,
        pid_file: Path,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.server = server
        self.restarts = 0
        self._pid_file = pid_file
        self._say = say
        self._clock = clock
        self._failures = 0
        self._started_at = 0.0
        self._restart_at: float | None = None
        self._is_wanted = False

    @property
    def is_running(self) -> bool:
        return self.server.is_running

    def start(self) -> None:
        self._is_wanted = True
        self.server.start()
        self._started_at = self._clock()
        self._restart_at = None
        write_pid(self._pid_file, self.server.pid)

    def run_once(self) -> None:
        """Notice a death, and start again when the pause is over."""
        if not self._is_wanted:
            return
        now = self._clock()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._restart()
        elif not self.server.is_running:
            self._pause("ended")
        elif now - self._started_at >= STEADY_S:
            self._failures = 0

    def stop(self) -> None:
        """Ask it to end, and want it no more."""
        self._is_wanted = False
        self.server.stop()

    def kill(self) -> None:
        self._is_wanted = False
        self.server.kill()

    def forget(self) -> None:
        """It has ended for good."""
        self._pid_file.unlink(missing_ok=True)

    def _restart(self) -> None:
        try:
            self.start()
        except (ServerError, OSError) as error:
            self._pause(f"cannot start: {error}")
            return
        self.restarts += 1
        self._say(f"{self.name} is back, pid {self.server.pid}")

    def _pause(self, why: str) -> None:
        self._pid_file.unlink(missing_ok=True)
        self._failures += 1
        pause_s = backoff.delay_s(
            self._failures, base_s=RESTART_BASE_S, max_s=RESTART_MAX_S, jitter=1.0
        )
        self._restart_at = self._clock() + pause_s
        self._say(f"{self.name} {why}; starting again in {pause_s:.1f} s")


def write_pid(path: Path, pid: int) -> None:
    """Whole or not at all: others read it at any time."""
    scratch = path.with_suffix(".new")
    scratch.write_text(f"{pid}\n")
    scratch.replace(path)
