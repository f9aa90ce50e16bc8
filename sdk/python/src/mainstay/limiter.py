"""Rate limits for a program that must go on when its limiter does not answer.

Concurrent checks travel together: one call is on its way, the next one gathers. Who got no answer
within the budget, and everybody after him until the limiter is back, is decided here, by a share of
what was last seen; what was let pass meanwhile is told when it is back, before it decides again.
"""

import asyncio
import logging
import math
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, Unpack

from mainstay import errors
from mainstay.addresses import network
from mainstay.buckets import Buckets, Debit, Rate, SubjectKey
from mainstay.flaws import Flaw
from mainstay.limits import Decision, Levels
from mainstay.ratelimits import CheckItem, Names, Subject

log = logging.getLogger("mainstay.limiter")

OnFailure = Literal["local", "open", "closed"]
BATCH_ITEMS = 1000
MAX_DENIALS = 10_000
LONGEST_DENIAL_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
# Telling what was spent: so many at once, each within so long; then the limiter decides again.
DEBITS_AT_ONCE, DEBIT_WITHIN_S, ROUNDS = 16, 1.0, 5
REASON = "let pass while the limiter was away"


class Limits(Protocol):
    """What is needed of `mainstay.client.Client`."""

    async def check_batch(
        self, items: Sequence[CheckItem], *, atomic: bool = False, within_s: float | None = None
    ) -> tuple[Decision, ...]: ...

    async def penalize(
        self,
        policy: str,
        cost: int,
        *,
        reason: str | None = None,
        within_s: float | None = None,
        **subject: Unpack[Subject],
    ) -> Levels: ...


@dataclass(frozen=True, slots=True)
class _Ask:
    policies: tuple[str, ...]
    subject: SubjectKey
    cost: int
    priority: str

    def item(self, mode: str = "consume") -> CheckItem:
        return {"policies": self.policies, "subject": dict(self.subject), "cost": self.cost,
                "priority": self.priority, "mode": mode}  # fmt: skip

    @property
    def counted(self) -> SubjectKey:
        """The same for all addresses of a network."""
        return tuple(
            (name, network(str(value)) if name == "ip" else value) for name, value in self.subject
        )


_Entry = tuple[_Ask, asyncio.Future[Decision]]


