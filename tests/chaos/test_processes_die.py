"""Processes are killed and frozen under a campaign: nobody is forgotten, nobody is told twice."""

import asyncio
from collections.abc import Iterator
from functools import partial
from uuid import UUID

import pytest

from mainstay import errors
from mainstay.client import new_id
from testkit.campaign import ChaosCampaign, patiently
from testkit.shared_servers import Run
from testkit.signals import eventually
from testkit.stack import StackProcess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

VICTIMS = ("queue-worker", "queue-service", "session-service", "ratelimit-service", "gateway")
BACK_WITHIN_S = 10.0


@pytest.fixture
def stack(run: Run, request: pytest.FixtureRequest) -> Iterator[StackProcess]:
    with StackProcess(run.folder / request.node.name) as serving:
        yield serving


async def test_each_process_is_killed_in_turn_under_a_campaign_of_3000(
    stack: StackProcess,
) -> None:
    async with stack.client() as client:
        campaign = ChaosCampaign(stack, client, recipients=3000)
        await campaign.start(segments_per_s=300)
        for turn, victim in enumerate(VICTIMS, start=1):
            await campaign.reach(turn * 200)
            pid = stack.kill(victim)
            await eventually(partial(stack.is_back, victim, pid), BACK_WITHIN_S)
        result = await campaign.finish()
    result.check()
    assert result.batch.failed < 100


async def test_while_queue_service_is_frozen_jobs_are_accepted_and_become_one_each(
    stack: StackProcess,
) -> None:
    async with stack.client(attempts=1) as client:
        await patiently(lambda: client.enqueue("campaign.report", {"n": -1}))
        stack.freeze("queue-service")
        try:
            wanted = [new_id() for _ in range(40)]
            accepted = [
                await client.enqueue("campaign.report", {"n": n}, id=job_id, tags=["frozen"])
                for n, job_id in enumerate(wanted)
            ]
            assert {job.state for job in accepted} == {"accepted"}
            assert {job.road for job in accepted} <= {"bus", "spool"}
            waiting = await client.get_job(wanted[0])
            assert waiting.state == "accepted"
        finally:
            stack.thaw("queue-service")

        async def completed(job_id: UUID) -> bool:
            try:
                return (await client.get_job(job_id)).state == "completed"
            except errors.Unavailable:
                return False

        for job_id in wanted:
            await eventually(partial(completed, job_id), 60.0)
        page = await client.list_jobs(tag="frozen", limit=200)
        assert sorted(job.id for job in page.items) == sorted(wanted)


async def test_a_frozen_worker_wakes_up_and_repeats_nothing(stack: StackProcess) -> None:
    async with stack.client() as client:
        campaign = ChaosCampaign(stack, client, recipients=600)
        await campaign.start(segments_per_s=100)
        await campaign.reach(100)
        pid = stack.pid("queue-worker")
        stack.freeze("queue-worker")
        # Long enough to be declared dead and to lose every lease.
        await asyncio.to_thread(_outlive, 20.0)
        stack.thaw("queue-worker")
        result = await campaign.finish()
        assert stack.pid("queue-worker") == pid
    result.check()


def _outlive(seconds: float) -> None:
    """Time itself is what is waited for: the database must count it."""
    import threading

    threading.Event().wait(seconds)
