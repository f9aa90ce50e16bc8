"""A process from its start to its exit code, as the system sees it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio

from localstack.servers import ports
from testkit.signals import eventually

SERVICE = Path(__file__).with_name("service.py")


class Small:
    """The service of `service.py`, as a child."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.port, self.ops_port = ports.free_port(), ports.free_port()
        self.process: asyncio.subprocess.Process | None = None
        self.http = aiohttp.ClientSession()

    async def start(self, what: str = "well", **environ: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(SERVICE), what,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ,
                "JOURNAL": str(self.journal),
                "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x",
                "SERVICE_KEY": "hunter2",
                "SERVICE_KEYS_DIR": "/none",
                "PORT": str(self.port),
                "OPS_PORT": str(self.ops_port),
                **environ,
            },
        )  # fmt: skip

    async def ready(self) -> bool:
        return await self.status(self.ops_port, "/readyz") == 200

    async def status(self, port: int, path: str) -> int:
        try:
            async with self.http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Exit code, and everything it said."""
        assert self.process is not None
        async with asyncio.timeout(15):
            said, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    async def close(self) -> None:
        await self.http.close()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


@pytest_asyncio.fixture
async def small(tmp_path: Path) -> AsyncIterator[Small]:
    made = Small(tmp_path)
    yield made
    await made.close()


async def test_opens_in_order_drains_and_closes_in_reverse_with_code_0(small: Small) -> None:
    await small.start()
    await eventually(small.ready, within_s=10)
    running = asyncio.create_task(small.status(small.port, "/slow"))
    await eventually(lambda: "slow begins" in small.lines())
    small.tell()
    assert await running == 200, "what had begun is finished"
    code, said = await small.ended()
    assert code == 0
    assert small.lines() == [
        "open first", "open second", "slow begins", "slow ends", "close second", "close first",
    ]  # fmt: skip
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert events == ["starting", "ready", "stopping", "stopped"]
    assert "hunter2" not in said


async def test_goes_unready_before_it_stops_answering(small: Small) -> None:
    await small.start(UNREADY_S="3")
    await eventually(small.ready, within_s=10)
    small.tell(signal.SIGINT)

    async def unready() -> bool:
        return await small.status(small.ops_port, "/readyz") == 503

    await eventually(unready)
    assert await small.status(small.port, "/slow") == 200
    assert "close second" not in small.lines()


async def test_a_task_that_ends_by_itself_ends_the_process_with_code_1(small: Small) -> None:
    await small.start("task")
    code, said = await small.ended()
    assert code == 1
    assert small.lines()[-2:] == ["close second", "close first"]
    assert '"event":"task_ended"' in said


async def test_what_refuses_to_end_does_not_keep_the_process(small: Small) -> None:
    await small.start("stubborn")
    await eventually(small.ready)
    small.tell()
    code, said = await small.ended()
    assert code == 0
    assert small.lines()[-3:] == ["close second", "close first", "never"]
    assert '"tasks":["refuses"]' in said


async def test_a_resource_that_cannot_be_opened_closes_those_before_it(small: Small) -> None:
    await small.start("second")
    code, said = await small.ended()
    assert code == 1
    assert small.lines() == ["open first", "close first"]
    assert "second cannot be opened" in said


async def test_a_taken_port_closes_what_was_opened(small: Small) -> None:
    async with await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", small.port):
        await small.start()
        code, _ = await small.ended()
    assert code == 1
    assert small.lines() == ["open first", "open second", "close second", "close first"]


async def test_a_worker_opens_the_ops_port_alone(small: Small) -> None:
    await small.start("worker")
    await eventually(small.ready, within_s=10)
    assert await small.status(small.port, "/slow") == 0
    small.tell()
    assert (await small.ended())[0] == 0


async def test_ends_when_its_parent_has_gone(small: Small) -> None:
    await small.start(MAINSTAY_PARENT_PID="1")
    code, _ = await small.ended()
    assert code == 0
    assert small.lines()[-1] == "close first"
