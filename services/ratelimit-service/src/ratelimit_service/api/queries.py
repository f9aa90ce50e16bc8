"""Peeks and forward authentication: checks without a body, from the query."""

from typing import Literal

import pydantic
from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from contracts.ratelimits import Check, EnforceQuery, SubjectQuery
from ratelimit_service.api import keys
from ratelimit_service.api.adjustments import levels
from ratelimit_service.api.checks import enforced, own

FORWARDED_FOR = "X-Forwarded-For"


async def peek(request: web.Request) -> web.Response:
    """Where the limits of a subject stand."""
    asked = _check(body.read_query(request, SubjectQuery), mode="peek")
    own(request, asked.subject)
    try:
        decision = await request.app[keys.CHECKS].check(asked)
    except errors.Fault as fault:
        raise _in_query(fault) from fault
    return body.respond(levels(decision), backend=str(decision.backend), degraded=decision.degraded)


async def enforce(request: web.Request) -> web.Response:
    """204, or a refusal that a proxy passes on. Who may ask is trusted to say whose request it is:
    without `ip` it is the address that the caller's own proxy saw."""
    query = body.read_query(request, EnforceQuery)
    if query.ip is None:
        query = query.model_copy(update={"ip": _forwarded_for(request)})
    try:
        return await enforced(request, _check(query, mode="consume"))
    except errors.Limited as refusal:
        if query.deny_status == "429":
            raise
        raise errors.Denied(
            refusal.detail,
            code="refused_by_limit",
            flaws=_renamed(refusal.flaws),
            retry_after_s=refusal.retry_after_s,
            headers=refusal.headers,
        ) from None
    except errors.Fault as fault:
        raise _in_query(fault) from fault


def _check(query: SubjectQuery, *, mode: Literal["consume", "peek"]) -> Check:
    subject = query.model_dump(include={"shop", "ip", "user", "sender"}, exclude_none=True)
    document = {"subject": subject, "policies": query.policy, "mode": mode}
    try:
        return Check.model_validate(document)
    except pydantic.ValidationError as error:
        raise _in_query(body.invalid(error)) from None


def _forwarded_for(request: web.Request) -> str | None:
    """The last address is what the nearest proxy wrote; those before it are its client's words."""
    said = ",".join(request.headers.getall(FORWARDED_FOR, []))
    return said.rpartition(",")[2].strip() or None


def _in_query(fault: errors.Fault) -> errors.Fault:
    """The same, its places named as they are in the query."""
    fault.flaws = _renamed(fault.flaws)
    return fault


def _renamed(flaws: tuple[errors.Flaw, ...]) -> tuple[errors.Flaw, ...]:
    return tuple(
        errors.Flaw(
            flaw.pointer.removeprefix("/subject").replace("/policies", "/policy", 1), flaw.detail
        )
        for flaw in flaws
    )
