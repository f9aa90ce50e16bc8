"""What the author of a job handler sees.

    from mainstay.handler import Context, Retry, handler

    class Greeting(BaseModel):
        name: str

    @handler("greeting.send", args=Greeting, timeout_s=10)
    async def send(args: Greeting, ctx: Context) -> dict[str, str]:
        return {"greeted": args.name}

A job is executed at least once or ends in a visible final state, and the result of exactly one
attempt is accepted. What must not happen twice in the world is guarded by `Context.once`.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import metadata
from typing import Any, Generic, Literal, Protocol, TypeVar, Unpack, cast, overload
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ValidationError

from mainstay.children import ChildOptions, NewJob
from mainstay.flaws import Flaw, flaws_of
from mainstay.limits import Observed
from mainstay.threads import THREADS

ENTRY_POINT_GROUP = "mainstay.handlers"


class HandlerError(Exception):
    """The kinds of failure a handler and its worker speak of. `type` is `errors[-1].type`.

        HandlerError             failed attempt, tried again after a back-off
        ├── Ambiguous            the effect may or may not have happened: failed, never repeated
        ├── Permanent            no repeat can help: discarded
        │   ├── InvalidArgs      the job's args do not fit the handler
        │   └── Refused          a new job that no queue takes
        ├── WrongSettings        the environment of the worker lacks something
        └── Unavailable          a service the handler asked for does not answer

    Any other exception is a failed attempt too.
    """

    type = "error"


class Ambiguous(HandlerError):
    type = "ambiguous"


class Permanent(HandlerError):
    type = "permanent"


class InvalidArgs(Permanent):
    """`flaws` names each wrong place; the text holds no values of the args."""

    type = "invalid_args"

    def __init__(self, flaws: Iterable[Flaw]) -> None:
        self.flaws = tuple(flaws)
        super().__init__("; ".join(map(str, self.flaws)))


class Refused(Permanent):
    """`jobs` says what is wrong, by place among those that were to be made. Over HTTP those that
    were right are made all the same."""

    type = "refused"

    def __init__(self, jobs: Mapping[int, str]) -> None:
        self.jobs = dict(jobs)
        super().__init__("; ".join(f"new job {n}: {why}" for n, why in list(jobs.items())[:20]))


class WrongSettings(HandlerError):
    """`problems` has one sentence per fault, without secrets."""

    type = "wrong_settings"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Unavailable(HandlerError):
    type = "unavailable"


@dataclass(frozen=True, slots=True)
class Completed:
    """Done. `result` is JSON and stays readable with the job."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed, the effect did not happen: clears marks, spends the attempt.

    Without `delay_s` the queue's back-off decides."""

    delay_s: float | None = None
    error: str = "the handler asked for a retry"


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now, the effect did not happen: clears marks, gives the attempt back."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """No longer wanted: ends `cancelled`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Discard:
    """No repeat can help: ends `failed` at once."""

    reason: str


Outcome = Completed | Retry | Snooze | Cancel | Discard


class Delivery(StrEnum):
    """What an attempt does that finds the mark of an earlier one: `Context.once`."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


@dataclass(frozen=True, slots=True)
class JobInfo:
    """The job in hand. `id` is the same in every attempt: the key to hand to providers."""

    id: UUID
    kind: str
    queue: str = "default"
    shop: str | None = None
    attempt: int = 1
    max_attempts: int = 5
    batch_id: UUID | None = None
    created_at: datetime | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot in a rate limit. When `allowed`, act after `wait_ms`; otherwise nothing was taken,
    and `wait_ms` says when to ask again. `unsatisfiable`: the cost exceeds what the limit ever
    allows, so asking again is vain."""

    allowed: bool
    wait_ms: int = 0
    token: str | None = None
    backend: str | None = None
    degraded: bool = False
    unsatisfiable: bool = False

    @classmethod
    def of(cls, told: "Decided") -> "Reservation":
        """As the limiter decided, whoever asked it."""
        return cls(
            allowed=told.allowed,
            wait_ms=told.wait_ms,
            token=told.token,
            backend=told.backend,
            degraded=told.degraded,
            unsatisfiable=told.unsatisfiable,
        )


class Decided(Protocol):
    """What every answer to a reservation says."""

    @property
    def allowed(self) -> bool: ...
    @property
    def wait_ms(self) -> int: ...
    @property
    def token(self) -> str | None: ...
    @property
    def backend(self) -> str | None: ...
    @property
    def degraded(self) -> bool: ...
    @property
    def unsatisfiable(self) -> bool: ...


