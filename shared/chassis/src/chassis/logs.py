"""JSON lines on stdout: constant event names, ids from context variables, secrets scrubbed.

`bind(job_id=…)` adds a field to every later line of the running task.
"""

import json
import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from chassis.kernel.secret import SHOWN, Secret

# The second net: tokens have no business in a log line at all, types keep them out first.
_TOKENS = re.compile(
    r"shp(?:at|ca|pa|ua|rt|ss)_[0-9A-Za-z]+|msk_[0-9A-Za-z_]{20,}|whsec_[0-9A-Za-z+/=]+"
    r"|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]*)?"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)

# Not the fields of a dataclass: its repr leaves out what it hides.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS

# The logger of job handlers, which use the standard library's.
HANDLERS = "handler"
# They log every attempt to reach a broker that is down; our own supervisor says it once.
TALKATIVE = ("aio_pika", "aiormq")

bind = structlog.contextvars.bind_contextvars
clear = structlog.contextvars.clear_contextvars
bound = structlog.contextvars.bound_contextvars


def get(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name)
    return logger


def scrub(text: str) -> str:
    """Replace whatever looks like a token or a password in a URL."""
    return _TOKENS.sub("[redacted]", text)


def configure(*, service: str, level: str = "INFO") -> None:
    """Once per process, before anything logs. Standard-library loggers end up in the same lines."""
    threshold = logging.getLevelNamesMapping()[level]
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _naming(service),
        structlog.processors.format_exc_info,
        _scrub_fields,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    logging.getLogger(HANDLERS).setLevel(threshold)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _naming(service: str) -> Any:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def _scrub_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _scrub_value(value) for name, value in event.items()}


def _scrub_value(value: Any) -> Any:
    match value:
        case Secret():
            return SHOWN
        case str():
            return scrub(value)
        case dict():
            return {key: _scrub_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_scrub_value(item) for item in value]
        case _:
            return value


def _dumps(value: Any, **_options: Any) -> str:
    """A line never fails its caller: what is no JSON is told by its repr, scrubbed too."""
    try:
        return orjson.dumps(value, default=_told, option=_OPTIONS).decode()
    except TypeError:
        return json.dumps(value, default=_told, skipkeys=True)


def _told(other: Any) -> str:
    return scrub(repr(other))
