"""The base of every service's application: one middleware, health, a supervisor, typed operations.

The middleware is the edge of the process: it begins the trace, binds the deadline, measures, and
turns every failure into a problem document, the framework's own included.
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pydantic
from aiohttp import web

from chassis import lifecycle, logs, metrics
from chassis.crypto import Caller
from chassis.kernel import deadline, errors
from chassis.web import body, health, problems, trace

log = logs.get(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Authenticate = Callable[[web.Request], Awaitable[Caller]]

CALLER = web.RequestKey("CALLER", Caller)
OPERATION = "mainstay_operation"
DEADLINE_MAX_S = 120.0
_MILLISECONDS = re.compile(r"0*[1-9][0-9]{0,8}")
# A method is a word of the caller's: what is none of these must not become a label of its own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Scopes that are no API key's: `open` needs no caller at all, `service` is services' own talk.
OPEN = "open"
SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path and method: what the server routes, the OpenAPI document says, the gateway offers.

    `scope` is what the caller must hold. `timeout_s` 0 means that the handler bounds itself
    (streams, long polls).
    """

    method: str
    path: str
    handler: Handler
    summary: str
    scope: str
    request: type[pydantic.BaseModel] | None = None
    query: type[pydantic.BaseModel] | None = None
    response: type[pydantic.BaseModel] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    timeout_s: float = deadline.DEFAULT_S
    request_types: tuple[str, ...] = ("application/json",)
    tag: str = ""


def base_app(*, service: str, version: str, public: bool = True) -> web.Application:
    app = web.Application(middlewares=[edge], client_max_size=body.MAX_BODY_BYTES)
    app[health.HEALTH] = health.Health(service=service, version=version)
    app[health.SUPERVISOR] = lifecycle.Supervisor()
    app[health.PUBLIC] = public
    health.add_probes(app)
    metrics.BUILD.labels(service, version).set(1)
    return app


def add_operations(
    app: web.Application, operations: Sequence[Operation], *, authenticate: Authenticate
) -> None:
    """Route them in the order in which they are looked for: paths without places, each with all of
    its methods; then `/{id}:verb` before `/{id}`, which would swallow it."""
    for operation in sorted(operations, key=_turn):
        app.router.add_route(
            operation.method, operation.path, _guarded(operation, authenticate), expect_handler=None
        )


def _turn(operation: Operation) -> tuple[bool, bool, str]:
    is_verb = ":" in operation.path.rsplit("/", 1)[-1]
    return "{" in operation.path, not is_verb, operation.path


def _guarded(operation: Operation, authenticate: Authenticate) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if operation.scope != OPEN:
            caller = await authenticate(request)
            if not allows(caller, operation.scope):
                raise errors.Denied(f"this needs the scope {operation.scope}", code="missing_scope")
            request[CALLER] = caller
        if operation.timeout_s == 0:
            deadline.bind(None)
        return await operation.handler(request)

    setattr(handle, OPERATION, operation)
    return handle


def allows(caller: Caller, scope: str) -> bool:
    """A service speaking for itself may do everything but what it was not asked to forward."""
    return caller.has(scope) or (SERVICE in caller.scopes)


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.monotonic()
    trace.begin(request.headers.get("traceparent"))
    metrics.HTTP_IN_FLIGHT.count += 1
    try:
        response = await _answer(request, handler)
    finally:
        metrics.HTTP_IN_FLIGHT.count -= 1
    route = _route(request)
    method = request.method if request.method in METHODS else "other"
    _requests(method, route, response.status).count += 1
    _durations(route).observe(time.monotonic() - started)
    return response


@cache
def _requests(method: str, route: str, status: int) -> metrics.Tally:
    return metrics.HTTP_REQUESTS.labels(method, route, str(status))


@cache
def _durations(route: str) -> metrics.Series:
    return metrics.HTTP_DURATION_S.labels(route)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        deadline.bind(_deadline(request))
        if "%00" in request.raw_path and "%00" in request.rel_url.raw_path:
            raise errors.NotFound("no name of ours holds U+0000")
        response = await handler(request)
    except errors.Fault as fault:
        response = problems.response(fault)
        if response.status >= 500:
            log.warning("request_failed", route=_route(request), code=fault.code, why=_cause(fault))
    except web.HTTPException as error:
        response = problems.from_framework(error) if error.status >= 400 else error
    except ConnectionResetError:
        raise
    except Exception as error:
        log.error("request_broke", route=_route(request), exc_info=error)
        response = problems.response(errors.Broken("something of ours broke; it has been logged"))
    if not response.prepared:
        response.headers["traceparent"] = trace.current().traceparent()
    return response


def _deadline(request: web.Request) -> deadline.Deadline:
    given = request.headers.get(deadline.HEADER)
    if given is None:
        operation: Operation | None = getattr(request.match_info.handler, OPERATION, None)
        bound_s = operation.timeout_s if operation else 0.0
        # 0: the handler bounds itself, but who is asking must be known soon.
        return deadline.Deadline.after(bound_s or deadline.DEFAULT_S)
    if not _MILLISECONDS.fullmatch(given):
        raise errors.Invalid(f"{deadline.HEADER} must be a positive number of milliseconds")
    return deadline.Deadline.after(min(int(given) / 1000, DEADLINE_MAX_S) - deadline.HOP_COST_S)


def _route(request: web.Request) -> str:
    """The template, never the path: paths hold shops and ids."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _cause(fault: errors.Fault) -> str:
    cause = fault.__cause__
    return type(cause).__name__ if cause is not None else fault.detail
