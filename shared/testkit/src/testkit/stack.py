"""The whole stack in processes of its own, as `make serve` runs it, and its bad days."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from localstack import plan
from localstack.servers import ports, process
from mainstay.client import Client

READY_WITHIN_S = 90.0
END_WITHIN_S = 40.0
OFFSETS = (0, 1, 2, 3, plan.POSTGRES_OFFSET, plan.SANDBOX_OFFSET, *range(100, 105))


def free_port_base() -> int:
    """A base from which every port that a stack needs is free now."""
    for _ in range(200):
        base = random.randrange(12_000, 30_000, 200)
        if all(ports.is_free(base + offset) for offset in OFFSETS):
            return base
    raise OSError("no free range of ports")


class StackProcess:
    """`with StackProcess(home) as stack`: `verb` is run, serve or demo; `environ` is added."""

    def __init__(
        self,
        home: Path,
        *,
        verb: str = "serve",
        environ: Mapping[str, str] | None = None,
        port_base: int | None = None,
    ) -> None:
        self.home = home
        self.port_base = port_base or free_port_base()
        self.output = home.with_name(f"{home.name}.out")
        self._verb = verb
        self._environ = {
            **os.environ,
            "MAINSTAY_HOME": str(home),
            "MAINSTAY_PORT_BASE": str(self.port_base),
            **(environ or {}),
        }
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.port_base}"

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.port_base + plan.SANDBOX_OFFSET}"

    @property
    def admin_key(self) -> str:
        return (self.home / "admin.key").read_text().strip()

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def client(self, **options: Any) -> Client:
        return Client(self.gateway_url, self.admin_key, **options)

    def session(self) -> aiohttp.ClientSession:
        """Raw HTTP to the gateway with the admin key."""
        return aiohttp.ClientSession(
            base_url=self.gateway_url, headers={"Authorization": f"Bearer {self.admin_key}"}
        )

    async def metrics(self, name: str) -> str:
        """What a process exposes now."""
        (port,) = [each.ops_port for each in plan.PROCESSES if each.name == name]
        url = f"http://127.0.0.1:{self.port_base + port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    def pid(self, name: str) -> int:
        """Of one of the processes; raises FileNotFoundError while it is dead."""
        return int((self.home / "run" / f"{name}.pid").read_text())

    def kill(self, name: str) -> int:
        """kill -9; the pid it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def freeze(self, name: str) -> None:
        process.freeze(self.pid(name))

    def thaw(self, name: str) -> None:
        process.thaw(self.pid(name))

    def is_back(self, name: str, old_pid: int) -> bool:
        """Does a new process of this name run?"""
        try:
            pid = self.pid(name)
        except (FileNotFoundError, ValueError):
            return False
        return pid != old_pid and process.is_alive(pid)

    def start(self) -> Self:
        """Return once it serves, or raise with what it printed."""
        self.launch()
        return self.wait_for(r"serving on http")

    def launch(self) -> None:
        with self.output.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "localstack", self._verb],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, pattern: str, *, within_s: float = READY_WITHIN_S) -> Self:
        popen = self._running()
        process.wait_until(
            lambda: bool(re.search(pattern, self.printed)) or popen.poll() is not None,
            within_s=within_s,
        )
        if not re.search(pattern, self.printed):
            raise AssertionError(f"the stack did not say {pattern!r}:\n{self.printed[-4000:]}")
        return self

    def wait(self, *, within_s: float) -> int:
        """Its exit code when it has ended by itself."""
        return self._running().wait(within_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        popen = self._running()
        if popen.poll() is None:
            popen.send_signal(number)
        return popen.wait(END_WITHIN_S)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._popen is not None and self._popen.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                process.kill_tree(self._popen.pid)
                self._popen.wait(5)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError("the stack was never started")
        return self._popen
