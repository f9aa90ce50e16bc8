"""Redis, the optional accelerator: tight time-outs, no retries, one circuit.

redis-py's own defaults (seconds of time-out, ten retries) would turn a dead accelerator into a slow
service, so none of them is kept. `Accelerator.call` either answers within its budget or returns
`Absent`; what Redis says is never the record.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

import redis.asyncio as driver
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, RedisError

from chassis import logs
from chassis.kernel import breaker

log = logs.get(__name__)

T = TypeVar("T")
BUDGET_S = 0.04
CONNECT_S = 0.1
POLICY = breaker.Policy(
    failures_to_open=3, hold_base_s=0.25, hold_max_s=5.0, trials=3, ramp_s=1.0, first_share=0.25
)


class Presence(StrEnum):
    ABSENT = "absent"
    UP = "up"
    DOWN = "down"


class Missed(Exception):
    """Redis is absent, shut off, slow or failing: go on without it."""


def connect(url: str, *, max_connections: int = 32) -> driver.Redis:
    client: driver.Redis = driver.Redis.from_url(
        url,
        # The budget of each call bounds it. A time-out of the driver's own goes through `wait_for`,
        # which in Python 3.11 loses a cancellation that meets a write.
        socket_timeout=None,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
        max_connections=max_connections,
        decode_responses=False,
    )
    return client


class Accelerator:
    """A client behind a circuit. Every use goes through `call`."""

    def __init__(
        self,
        client: driver.Redis | None,
        *,
        on_change: Callable[[str, breaker.State], None] | None = None,
    ) -> None:
        self.client = client
        self.breaker = breaker.Breaker(
            "redis",
            monotonic=time.monotonic,
            policy=POLICY,
            on_change=on_change or _log_change,
        )

    async def call(
        self, work: Callable[[driver.Redis], Awaitable[T]], *, budget_s: float = BUDGET_S
    ) -> T:
        """The result, or Missed. A call that was cut off may still have happened in Redis."""
        ticket = self.breaker.admit() if self.client is not None else None
        if self.client is None or ticket is None:
            raise Missed
        try:
            async with asyncio.timeout(budget_s):
                result = await work(self.client)
        except MaxConnectionsError as error:
            self.breaker.ignore(ticket)  # our own crowd, which says nothing about Redis
            raise Missed(type(error).__name__) from error
        except (RedisError, OSError, TimeoutError) as error:
            self.breaker.failure(ticket)
            raise Missed(type(error).__name__) from error
        except BaseException:
            self.breaker.ignore(ticket)
            raise
        self.breaker.success(ticket)
        return result

    def presence(self) -> Presence:
        if self.client is None:
            return Presence.ABSENT
        return Presence.UP if self.breaker.state is breaker.State.CLOSED else Presence.DOWN

    async def probe(self) -> Presence:
        """Ask once, so that an idle process also notices a death and a return."""
        await self.answers()
        return self.presence()

    async def answers(self) -> bool:
        """Ask once."""
        try:
            await self.call(_ping)
        except Missed:
            return False
        return True

    async def close(self) -> None:
        if self.client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self.client.aclose()
            except (TimeoutError, RedisError, OSError):
                log.info("redis_close_failed")


async def _ping(client: Any) -> None:
    await client.ping()


def _log_change(name: str, state: breaker.State) -> None:
    log.warning("circuit_changed", upstream=name, state=state)
