"""Redis, then RabbitMQ, die in the middle: no 5xx on enqueue, nothing lost, nothing doubled."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from localstack.servers.rabbit import RabbitServer
from localstack.servers.redis import RedisServer
from mainstay.client import new_id
from testkit.campaign import ChaosCampaign
from testkit.shared_servers import Run
from testkit.signals import eventually
from testkit.stack import StackProcess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture
def stack(
    run: Run, private_redis: RedisServer, private_rabbit: RabbitServer
) -> Iterator[StackProcess]:
    environ = {"REDIS_URL": private_redis.url, "AMQP_URL": private_rabbit.url}
    with StackProcess(run.folder / "accelerated", environ=environ) as serving:
        yield serving


@dataclass
class Enqueuer:
    """Enqueues without end, one at a time, and remembers every answer."""

    stack: StackProcess
    statuses: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with self.stack.session() as session:
            while not self.stopping.is_set():
                job_id = str(new_id())
                body = {"id": job_id, "kind": "campaign.report", "tags": ["steady"]}
                async with session.post("/v1/jobs", json=body) as answer:
                    self.statuses[answer.status] += 1
                    if answer.status < 300:
                        self.ids.append(job_id)


async def system(stack: StackProcess) -> dict[str, Any]:
    async with stack.session() as session, session.get("/v1/system") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def roads_are(stack: StackProcess, **roads: str) -> None:
    async def are() -> bool:
        told = (await system(stack))["roads"]
        assert {name: told[name] for name in roads} == roads
        return True

    await eventually(are, 15.0)


async def seen(stack: StackProcess, dependency: str, state: str) -> None:
    async def is_so() -> bool:
        return bool((await system(stack))["dependencies"][dependency] == state)

    await eventually(is_so, 15.0)


async def test_redis_then_rabbitmq_die_under_load(
    stack: StackProcess, private_redis: RedisServer, private_rabbit: RabbitServer
) -> None:
    await seen(stack, "redis", "up")
    await seen(stack, "rabbitmq", "up")
    await roads_are(stack, limits="redis", cache="redis", enqueue="direct")
    enqueuer = Enqueuer(stack)
    running = asyncio.create_task(enqueuer.run())
    async with stack.client() as client:
        campaign = ChaosCampaign(stack, client, recipients=1000)
        await campaign.start(segments_per_s=150)
        await campaign.reach(150)
        private_redis.kill()
        await seen(stack, "redis", "down")
        await roads_are(stack, limits="postgres", cache="memory", enqueue="direct")
        await campaign.reach(400)
        private_rabbit.kill()
        await seen(stack, "rabbitmq", "down")
        result = await campaign.finish()
        enqueuer.stopping.set()
        await running
        result.check()
        assert result.batch.failed == 0
        assert set(enqueuer.statuses) <= {201, 202}, enqueuer.statuses
        assert len(enqueuer.ids) > 100
        for job_id in enqueuer.ids[:: max(1, len(enqueuer.ids) // 50)]:

            async def is_completed(job_id: str = job_id) -> bool:
                return (await client.get_job(job_id)).state == "completed"

            await eventually(is_completed, 30.0)
