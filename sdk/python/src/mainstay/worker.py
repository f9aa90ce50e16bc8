"""A worker for a queue that is pulled: the same handlers, run by your own process.

    async with Client(base_url, api_key) as mainstay:
        await Worker(mainstay, "orders", [send]).run_until_signalled()

It leases as many jobs as it may run at once, keeps them by heartbeats, and settles what has ended
in the call that leases the next ones. A stop takes no new jobs, lets running ones end, and gives
back the rest. A worker that dies loses its leases, and somebody else gets its jobs.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp

from mainstay import errors, handler
from mainstay.answers import LeasedJob
from mainstay.attempts import LeaseLost, attempt
from mainstay.client import Client, LeaseNext, new_id
from mainstay.endings import plain, said_of, without_handler
from mainstay.handler import Completed, Handler
from mainstay.holds import Hold, PulledContext
from mainstay.sizes import MAX_PROGRESS_BYTES, size_of
from mainstay.threads import THREADS

log = logging.getLogger("mainstay.worker")

POLL_S = 20.0
PAUSE_S = 1.0
# A service remembers a lease call for 30 s.
SAME_CALL_S = 20.0
MAX_SETTLED = 500
# Of the time to drain; the rest is for those that have to be interrupted.
GRACE_SHARE = 0.8
# A body has a MiB at most.
MAX_BYTES = 900_000
MAX_RESULT_BYTES = MAX_BYTES - MAX_PROGRESS_BYTES - 20_000

_AWAY = (errors.Unavailable, errors.Limited)
_Ended = tuple[Hold, Mapping[str, Any]]
_AskFor = Callable[[int, float], Awaitable[Sequence[LeasedJob]]]


class Worker:
    """`run()` until `stop()`. Handlers run `concurrency` at a time; `lease_s` is how long a job
    stays with a worker that has died, `drain_s` bounds a stop.

    `outside` is what handlers get as `ctx.outside`. When `max_abandoned` threads of handlers have
    not ended with their jobs, the worker stops as if told to: let something start it anew.
    """

    def __init__(
        self,
        client: Client,
        queue: str,
        handlers: Iterable[Handler[Any]],
        *,
        concurrency: int = 10,
        lease_s: float = 60.0,
        drain_s: float = 15.0,
        name: str | None = None,
        environ: Mapping[str, str] | None = None,
        outside: aiohttp.ClientSession | None = None,
        max_abandoned: int = 20,
    ) -> None:
        if not 1 <= concurrency <= MAX_SETTLED:
            raise ValueError(f"concurrency lies between 1 and {MAX_SETTLED}")
        if not 3 <= lease_s <= 3600:
            raise ValueError("lease_s lies between 3 and 3600")
        self.queue = queue
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._client = client
        self._handlers = handler.registry(handlers)
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._drain_s = drain_s
        self._environ = os.environ if environ is None else environ
        self._outside = outside
        self._max_abandoned = max_abandoned
        self._holds: set[Hold] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[_Ended] = []
        self._asked = 0
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._news = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()
        self._freed.set()
        self._news.set()

    async def run_until_signalled(self) -> None:
        """SIGTERM or SIGINT stops it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def run(self) -> None:
        """Raises what no repeat can help: a wrong key, no such queue, one of the built-in worker's,
        or `handler.WrongSettings`."""
        for one in self._handlers.values():
            if one.check_settings is not None:
                one.check_settings(self._environ)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as self._http:
            leasing = asyncio.create_task(self._lease_forever(), name="lease")
            settling = asyncio.create_task(self._settle_forever(), name="settle")
            beating = asyncio.create_task(self._beat_forever(), name="beat")
            loops = (leasing, settling, beating)
            try:
                stopping = asyncio.create_task(self._stopping.wait())
                await asyncio.wait((*loops, stopping), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                self.stop()
                await self._drain(leasing, settling)
            finally:
                for task in (*loops, *self._tasks):
                    task.cancel()
                ends = await asyncio.gather(*loops, *self._tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _drain(self, leasing: asyncio.Task[None], settling: asyncio.Task[None]) -> None:
        grace_s = self._drain_s * GRACE_SHARE
        leasing.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        if late := set(self._tasks):
            log.warning("interrupting %d jobs", len(late))
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=1.0)
        await asyncio.wait((leasing, settling), timeout=self._drain_s - grace_s)

    async def _lease_forever(self) -> None:
        try:
            while not self._stopping.is_set():
                self._freed.clear()
                free = self._free()
                if free <= 0:
                    await self._freed.wait()
                else:
                    await self._lease(free)
        finally:
            self._news.set()

    async def _lease(self, free: int) -> None:
        self._asked += free
        began, request_id = self._clock(), str(new_id())

        async def ask(most: int, wait_s: float) -> Sequence[LeasedJob]:
            leased = await self._client.lease(
                self.queue,
                max=most,
                wait_s=wait_s,
                lease_s=self._lease_s,
                worker=self.name,
                request_id=request_id,
            )
            return leased.jobs

        try:
            # By our own clock a lease begins with the call: it must not be waited away.
            jobs = await self._answered(ask, free, min(POLL_S, self._lease_s / 3))
        except asyncio.CancelledError:
            # We may not have heard the answer: ask for the same again, and give it back.
            await self._give_back(await ask(1, 0.0))
            raise
        finally:
            self._asked -= free
        await self._begin(jobs, began)

    async def _answered(self, ask: _AskFor, most: int, wait_s: float) -> Sequence[LeasedJob]:
        """The same call again while it is remembered: its answer may have been lost."""
        began = self._clock()
        while True:
            try:
                return await ask(most, wait_s)
            except _AWAY as error:
                await self._pause("lease", error)
                if self._clock() - began > SAME_CALL_S:
                    return []

    async def _begin(self, jobs: Sequence[LeasedJob], began: float) -> None:
        """Start them, or give them back when we are stopping or it is late."""
        if self._stopping.is_set() or self._clock() > began + self._lease_s:
            await self._give_back(jobs)
            return
        for job in jobs:
            hold = Hold(job, began + self._lease_s)
            self._holds.add(hold)
            task = asyncio.create_task(self._work(hold), name=f"job:{job.id}")
            self._tasks.add(task)
            task.add_done_callback(self._task_gone)

    def _task_gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._news.set()

    async def _give_back(self, jobs: Sequence[LeasedJob]) -> None:
        """If that fails, they come back when their leases run out."""
        try:
            if jobs:
                await self._client.release(jobs)
        except _AWAY as error:
            log.warning("%d jobs are not given back: %s", len(jobs), error)

    async def _work(self, hold: Hold) -> None:
        try:
            said = await self._run(hold)
        except LeaseLost:
            said = None
        except asyncio.CancelledError:
            said = {**hold.job.held, "outcome": "release"}
        hold.is_running = False
        if said is None or hold.is_lost:
            log.warning("the lease of job %s was lost", hold.job.id)
            self._holds.discard(hold)
            self._freed.set()
            return
        if hold.progress is not None:
            said = {**said, "progress": hold.progress}
        self._ended.append((hold, said))
        self._news.set()

    async def _run(self, hold: Hold) -> dict[str, Any]:
        job = hold.job
        of = self._handlers.get(str(job.kind))
        if of is None:
            return without_handler(job)
        ctx = PulledContext(
            hold,
            of,
            client=self._client,
            http=self._http,
            environ=self._environ,
            clock=self._clock,
            outside=self._outside,
        )
        ended = await attempt(of, job.args, ctx)
        if THREADS.abandoned >= self._max_abandoned:
            log.error("%d threads have not ended with their jobs: stopping", THREADS.abandoned)
            self.stop()
        try:
            size_of(ended.result if isinstance(ended, Completed) else None, MAX_RESULT_BYTES)
        except (TypeError, ValueError) as error:
            return job.failed("bad_result", plain(str(error)), retryable=False)
        return said_of(job, ended)

    async def _settle_forever(self) -> None:
        while not (self._stopping.is_set() and self._is_done()):
            self._news.clear()
            if not self._ended:
                await self._news.wait()
                continue
            await self._settle(self._next_ended())

    def _next_ended(self) -> Sequence[_Ended]:
        """As many as one body holds."""
        size, count = 0, 0
        for hold, said in self._ended[:MAX_SETTLED]:
            size += size_of({**said, **hold.job.held, "id": ""}, MAX_BYTES)
            if count and size > MAX_BYTES:
                break
            count += 1
        ended, self._ended = self._ended[:count], self._ended[count:]
        return ended

    async def _settle(self, ended: Sequence[_Ended]) -> None:
        released = [hold.job for hold, said in ended if said["outcome"] == "release"]
        await self._give_back(released)
        rest = [(hold, said) for hold, said in ended if said["outcome"] != "release"]
        lease = self._next_lease()
        asked = lease["max"] if lease is not None else 0
        self._asked += asked
        began = self._clock()
        try:
            jobs = await self._tell(rest, lease) if rest else []
        finally:
            self._asked -= asked
        self._holds -= {hold for hold, _ in ended}
        await self._begin(jobs, began)
        self._freed.set()

    async def _tell(self, ended: Sequence[_Ended], lease: LeaseNext | None) -> Sequence[LeasedJob]:
        """Until it is answered, for what has happened must be told: the same call again, so that a
        lost answer costs nothing. The next jobs."""
        while True:
            try:
                told = await self._client.settle([said for _, said in ended], lease=lease)
            except _AWAY as error:
                await self._pause("settle", error)
            except (errors.Conflict, errors.Invalid) as error:
                if lease is None:
                    await self._tell_singly(ended, error)
                    return []
                lease = None
            else:
                for result in told.results:
                    if result.status in ("lost", "unknown"):
                        log.warning("job %s: %s %s", result.id, result.status, result.problem)
                return told.jobs

    async def _tell_singly(self, ended: Sequence[_Ended], error: errors.ApiError) -> None:
        """Something in it is too long or cannot be stored: that must not harm the others."""
        if len(ended) > 1:
            for one in ended:
                await self._tell([one], None)
            return
        ((hold, _),) = ended
        log.error("the result of job %s cannot be stored: %s", hold.job.id, error)
        failed = hold.job.failed("bad_result", plain(str(error)), retryable=False)
        try:
            await self._client.settle([failed])
        except errors.ApiError as again:
            log.error("job %s comes back when its lease runs out: %s", hold.job.id, again)

    def _next_lease(self) -> LeaseNext | None:
        free = self._free()
        if self._stopping.is_set() or free <= 0:
            return None
        return LeaseNext(
            queue=self.queue,
            max=free,
            lease_s=self._lease_s,
            worker=self.name,
            request_id=str(new_id()),
        )

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self._beat()
            except _AWAY as error:
                log.warning("no heartbeat: %s", error)
            except errors.ApiError as error:
                log.error("no heartbeat: %s", error)
            self._give_up_expired()

    async def _beat(self) -> None:
        holds = {str(hold.job.id): hold for hold in self._holds if not hold.is_lost}
        if not holds:
            return
        began, news = self._clock(), [hold.progress for hold in holds.values()]
        try:
            told = await self._client.heartbeat(
                [hold.beat() for hold in holds.values()], extend_s=self._lease_s
            )
        except errors.Invalid as error:
            # A progress that cannot be stored must not cost the leases.
            log.error("progress was not told: %s", error)
            held = [hold.job.held for hold in holds.values()]
            told = await self._client.heartbeat(held, extend_s=self._lease_s)
        lost, stopped = set(told.lost), set(told.cancel)
        for (identity, hold), progress in zip(holds.items(), news, strict=True):
            hold.told(progress)
            if identity in lost:
                hold.lose()
            else:
                hold.until = began + self._lease_s
            if identity in stopped:
                hold.cancelled.set()

    def _give_up_expired(self) -> None:
        now = self._clock()
        for hold in self._holds:
            if now > hold.until:
                hold.lose()

    def _free(self) -> int:
        running = sum(hold.is_running for hold in self._holds)
        return self._concurrency - running - self._asked

    def _is_done(self) -> bool:
        return not (self._ended or self._tasks or self._asked)

    async def _pause(self, what: str, error: errors.ApiError) -> None:
        log.warning("%s: %s", what, error)
        await asyncio.sleep(PAUSE_S)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()
