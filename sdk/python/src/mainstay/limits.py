"""What a limiter answers, as far as this client reads it; unknown members are ignored.

`backend` says who decided: redis, postgres, or local when no store did. `degraded` says that it was
not the one that should have.
"""

from datetime import datetime
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from mainstay.answers import Answer


class Observed(TypedDict, total=False):
    """What an upstream said of its own bucket, `age_ms` ago: how much is left, how much it holds,
    how much comes back a second. `retry_after_ms`: it refused, and takes nothing before."""

    available: float | None
    maximum: float | None
    restore_rate: float | None
    retry_after_ms: int | None
    age_ms: int


class Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class LimitState(Said):
    """One policy in a decision. `limit` is the burst, `reset_ms` the time until one more is free; a
    `shadow` limit is judged and never refuses."""

    policy: str
    limit: int
    remaining: int
    reset_ms: int
    window_s: int
    violated: bool = False
    shadow: bool = False


class Levels(Said):
    """Where limits stand."""

    limits: tuple[LimitState, ...] = ()
    backend: str | None = None
    degraded: bool = False


class Decision(Levels):
    """When `allowed`, act after `wait_ms`; otherwise nothing was taken, and `retry_after_ms` says
    when to ask again. `unsatisfiable`: the cost is more than a limit ever holds. `token` gives back
    what was taken. `listed`: a list decided (allow, deny), and no limit was asked."""

    allowed: bool
    wait_ms: int = 0
    retry_after_ms: int | None = None
    unsatisfiable: bool = False
    token: str | None = None
    listed: str | None = None


class Decisions(Said):
    """In the order asked."""

    results: tuple[Decision, ...]


class Refunded(Said):
    """0 for a token that was used before, or whose charge has drained."""

    refunded: int


class Permit(Said):
    """`allowed: false` when all are taken; the first runs out by itself in `retry_after_ms`.
    `expires_ms`: the moment, in milliseconds since 1970."""

    allowed: bool
    id: str | None = None
    expires_ms: int | None = None
    retry_after_ms: int | None = None
    in_use: int = 0
    limit: int = 0


class TokenLease(Levels):
    """`granted` tokens, to be spent until `expires_ms`; fewer than wanted, perhaps none."""

    id: str | None = None
    granted: int
    expires_ms: int


class Policy(Answer):
    """As it is in force; `bound` says how much more than the ideal it may ever give out."""

    id: str
    version: int
    key: str
    algorithm: str
    rate: str | None = None
    burst: int | None = None
    limit: str | int | None = None
    tz: str | None = None
    lease_s: int | None = None
    unit: str = "requests"
    default_cost: int = 1
    max_cost: int | None = None
    shadow: bool = False
    learn: bool = False
    floors: dict[str, float] = Field(default_factory=dict)
    on_failure: str = "local"
    max_degraded_s: float = 0.0
    consistency: str = "bounded"
    bound: dict[str, float | None] | None = None
    updated_at: datetime | None = None


class Override(Answer):
    shop: str
    policy: str
    version: int
    change: dict[str, Any]
    reason: str | None = None
    author: str | None = None
    expires_at: datetime | None = None
    updated_at: datetime | None = None


class Plan(Answer):
    """What differs for the shops of a plan, by policy."""

    id: str
    version: int
    policies: dict[str, dict[str, Any]]
    updated_at: datetime | None = None


class PlanOfShop(Answer):
    shop: str
    plan: str
    version: int = 0


class LimitList(Answer):
    """`kind` is allow or deny, an item `{subject, reason?, expires_at?}`."""

    kind: str
    version: int
    items: list[dict[str, Any]]


class ShopCount(Said):
    shop: str
    policy: str
    allowed: int
    denied: int
    shadow_denied: int = 0
    would_deny: int | None = None


class Simulation(Answer):
    """What the last minutes would have been like; `worst` are the shops refused most."""

    minutes: int
    shops: int
    asked: int
    denied: int
    would_deny: int
    worst: list[ShopCount] = Field(default_factory=list)


class Top(Answer):
    items: list[ShopCount]


class Usage(Levels):
    """What a shop asked for lately, and where its limits stand now."""

    shop: str
    minutes: int
    plan: str | None = None
    policies: tuple[ShopCount, ...] = ()
