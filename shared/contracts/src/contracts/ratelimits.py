"""Rate limits as they cross the wire. Owner: ratelimit-service, prefix /v1/ratelimits.

A denial is an answer, not an error: `check`, `check:batch` and `reserve` say 200 with
`allowed: false`; only `enforce` says 429. A store that is down is 503 and never a denial.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from contracts.wire import Answer, Document, Limit, Moment, Name, Names, Query, Said, Shop

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


class ListKind(StrEnum):
    """The two lists: whoever is on `deny` may nothing, whoever is on `allow` is never counted."""

    ALLOW = "allow"
    DENY = "deny"


class Decision(Answer):
    """`wait_ms`: allowed, act after it; denied, ask again after it (then `retry_after_ms` says the
    same). `unsatisfiable`: the cost is more than a limit ever holds, so asking again is vain.
    `token` stands for what was taken: `POST refund` gives it back, once. `listed`: a list decided,
    and no limit was asked."""

    allowed: bool
    wait_ms: int = 0
    retry_after_ms: int | None = None
    unsatisfiable: bool = False
    token: str | None = None
    listed: ListKind | None = None
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


class Algorithm(StrEnum):
    """`gcra`: a bucket that refills steadily. `fixed`: so many per window of the calendar.
    `sliding`: the window before counts by what is left of it. `concurrency`: so many at once, by
    permits."""

    GCRA = "gcra"
    FIXED = "fixed"
    SLIDING = "sliding"
    CONCURRENCY = "concurrency"


class Consistency(StrEnum):
    """`bounded`: whichever store is fastest decides, within the published bound. `strict`: nothing
    is given out that Postgres has not recorded first; 503 while it is away."""

    BOUNDED = "bounded"
    STRICT = "strict"


Rate = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,5})?[smhd]$")]
Quota = Annotated[
    str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}(/([1-9][0-9]{0,5})?(s|m|h|d|mo))?$")
]
Burst = Annotated[int, Field(ge=1, le=MAX_COST)]
LeaseS = Annotated[int, Field(ge=1, le=86400)]
Floor = Annotated[float, Field(ge=0, lt=1)]
DegradedS = Annotated[float, Field(ge=0, le=86400)]


class PolicyPut(Said):
    """`PUT policies/{id}`: the whole policy, e.g. `{key: "sender", rate: "100/s", burst: 200}`.

    `gcra` has `rate` (`n/[k]s|m|h|d`, at most 10,000 a second) and `burst`; `fixed` and `sliding`
    have `limit` (`n/[k]s|m|h|d|mo`, windows aligned to the epoch) and, for whole days and months,
    `tz`; `concurrency` has `limit` (a number, also as text) and `lease_s`. `floors`: the share of
    the burst that a priority may not touch. `max_degraded_s`: how long replicas decide locally
    before `on_failure` holds. `learn`: the rate and burst of a shop follow what `observe` says.
    """

    key: KeyKind
    algorithm: Algorithm = Algorithm.GCRA
    rate: Rate | None = None
    burst: Burst | None = None
    limit: Quota | Burst | None = None
    tz: Text | None = None
    lease_s: LeaseS | None = None
    unit: Name = "requests"
    default_cost: int = Field(1, ge=0, le=MAX_COST)
    max_cost: int | None = Field(None, ge=1, le=MAX_COST)
    shadow: bool = False
    learn: bool = False
    floors: dict[Priority, Floor] = Field(default_factory=dict)
    on_failure: OnFailure = OnFailure.LOCAL
    max_degraded_s: DegradedS = 0.0
    consistency: Consistency = Consistency.BOUNDED


class PolicyChange(Said):
    """What differs from a policy for some: in an override, a plan or a simulation."""

    rate: Rate | None = None
    burst: Burst | None = None
    limit: Quota | Burst | None = None
    lease_s: LeaseS | None = None
    default_cost: Cost | None = None
    max_cost: int | None = Field(None, ge=1, le=MAX_COST)
    shadow: bool | None = None
    floors: dict[Priority, Floor] | None = None
    on_failure: OnFailure | None = None
    max_degraded_s: DegradedS | None = None


class Bound(Answer):
    """How much more than the ideal a policy may ever give out for a key, in its unit: at one switch
    of the deciding store, for each replica that dies together with it, when both stores are lost
    (null: all passes then), and for each second in which replicas see different stores."""

    per_switch: int
    per_dead_replica: int
    both_stores_lost: int | None
    per_second_apart: float


class Policy(Answer):
    """A policy as it is in force; `version` grows with every change and is the ETag."""

    id: str
    version: int
    key: KeyKind
    algorithm: Algorithm
    rate: str | None = None
    burst: int | None = None
    limit: str | int | None = None
    tz: str | None = None
    lease_s: int | None = None
    unit: str
    default_cost: int
    max_cost: int | None = None
    shadow: bool
    learn: bool = False
    floors: dict[str, float] = Field(default_factory=dict)
    on_failure: OnFailure
    max_degraded_s: float
    consistency: Consistency = Consistency.BOUNDED
    bound: Bound | None = None
    updated_at: Moment


class Policies(Answer):
    items: list[Policy]
    next_cursor: str | None = None


class PolicyQuery(Query):
    limit: Limit = 50
    cursor: str | None = None


class Levels(Answer):
    """Where limits stand after something was told, given back or taken by force."""

    limits: list[LimitState]
    backend: Backend
    degraded: bool = False


class Refund(Said):
    """`POST refund`: give back what a decision's token stands for, all of it or `cost` of it."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=8192)]
    cost: Annotated[int, Field(ge=1, le=MAX_COST)] | None = None


