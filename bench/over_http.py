"""The running stack: what it costs to accept a job over HTTP, and the memory of idle processes."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench import load, ours, stack
from localstack.servers import ports, process

CONNECTIONS = 50


def http(running: stack.Running, *, seconds: float, scratch: Path) -> None:
    """A pull queue that nobody pulls from: only what it costs to accept a job is measured."""
    asyncio.run(_add_queue(running))

    def post(url: str, token: str = "") -> load.Rate:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return load.http(
            url, headers=headers, seconds=seconds, connections=CONNECTIONS, scratch=scratch
        )

    table = load.Table()
    with bare_server() as (url, _pid):
        limit = post(url)
    table.line("POST /v1/jobs, queue-service",
               post(f"{running.queue_url}/v1/jobs", running.service_token()), limit)  # fmt: skip
    table.line("POST /v1/jobs, through gateway",
               post(f"{running.gateway_url}/v1/jobs", running.admin_key), limit)  # fmt: skip


def memory(running: stack.Running) -> None:
    print("\nidle memory (PSS)", flush=True)
    for name, megabytes in running.memory_mb().items():
        print(f"  {name:20}{megabytes:8.1f} MB", flush=True)


@contextmanager
def bare_server(answer: Any = None, scratch: Path | None = None) -> Iterator[tuple[str, int]]:
    """Its URL and process; it accepts jobs, or answers what is given."""
    port = ports.free_port()
    argv = [sys.executable, "-m", "bench.bare_http", str(port)]
    if scratch is not None:
        said = scratch / "answer.json"
        said.write_bytes(orjson.dumps(answer))
        argv.append(str(said))
    with subprocess.Popen(argv) as child:
        try:
            process.wait_until(lambda: not ports.is_free(port), within_s=10)
            yield f"http://127.0.0.1:{port}/v1/jobs", child.pid
        finally:
            child.terminate()


async def _add_queue(running: stack.Running) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"{running.gateway_url}/v1/queues/{ours.QUEUE}",
            json={"served_by": "pull"},
            headers={"Authorization": f"Bearer {running.admin_key}"},
        ) as answer,
    ):
        if answer.status >= 300:
            raise load.LoadError(f"PUT queue: {answer.status} {(await answer.text())[:300]}")
