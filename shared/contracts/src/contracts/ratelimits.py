"""Rate limits as they cross the wire. Owner: ratelimit-service, prefix /v1/ratelimits.

A denial is an answer, not an error: `check`, `check:batch` and `reserve` say 200 with
`allowed: false`; only `enforce` says 429. A store that is down is 503 and never a denial.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.wire import Answer, Limit, Moment, Name, Query, Said, Shop

MAX_ITEMS = 1000
MAX_POLICIES = 8
MAX_COST = 1_000_000_000
MAX_WAIT_MS = 600_000

Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Cost = Annotated[int, Field(ge=0, le=MAX_COST)]
WaitMs = Annotated[int, Field(ge=0, le=MAX_WAIT_MS)]


class Subject(Said):
    """Who is counted. A shop that is not verified counts as its `ip` (IPv6: the /64).

    `user` is anything that acts: a staff member, or an API key's id (policy `api-key`). `sender`
    is a number or name that messages are sent from (policy `sms-sender`).
    """

    shop: Shop | None = None
    shop_verified: bool = True
    ip: Text | None = None
    user: Text | None = None
    sender: Text | None = None


class Priority(StrEnum):
    """A policy's `floors` may keep the end of a bucket for those above."""

    INTERACTIVE = "interactive"
    DEFAULT = "default"
    BATCH = "batch"
    TEST = "test"


class Asked(Said):
    """All policies pass, or nothing is taken. Without `cost` each policy takes its own default."""

    subject: Subject
    policies: list[Name] = Field(min_length=1, max_length=MAX_POLICIES)
    cost: Cost | None = None
    priority: Priority = Priority.DEFAULT

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.policies)) != len(self.policies):
            raise ValueError("a policy is named twice")
        return self


class Check(Asked):
    """`POST check` and `POST enforce`. `peek` takes nothing."""

    mode: Literal["consume", "peek"] = "consume"


class Reserve(Asked):
    """`POST reserve`: a slot at most `max_wait_ms` ahead, one that nobody else is given."""

    max_wait_ms: WaitMs = 0


class CheckBatch(Said):
    """`POST check:batch`: decided in order, later items see what earlier ones took. With `atomic`
    all pass, or nothing is taken and every result says `allowed: false`."""

    items: list[Check] = Field(min_length=1, max_length=MAX_ITEMS)
    atomic: bool = False


class LimitState(Answer):
    """One policy in a decision. `limit` is the burst; `reset_ms` the time until one more is free;
    a `shadow` limit is judged and never refuses."""

    policy: str
    limit: int
    remaining: int
    reset_ms: int
    window_s: int
    violated: bool = False
    shadow: bool = False


class Backend(StrEnum):
    REDIS = "redis"
    POSTGRES = "postgres"
    LOCAL = "local"


class Decision(Answer):
    """`wait_ms`: allowed, act after it; denied, ask again after it (then `retry_after_ms` says the
    same). `unsatisfiable`: the cost is more than a limit ever holds, so asking again is vain.
    `token` stands for what a reservation took."""

    allowed: bool
    wait_ms: int = 0
    retry_after_ms: int | None = None
    unsatisfiable: bool = False
    token: str | None = None
    limits: list[LimitState]
    backend: Backend
    degraded: bool = False


class Decisions(Answer):
    """The answer to `check:batch`, in the order asked."""

    results: list[Decision]


class KeyKind(StrEnum):
    """What a policy counts by. `shop` needs a shop in the subject, `shop_or_ip` takes either."""

    SHOP = "shop"
    SHOP_OR_IP = "shop_or_ip"
    IP = "ip"
    USER = "user"
    SENDER = "sender"


class OnFailure(StrEnum):
    """When no store answers: each replica goes on with its share of what it last saw (`local`),
    lets everything pass (`open`), or answers 503 (`closed`)."""

    LOCAL = "local"
    OPEN = "open"
    CLOSED = "closed"


Rate = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,5})?[smhd]$")]
Floor = Annotated[float, Field(ge=0, lt=1)]


class PolicyPut(Said):
    """`PUT policies/{id}`: the whole policy, e.g. `{key: "sender", rate: "100/s", burst: 200}`.

    `rate` is `n/[k]s|m|h|d`, at most 10,000 a second. `floors`: the share of the burst that a
    priority may not touch. `max_degraded_s`: how long replicas decide locally before `on_failure`
    holds.
    """

    key: KeyKind
    algorithm: Literal["gcra"] = "gcra"
    rate: Rate
    burst: int = Field(ge=1, le=MAX_COST)
    unit: Name = "requests"
    default_cost: int = Field(1, ge=0, le=MAX_COST)
    max_cost: int | None = Field(None, ge=1, le=MAX_COST)
    shadow: bool = False
    floors: dict[Priority, Floor] = Field(default_factory=dict)
    on_failure: OnFailure = OnFailure.LOCAL
    max_degraded_s: float = Field(0.0, ge=0, le=86400)


class Policy(Answer):
    """A policy as it is in force; `version` grows with every change and is the ETag."""

    id: str
    version: int
    key: KeyKind
    algorithm: str
    rate: str
    burst: int
    unit: str
    default_cost: int
    max_cost: int | None = None
    shadow: bool
    floors: dict[str, float] = Field(default_factory=dict)
    on_failure: OnFailure
    max_degraded_s: float
    updated_at: Moment


class Policies(Answer):
    items: list[Policy]
    next_cursor: str | None = None


class PolicyQuery(Query):
    limit: Limit = 50
    cursor: str | None = None