class Refunded(Answer):
    """How much came back; 0 for a token that was used before, or whose charge has drained."""

    refunded: int


class Penalize(Said):
    """`POST penalize`: take `cost` whether it fits or not, e.g. after abuse. Never lowers."""

    subject: Subject
    policy: Name
    cost: Annotated[int, Field(ge=1, le=MAX_COST)]
    reason: Text | None = None


class Observe(Said):
    """`POST observe`: what an upstream said of its own bucket, `age_ms` ago. It may only lower what
    we think is left; a policy with `learn` takes over rate and size. `retry_after_ms`: it refused,
    and takes nothing before."""

    policy: Name
    shop: Shop
    available: float | None = Field(None, ge=0, le=MAX_COST)
    maximum: float | None = Field(None, ge=1, le=MAX_COST)
    restore_rate: float | None = Field(None, gt=0, le=MAX_COST)
    retry_after_ms: int | None = Field(None, ge=0, le=86_400_000)
    age_ms: int = Field(0, ge=0, le=600_000)


class Reset(Said):
    """`POST reset`: forget what a subject has spent. Admin only."""

    subject: Subject
    policy: Name
    reason: Text | None = None


TtlMs = Annotated[int, Field(ge=100, le=86_400_000)]


class PermitPost(Said):
    """`POST permits`: one of so many at once, of a policy with `concurrency`. With an `id` (UUID)
    of the caller's a repeat is the same permit. Without `ttl_ms` the policy's `lease_s` holds."""

    policy: Name
    subject: Subject
    ttl_ms: TtlMs | None = None
    weight: int = Field(1, ge=1, le=1_000_000)
    id: UUID | None = None


class PermitPut(Said):
    ttl_ms: TtlMs


class Permit(Answer):
    """`allowed: false` when all are taken; then `retry_after_ms` is the time until the first of
    them runs out by itself. `expires_ms`: the moment, in milliseconds since 1970."""

    allowed: bool
    id: str | None = None
    expires_ms: int | None = None
    retry_after_ms: int | None = None
    in_use: int
    limit: int


