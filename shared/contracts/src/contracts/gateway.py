"""The gateway's own words: API keys, the state of the whole, events handed over by HTTP."""

from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.events import Envelope
from contracts.sessions import TokenMode
from contracts.wire import Answer, Moment, Said, Shop

MAX_EVENTS = 500


class Scope(StrEnum):
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    QUEUES_ADMIN = "queues:admin"
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    TOKENS_READ = "tokens:read"
    RATELIMITS_CHECK = "ratelimits:check"
    RATELIMITS_ADMIN = "ratelimits:admin"
    SHOPIFY_PROXY = "shopify:proxy"
    OPS_READ = "ops:read"
    ADMIN = "admin"


class KeyCreate(Said):
    """`POST /v1/keys`. A key with `shop` sees only that shop."""

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    shop: Shop | None = None
    expires_at: Moment | None = None


class ApiKey(Answer):
    id: str
    name: str
    scopes: list[str]
    shop: str | None
    expires_at: Moment | None
    created_at: Moment


class ApiKeyCreated(ApiKey):
    """`key` is shown once: a repeat under the same Idempotency-Key answers with null."""

    key: str | None


class ApiKeys(Answer):
    items: list[ApiKey]
    next_cursor: str | None = None


class ServiceState(Answer):
    status: str = Field(description="up, degraded or down")
    circuit: str | None
    since: Moment


class Roads(Answer):
    enqueue: str = Field(description="direct, bus, spool or shut")
    dispatch: str = Field(description="redis or postgres")
    limits: str = Field(description="redis, postgres or local")
    sessions: str = Field(description="direct, cache or shut")
    cache: str = Field(description="redis or memory")


class HorizonHeld(Answer):
    """Who keeps the database of the queues from cleaning up: a `session`, a `prepared` transaction
    or a `slot` of replication, so many transactions long."""

    holder: str
    name: str
    age_s: int
    transactions: int


class CircuitMode(StrEnum):
    AUTO = "auto"
    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"


class CircuitPut(Said):
    """`PUT /v1/system/circuits/{upstream}`: an operator's word, for every gateway, until it runs
    out. `auto` takes an earlier one back; then `expires_s` means nothing."""

    mode: CircuitMode
    expires_s: int = Field(900, ge=1, le=86_400)
    reason: str = Field(min_length=1, max_length=500)


class Signals(Answer):
    """What a circuit goes by. `calls` and `success` are those of about the last 30 seconds, since
    it came into its state."""

    probe: str | None = Field(description="up or down, by the last look at its health")
    declared: str | None = Field(description="What it says of itself: pass, warn or fail")
    calls: float
    success: float | None


class Circuit(Answer):
    """The circuit of one service, as the gateway that answers has it."""

    state: str = Field(description="closed, open, half_open or recovering")
    why: str = Field(
        description="start, traffic, probe, hold_over, trials, ramp_over or operator: what brought"
        " it into its state"
    )
    since: Moment
    mode: CircuitMode
    until: Moment | None = Field(None, description="When an operator's word runs out")
    reason: str | None = None
    by: str | None = Field(None, description="The id of the operator's key")
    signals: Signals


class CircuitChange(Answer):
    """A change of one gateway's circuit; with `mode`, an operator's word to all of them."""

    at: Moment
    upstream: str
    gateway: str
    old: str
    state: str
    why: str
    mode: CircuitMode | None = None
    reason: str | None = None
    by: str | None = None


class System(Answer):
    """`GET /v1/system`: current within three seconds."""

    services: dict[str, ServiceState]
    roads: Roads
    dependencies: dict[str, str] = Field(description="postgres, redis, rabbitmq: up, down, absent")
    degraded: bool
    can: list[str] = Field(description="What users can still do")
    circuits: dict[str, Circuit] = {}
    circuit_changes: list[CircuitChange] = Field([], description="Of all gateways, newest first")
    horizon: HorizonHeld | None = Field(None, description="Once it is held for a minute")
    sampled_at: Moment | None


class EventsPosted(Said):
    """`POST /internal/v1/events`: what the bus would have carried."""

    events: list[Envelope] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsTaken(Answer):
    taken: int
    known: int


class WebhookTaken(Answer):
    """`POST /webhooks/shopify`: the job that it became; `existing`: this delivery came before."""

    id: UUID
    status: Literal["created", "existing", "accepted"]


class AuthQuery(BaseModel):
    """`GET /auth`; Shopify adds members of its own when it opens an app. `embedded`: 1 inside its
    admin. The others as `sessions.OAuthBegin`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    shop: str = Field(min_length=1, max_length=255)
    mode: TokenMode = TokenMode.OFFLINE
    return_to: str | None = Field(None, max_length=2048)
    host: str | None = Field(None, max_length=512)
    embedded: str | None = None


class BounceQuery(BaseModel):
    """`GET /auth/bounce`. App Bridge itself reads `shopify-reload`, and `host`, in the address."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    shop: str = Field(min_length=1, max_length=255)
    reload: str = Field(alias="shopify-reload", max_length=4096)


class OpenApi(Answer):
    """The merged document of everything that is offered here."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
