"""A campaign is read from a URL while its worker is killed: each row is one message."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from testkit.campaign import patiently, rows
from testkit.shared_servers import Run
from testkit.signals import eventually
from testkit.stack import StackProcess

pytestmark = [pytest.mark.chaos, pytest.mark.long, pytest.mark.timeout(240)]

ROWS = 20_000
# A third death by the same job would be taken for the job's own doing.
KILLED_AT = (1, 8_000)


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A list that answers no Range and has no ETag: all is read again, and passed over."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=rows(ROWS), content_type="text/csv")

    app = web.Application()
    app.router.add_get("/list.csv", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/list.csv"))


async def test_a_worker_killed_in_the_middle_of_a_list_loses_no_row_and_doubles_none(
    run: Run, request: pytest.FixtureRequest, url: str
) -> None:
    with StackProcess(run.folder / request.node.name[:40]) as stack:
        async with stack.client() as client:
            await patiently(lambda: client.put_queue("aside"))
            args = {
                "url": url,
                "message": {"body": "Hello {{ name }}"},
                "queue": "aside",
                "max_waiting": 1_000_000,
            }
            job = await patiently(lambda: client.enqueue("campaign.send", args, queue="campaign"))
            made = partial(client.cancel_jobs, dry_run=True, tag=f"campaign:{job.id}")

            async def are_made(count: int) -> bool:
                return await patiently(made) >= count

            for count in KILLED_AT:
                await eventually(partial(are_made, count), 60.0)
                pid = stack.kill("queue-worker")
                await eventually(partial(stack.is_back, "queue-worker", pid), 20.0)

            async def is_over() -> bool:
                state = (await patiently(lambda: client.get_job(job.id))).state
                assert state != "failed"
                return state == "completed"

            await eventually(is_over, 90.0)
            assert await made() == ROWS
            told = await client.get_job(job.id)
            assert (told.result["rows"], told.result["enqueued"]) == (ROWS, ROWS)
            assert told.attempt >= 2