class Context(Protocol):
    """What a handler may use while it runs. Everything here dies with the attempt."""

    @property
    def job(self) -> JobInfo: ...

    @property
    def http(self) -> aiohttp.ClientSession:
        """Shared by all jobs of the worker: give every request its own `timeout`."""
        ...

    @property
    def outside(self) -> aiohttp.ClientSession:
        """As `http`, for URLs that somebody gave you: it reaches the public internet by https and
        nothing of ours, whatever a name resolves to and wherever a redirect leads. Bodies are not
        decompressed."""
        ...

    @property
    def environ(self) -> Mapping[str, str]: ...

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when the job was cancelled or its lease lost: no result will be accepted."""
        ...

    @property
    def log(self) -> logging.Logger | logging.LoggerAdapter[Any]:
        """Carries the ids of the job. Keep args and secrets out of it."""
        ...

    @property
    def deadline(self) -> float:
        """When the handler is stopped for its `timeout_s`, by the clock of the event loop, which
        is `time.monotonic()`: `async with asyncio.timeout_at(ctx.deadline - 2)`."""
        ...

    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        ...

    def now(self) -> datetime:
        """UTC. In a test it stands still until the test moves it."""
        ...

    async def once(self, name: str) -> bool:
        """Commit a durable mark; call it directly before an outside effect, once per name.

        True: no earlier attempt left this mark, go on. If one did, the effect may have happened:
        an `at_most_once` handler gets `Ambiguous` raised, which ends the job failed with error
        type "ambiguous"; an `at_least_once` handler gets False and decides by itself, e.g. by
        asking the provider about the job id.

        Returning `Retry` or `Snooze` says that the effect did *not* happen: the statement that
        settles the attempt clears its marks. An exception, a timeout or a crash says nothing and
        keeps them.
        """
        ...

    async def progress(self, value: Mapping[str, Any]) -> None:
        """Keep a small document (64 KiB) that readers of the job see, and later attempts: see
        `checkpoint`. Written at most once a second, and before the attempt ends in an outcome."""
        ...

    async def checkpoint(self) -> dict[str, Any] | None:
        """The last `progress` that an earlier attempt left. It may lie a little behind what that
        attempt did, never before it: go on from there with effects that can bear a repeat, such as
        new jobs with the same names."""
        ...

    async def enqueue(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        name: str,
        **options: Unpack[ChildOptions],
    ) -> UUID:
        """Make a job, durable before this returns; its id. `name` tells it from the others that
        this job makes: the same name is the same job in every attempt, as it was first said.
        Raises `Refused`, and `Unavailable` when it is not known to be stored."""
        ...

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        """All of these, a thousand at most, or none; their ids."""
        ...

    async def waiting(self, queue: str, *, shop: str | None = None, limit: int = 10_000) -> int:
        """How many jobs of the queue and the shop (that of the job in hand) are ready and not
        started, or were put off (`Snooze`), counted up to `limit`: a handler that makes many waits
        while there are enough. (A worker that pulls counts what is ready alone.)"""
        ...

    async def reserve(
        self,
        policy: str | Sequence[str],
        *,
        sender: str | None = None,
        shop: str | None = None,
        user: str | None = None,
        cost: int = 1,
        max_wait_ms: int = 0,
    ) -> Reservation:
        """Take `cost` from a limit, or from several at once, at most `max_wait_ms` ahead of time.

        Reserve before `once`, so that a refusal costs nothing. Raises `Unavailable` when no
        limiter answers: then send nothing unpaced, but snooze.
        """
        ...

    async def refund(self, slot: Reservation, cost: int | None = None) -> int:
        """Give back what was reserved and not used, all of it or `cost` of it; how much came back.
        Never raises: what cannot be given back (0) drains by itself."""
        ...

    async def observe(
        self,
        policy: str,
        *,
        shop: str | None = None,
        **told: Unpack[Observed],
    ) -> None:
        """Tell what an upstream said of its own bucket, `age_ms` ago. Never raises: the next answer
        of the upstream says it again."""
        ...


Returned = Outcome | Mapping[str, Any] | BaseModel | None
A = TypeVar("A")
M = TypeVar("M", bound=BaseModel)
Document = dict[str, Any]
Call = Callable[[A, Context], Awaitable[Returned] | Returned]
SettingsCheck = Callable[[Mapping[str, str]], None]


@dataclass(frozen=True, slots=True)
class Handler(Generic[A]):
    """A function that runs jobs of one kind, and what its worker must know of it.

    `queue` is where jobs of this kind belong; the kind alone decides which handler runs.
    `is_async` is False for plain functions: they run in a thread and may use `job`, `environ`,
    `log`, `deadline`, `remaining_s()`, `now()` and `cancelled.is_set()` of their context only.
    """

    kind: str
    call: Call[A]
    args: type[BaseModel] | None
    queue: str
    timeout_s: float
    delivery: Delivery
    is_async: bool
    check_settings: SettingsCheck | None = field(default=None, repr=False)

    def parse(self, args: Mapping[str, Any]) -> A:
        """The args as the handler wants them. Raises `InvalidArgs`."""
        if self.args is None:
            return cast(A, dict(args))
        try:
            return cast(A, self.args.model_validate(args))
        except ValidationError as error:
            raise InvalidArgs(flaws_of(error)) from None

    async def run(self, args: A, ctx: Context) -> Outcome:
        """One attempt with parsed args; the caller keeps the time. Raises what the function does.

        A plain function runs in a thread; when its time is over it is abandoned there.
        """
        if self.is_async:
            return outcome_of(await cast(Awaitable[Returned], self.call(args, ctx)))
        return outcome_of(await THREADS.run(self.call, args, ctx))


@overload
def handler(
    kind: str,
    *,
    args: type[M],
    queue: str = ...,
    timeout_s: float = ...,
    delivery: Delivery | Literal["at_most_once", "at_least_once"] = ...,
    check_settings: SettingsCheck | None = ...,
) -> Callable[[Call[M]], Handler[M]]: ...


@overload
def handler(
    kind: str,
    *,
    args: None = None,
    queue: str = ...,
    timeout_s: float = ...,
    delivery: Delivery | Literal["at_most_once", "at_least_once"] = ...,
    check_settings: SettingsCheck | None = ...,
) -> Callable[[Call[Document]], Handler[Document]]: ...


def handler(
    kind: str,
    *,
    args: type[BaseModel] | None = None,
    queue: str = "default",
    timeout_s: float = 30.0,
    delivery: Delivery | Literal["at_most_once", "at_least_once"] = Delivery.AT_LEAST_ONCE,
    check_settings: SettingsCheck | None = None,
) -> Callable[[Call[Any]], Handler[Any]]:
    """Make a handler of a function `(args, ctx)`; without a model it gets a plain dict.

    `check_settings(environ)` runs before a worker takes its first job and raises `WrongSettings`.
    """
    if not kind or len(kind) > 128 or any(character.isspace() for character in kind):
        raise ValueError("a kind has 1 to 128 characters and no white space")
    if not 0 < timeout_s <= 86400:
        raise ValueError("timeout_s lies between 0 and a day")

    def wrap(call: Call[Any]) -> Handler[Any]:
        return Handler(
            kind=kind,
            call=call,
            args=args,
            queue=queue,
            timeout_s=float(timeout_s),
            delivery=Delivery(delivery),
            is_async=_is_async(call),
            check_settings=check_settings,
        )

    return wrap


def _is_async(call: Any) -> bool:
    """An async function, or an object that is called like one."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


def outcome_of(returned: object) -> Outcome:
    """What a handler returned, as an outcome. Raises `Permanent` for anything that is none."""
    if isinstance(returned, Outcome):
        return returned
    if returned is None:
        return Completed()
    if isinstance(returned, BaseModel):
        return Completed(returned.model_dump(mode="json"))
    if isinstance(returned, Mapping):
        return Completed(dict(returned))
    raise Permanent(f"a handler returns an outcome, a mapping or None, not {type(returned)!r}")


def registry(handlers: Iterable[Handler[Any]]) -> dict[str, Handler[Any]]:
    """Handlers by kind. Raises ValueError when two speak for the same kind."""
    found: dict[str, Handler[Any]] = {}
    for one in handlers:
        if one.kind in found:
            raise ValueError(f"two handlers for kind {one.kind!r}")
        found[one.kind] = one
    return found


def installed() -> dict[str, Handler[Any]]:
    """The handlers of all installed packages: lists behind entry points of `mainstay.handlers`."""
    entry_points = sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name)
    return registry(one for entry_point in entry_points for one in entry_point.load())
