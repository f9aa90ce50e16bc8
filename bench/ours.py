"""queue-service's own engine in this process, without HTTP: the same code that its app wires."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import queue_service
from chassis import migrate, postgres
from chassis.kernel import ids
from queue_service.core.attempts import Settlement, Verb
from queue_service.core.leasing import Claim
from queue_service.store import engine
from queue_service.store.pulse import PostgresPulse

QUEUE = "bench"
MIGRATIONS = Path(queue_service.__file__).parent / "store" / "migrations"
CLAIM, LANES = 500, 500


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[postgres.Database]:
    """As the api opens it."""
    opened = await postgres.open_database(dsn, size=8, application="bench")
    try:
        yield opened
    finally:
        await opened.close()


async def prepare(dsn: str, *, concurrency: int) -> None:
    await migrate.migrate(dsn, MIGRATIONS)
    async with database(dsn) as opened:
        await opened.execute(
            "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry)"
            " values ($1, 'worker', $2, 5, 30, $3)",
            QUEUE,
            concurrency,
            {"base_s": 5, "factor": 2, "max_s": 3600, "jitter": 0.5},
        )


async def drain(dsn: str) -> int:
    """Claim and settle everything that is ready, as fenced and fair as a worker; how many."""
    worker = ids.new_id()
    await _register(dsn, worker)
    opened = await postgres.open_database(
        dsn, size=4, application="bench", settings=engine.SETTINGS
    )
    try:
        return await _drain(engine.EngineStore(opened), worker)
    finally:
        await opened.close()


async def _drain(store: engine.EngineStore, worker: UUID) -> int:
    """Settling the last jobs and claiming the next are one statement, as in the worker."""
    outcomes: list[Settlement] = []
    settled = 0
    while True:
        statuses, jobs, dry = await store.settle_and_claim(
            outcomes, Claim(QUEUE, worker, CLAIM, LANES)
        )
        settled += len(statuses)
        outcomes = [
            Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.COMPLETED, result={})
            for job in jobs
        ]
        if not jobs and not await store.wake(dry):
            return settled


async def _register(dsn: str, worker: UUID) -> None:
    pulse = PostgresPulse(dsn)
    await pulse.register(worker, "bench")
    await pulse.close()