class LeasePost(Said):
    """`POST leases`: take up to `want` at once, to be spent locally within `ttl_ms`."""

    policy: Name
    subject: Subject
    want: Annotated[int, Field(ge=1, le=MAX_COST)]
    ttl_ms: TtlMs


class Lease(Answer):
    """`granted` may be less than wanted, and 0. `DELETE leases/{id}?unspent=n` gives back the rest,
    once, until `expires_ms` (milliseconds since 1970); later it is gone."""

    id: str | None = None
    granted: int
    expires_ms: int
    limits: list[LimitState]
    backend: Backend
    degraded: bool = False


class LeaseQuery(Query):
    unspent: int = Field(0, ge=0, le=MAX_COST)


class SubjectQuery(Query):
    """A subject and its policies, where there is no body: `peek` and forward authentication."""

    policy: Names = Field(default_factory=list)
    shop: str | None = None
    ip: str | None = None
    user: str | None = None
    sender: str | None = None


class EnforceQuery(SubjectQuery):
    """`GET enforce`. `deny_status` for proxies that understand no other refusal than 403. Without
    `ip` it is the last address of X-Forwarded-For: what the proxy that asks has seen."""

    deny_status: Literal["429", "403"] = "429"


class OverridePut(PolicyChange):
    """`PUT overrides/{shop}/{policy}`: what differs for one shop, why, and until when."""

    reason: Text | None = None
    expires_at: Moment | None = None


class Override(Answer):
    shop: str
    policy: str
    version: int
    change: Document
    reason: str | None = None
    author: str | None = None
    expires_at: Moment | None = None
    updated_at: Moment


class OverrideQuery(PolicyQuery):
    shop: Shop | None = None


class Overrides(Answer):
    items: list[Override]
    next_cursor: str | None = None


class PlanPut(Said):
    """`PUT plans/{id}`: what differs for the shops of a plan, by policy."""

    policies: dict[Name, PolicyChange] = Field(max_length=64)


class Plan(Answer):
    id: str
    version: int
    policies: dict[str, Document]
    updated_at: Moment


class Plans(Answer):
    items: list[Plan]
    next_cursor: str | None = None


class ShopPlan(Said):
    """`PUT shops/{shop}/plan`: the plan a shop is on."""

    plan: Name


class PlanOfShop(Answer):
    shop: str
    plan: str
    version: int
    updated_at: Moment


class ListEntry(Said):
    """`subject`: a shop, an address or a CIDR."""

    subject: Text
    reason: Text | None = None
    expires_at: Moment | None = None


class ListPut(Said):
    """`PUT lists/{allow|deny}`: the whole list; with If-Match nobody's change is lost."""

    items: list[ListEntry] = Field(max_length=10_000)


class ListAnswer(Answer):
    kind: ListKind
    version: int
    items: list[Document]


class Simulate(PolicyChange):
    """`POST policies/{id}:simulate`: what the last minutes would have been like."""

    minutes: int = Field(60, ge=1, le=1440)


class ShopCount(Answer):
    """Counts of one shop under one policy; `would_deny` in a simulation."""

    shop: str
    policy: str
    allowed: int
    denied: int
    shadow_denied: int = 0
    would_deny: int | None = None


class Simulation(Answer):
    minutes: int
    shops: int
    asked: int
    denied: int
    would_deny: int
    worst: list[ShopCount]


class TopQuery(Query):
    by: Literal["denied", "asked"] = "denied"
    minutes: int = Field(15, ge=1, le=1440)
    limit: Limit = 50


class Top(Answer):
    items: list[ShopCount]


class UsageQuery(Query):
    minutes: int = Field(60, ge=1, le=1440)


class Usage(Answer):
    """What a shop asked for lately, and where its limits stand now."""

    shop: str
    minutes: int
    plan: str | None = None
    policies: list[ShopCount]
    limits: list[LimitState]
    backend: Backend
    degraded: bool = False