class Limiter:
    """Use as `async with Limiter(client) as limiter`; the client stays yours.

    `budget_s`: how long an answer may take. `replicas`: how many processes like this one share the
    limits. `on_failure`: without a limiter decide by a share of it here (local), let pass (open),
    or raise `Unavailable` (closed). `rates`: of policies, for the time before the first answer.
    """

    def __init__(
        self,
        client: Limits,
        *,
        budget_s: float = 0.1,
        replicas: int = 1,
        on_failure: OnFailure = "local",
        rates: Mapping[str, Rate] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if replicas < 1:
            raise ValueError("replicas is one at least")
        self._client = client
        self._budget_s = budget_s
        self._on_failure = on_failure
        self._clock = clock
        self._buckets = Buckets(replicas=replicas, rates=rates or {})
        self._denials: OrderedDict[_Ask, tuple[float, float, Decision]] = OrderedDict()
        self._waiting: deque[_Entry] = deque()
        self._lane: asyncio.Task[None] | None = None
        self._return: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks = [task for task in (self._lane, self._return) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_away(self) -> bool:
        """Is everything decided here now?"""
        return self._return is not None

    async def check(
        self,
        policies: Names,
        *,
        cost: int = 1,
        priority: str = "default",
        **subject: Unpack[Subject],
    ) -> Decision:
        """As `Client.check`. Raises `Invalid` and `NotFound`, for a question that is wrong, and
        `Unavailable` with `on_failure="closed"` alone."""
        ask = _ask(policies, cost, priority, subject)
        if (denied := self._denied(ask)) is not None:
            return denied
        if self.is_away:
            return self._alone(ask)
        try:
            async with asyncio.timeout(self._budget_s):
                decision = await self._together(ask)
        except (errors.Invalid, errors.NotFound):
            raise
        except (errors.ApiError, TimeoutError) as error:
            self._leave(ask, error)
            return self._alone(ask)
        self._learn(ask, decision)
        return decision

    def _denied(self, ask: _Ask) -> Decision | None:
        """The denial that still holds, with the time that is left."""
        kept = self._denials.get(ask)
        if kept is None:
            return None
        at, until, decision = kept
        now = self._clock()
        if now >= until:
            del self._denials[ask]
            return None
        left_ms = max(1, (decision.retry_after_ms or 0) - int((now - at) * 1000))
        return decision.model_copy(update={"retry_after_ms": left_ms, "wait_ms": left_ms})

    def _learn(self, ask: _Ask, decision: Decision) -> None:
        now = self._clock()
        self._buckets.see(ask.counted, decision.limits, now)
        if decision.allowed or not decision.retry_after_ms:
            return
        until = now + min(LONGEST_DENIAL_S, decision.retry_after_ms / 1000)
        self._denials[ask] = (now, until, decision)
        if len(self._denials) > MAX_DENIALS:
            self._denials.popitem(last=False)

    def _alone(self, ask: _Ask) -> Decision:
        if self._on_failure == "closed":
            raise errors.Unavailable("no limiter answers", code="limiter_unavailable")
        if self._on_failure == "open":
            return Decision(allowed=True, backend="local", degraded=True)
        found = self._buckets.take(ask.policies, ask.counted, ask.cost, self._clock())
        wait_ms = (
            None if found.allowed or found.unsatisfiable else math.ceil(found.wait_s * 1000) or 1
        )
        return Decision(
            allowed=found.allowed,
            wait_ms=wait_ms or 0,
            retry_after_ms=wait_ms,
            unsatisfiable=not found.allowed and found.unsatisfiable,
            limits=found.limits,
            backend="local",
            degraded=True,
        )

    async def _together(self, ask: _Ask) -> Decision:
        outcome: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, outcome))
        if self._lane is None or self._lane.done():
            self._lane = asyncio.create_task(self._run())
        return await outcome

    async def _run(self) -> None:
        while batch := self._next():
            for (_, outcome), told in zip(batch, await self._told(batch), strict=True):
                if outcome.done():
                    continue
                if isinstance(told, Exception):
                    outcome.set_exception(told)
                else:
                    outcome.set_result(told)

    def _next(self) -> list[_Entry]:
        batch: list[_Entry] = []
        while self._waiting and len(batch) < BATCH_ITEMS:
            entry = self._waiting.popleft()
            if not entry[1].done():  # who gave up is not asked for
                batch.append(entry)
        return batch

    async def _told(self, batch: Sequence[_Entry]) -> Sequence[Decision | Exception]:
        """An answer for each; who asked something wrong does not spoil it for the others."""
        items = [ask.item() for ask, _ in batch]
        told = await self._asked(items)
        fault = told[0]
        if not isinstance(fault, errors.Invalid | errors.NotFound):
            return told
        wrong = _wrong_items(fault)
        if not wrong:
            return told
        good = [at for at in range(len(items)) if at not in wrong]
        decided = await self._asked([items[at] for at in good]) if good else []
        told = [_of_item(fault, at) for at in range(len(items))]
        for at, one in zip(good, decided, strict=True):
            told[at] = one
        return told

    async def _asked(self, items: Sequence[CheckItem]) -> list[Decision | Exception]:
        """What befell the call befell each of them."""
        try:
            decisions = await self._client.check_batch(items, within_s=self._budget_s)
            if len(decisions) != len(items):
                raise errors.Unavailable("the limiter answered for others", code="bad_answer")
            return list(decisions)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            return [error] * len(items)

    def _leave(self, ask: _Ask, error: Exception) -> None:
        if self._return is None:
            log.warning("no limiter answers (%s): deciding here", _name(error))
            self._return = asyncio.create_task(self._come_back(ask))

    async def _come_back(self, ask: _Ask) -> None:
        """Ask, without taking anything, until it answers; tell what was spent; go back."""
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            try:
                await self._client.check_batch([ask.item("peek")], within_s=self._budget_s)
            except (errors.Invalid, errors.NotFound):
                pass  # it answers
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
                log.debug("still no limiter: %s", _name(error))
                continue
            if await self._settle():
                break
        self._buckets.leave()
        self._return = None
        log.warning("the limiter is back")

    async def _settle(self) -> bool:
        """Tell what was let pass here; False when it went away again."""
        for _ in range(ROUNDS):
            debits = list(self._buckets.debits(self._clock()))
            if not debits:
                break
            for at in range(0, len(debits), DEBITS_AT_ONCE):
                some = debits[at : at + DEBITS_AT_ONCE]
                if not all(await asyncio.gather(*map(self._tell, some))):
                    for debit in debits[at + DEBITS_AT_ONCE :]:
                        self._buckets.put_back(debit)
                    return False
        return True

    async def _tell(self, debit: Debit) -> bool:
        subject: Any = dict(debit.subject)
        if "ip" in subject:
            subject["ip"] = str(subject["ip"]).partition("/")[0]
        try:
            await self._client.penalize(
                debit.policy, debit.cost, reason=REASON, within_s=DEBIT_WITHIN_S, **subject
            )
        except errors.Unavailable:
            self._buckets.put_back(debit)
            return False
        except errors.ApiError as error:
            log.warning("what was spent of %s is not told: %s", debit.policy, _name(error))
        return True


def _ask(policies: Names, cost: int, priority: str, subject: Subject) -> _Ask:
    names = (policies,) if isinstance(policies, str) else tuple(policies)
    said: list[tuple[str, object]] = sorted(
        (name, value.lower() if name == "shop" and isinstance(value, str) else value)
        for name, value in subject.items()
        if value is not None and value != "" and (name, value) != ("shop_verified", True)
    )
    return _Ask(names, tuple(said), cost, priority)


def _wrong_items(error: errors.ApiError) -> frozenset[int]:
    """Their places, from pointers like /items/3/cost."""
    places = [flaw.pointer.split("/") for flaw in error.errors]
    return frozenset(
        int(steps[2])
        for steps in places
        if len(steps) > 2 and steps[1] == "items" and steps[2].isdigit()
    )


def _of_item(error: errors.ApiError, at: int) -> errors.ApiError:
    """What is wrong with one item alone."""
    prefix = f"/items/{at}"
    flaws = tuple(
        Flaw(flaw.pointer.removeprefix(prefix), flaw.detail)
        for flaw in error.errors
        if flaw.pointer == prefix or flaw.pointer.startswith(f"{prefix}/")
    )
    return type(error)(
        error.detail, status=error.status, code=error.code, errors=flaws, trace_id=error.trace_id
    )


def _name(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'code', '')}".strip()
