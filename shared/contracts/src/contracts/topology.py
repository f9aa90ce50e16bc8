"""The bus in one place: exchanges, queues, bindings. Names carry a version, arguments never change.

Another argument means a new version of the name; what operators may change is policy.
"""

from dataclasses import dataclass, field
from typing import Any

from contracts import commands, events

EVENTS = "events"
COMMANDS = "commands"
DEAD = "dlx"

# A crash loop must not dead-letter accepted commands: the limit is set, and set very high, because
# absent it means 20 from RabbitMQ 4 on.
ACCEPT_DELIVERY_LIMIT = 1_000_000
EVENT_DELIVERY_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    exchange: str
    keys: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


def _quorum(delivery_limit: int, **more: Any) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": delivery_limit,
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        **more,
    }


EXCHANGES = (Exchange(EVENTS, "topic"), Exchange(COMMANDS, "direct"), Exchange(DEAD, "topic"))

JOB_ACCEPT = Queue(
    "queue-service.job-accept.v1",
    COMMANDS,
    (commands.ACCEPT_JOBS,),
    _quorum(ACCEPT_DELIVERY_LIMIT, **{"x-max-length-bytes": 1_073_741_824}),
)
TELL_SESSIONS = Queue(
    "session-service.tell.v1",
    COMMANDS,
    (commands.TELL_SESSIONS,),
    _quorum(ACCEPT_DELIVERY_LIMIT),
)
GATEWAY_EVENTS = Queue("gateway.events.v1", EVENTS, ("#",), _quorum(EVENT_DELIVERY_LIMIT))
SHOP_REDACTS = Queue(
    "queue-service.shop-redact.v1", EVENTS, (events.SHOP_REDACT,), _quorum(EVENT_DELIVERY_LIMIT)
)
LIMIT_REDACTS = Queue(
    "ratelimit-service.shop-redact.v1", EVENTS, (events.SHOP_REDACT,), _quorum(EVENT_DELIVERY_LIMIT)
)
DEAD_LETTERS = Queue(
    "dead-letters.v1", DEAD, ("#",), {"x-queue-type": "quorum", "x-max-length": 100_000}
)
CANARY = Queue(
    "canary.v1",
    COMMANDS,
    ("canary",),
    {"x-max-length": 1, "x-message-ttl": 10_000},
)
QUEUES = (
    DEAD_LETTERS,
    JOB_ACCEPT,
    TELL_SESSIONS,
    GATEWAY_EVENTS,
    SHOP_REDACTS,
    LIMIT_REDACTS,
    CANARY,
)
