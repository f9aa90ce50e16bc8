"""Checks over HTTP: a denial is an answer, but for `enforce`."""

import random
from time import perf_counter
from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from chassis.web.app import CALLER
from contracts.ratelimits import Asked, Backend, Check, CheckBatch, Reserve, Subject
from ratelimit_service import metrics
from ratelimit_service.api import headers, keys
from ratelimit_service.core.checks import Decision
from ratelimit_service.core.subject import Owner

# Those who were refused together should not come back together.
RETRY_JITTER = 0.1
# A limit is near when more than 4/5 of what it holds is used.
NEAR, NEAR_OF = 4, 5
_DECISION_S = {each: metrics.DECISION_S.labels(each) for each in Backend}

_CHECKS = body.Remembered(Check)


async def check(request: web.Request) -> web.Response:
    asked = await _CHECKS.read_json(request)
    _own(request, asked)
    began = perf_counter()
    decision = await request.app[keys.CHECKS].check(asked)
    if asked.mode == "consume":
        _timed(decision, began)
        count(request, decision)
    return _answer(decision.document(), decision)


async def check_batch(request: web.Request) -> web.Response:
    asked = await body.read_json(request, CheckBatch)
    _own(request, *asked.items)
    began = perf_counter()
    decisions = await request.app[keys.CHECKS].batch(asked)
    _timed(decisions[0], began)
    for item, decision in zip(asked.items, decisions, strict=True):
        if item.mode == "consume":
            count(request, decision)
    results = [decision.document() for decision in decisions]
    asked_for = next((each for each in decisions if each.listed is None), decisions[0])
    return _answer({"results": results}, asked_for)


async def reserve(request: web.Request) -> web.Response:
    asked = await body.read_json(request, Reserve)
    _own(request, asked)
    began = perf_counter()
    decision = await request.app[keys.CHECKS].reserve(asked)
    _timed(decision, began)
    count(request, decision)
    return _answer(decision.document(), decision)


async def enforce(request: web.Request) -> web.Response:
    """204, or the 429 that may be passed on as it is."""
    return await enforced(request, await _CHECKS.read_json(request))


async def enforced(request: web.Request, asked: Check) -> web.Response:
    _own(request, asked)
    began = perf_counter()
    decision = await request.app[keys.CHECKS].check(asked)
    if asked.mode == "consume":
        _timed(decision, began)
        count(request, decision)
    said = headers.of(decision) | _road(decision)
    if decision.allowed:
        return web.Response(status=204, headers=said)
    if decision.listed is not None:
        raise errors.Denied("on the deny list", code="denied_by_list", headers=said)
    raise _refusal(decision, said)


def _refusal(decision: Decision, said: dict[str, str]) -> errors.Limited:
    violated = [
        (number, met.policy.id)
        for number, met in enumerate(decision.met)
        if met.violated and not met.limit.shadow
    ]
    retry_after_ms = decision.retry_after_ms
    return errors.Limited(
        f"over the limit {', '.join(name for _, name in violated)}",
        flaws=[errors.Flaw(f"/policies/{number}", f"over {name}") for number, name in violated],
        retry_after_s=(
            None
            if retry_after_ms is None
            else retry_after_ms / 1000 * random.uniform(1, 1 + RETRY_JITTER)
        ),
        headers=said,
    )


def _answer(document: dict[str, Any], decision: Decision) -> web.Response:
    return body.respond(document, backend=str(decision.backend), degraded=decision.degraded)


def _road(decision: Decision) -> dict[str, str]:
    said = {"Mainstay-Backend": str(decision.backend)}
    if decision.degraded is not None:
        said["Degraded"] = decision.degraded
    return said


def _own(request: web.Request, *asked: Asked) -> None:
    if request[CALLER].shop is not None:
        for each in asked:
            own(request, each.subject)


def own(request: web.Request, subject: Subject) -> None:
    """A key of one shop spends nobody else's limits."""
    caller = request[CALLER]
    if caller.shop is None:
        return
    if subject.shop is not None and subject.shop != caller.shop:
        raise errors.Denied("the key belongs to another shop", code="other_shop")
    if subject.sender is not None or subject.user not in (None, caller.key_id):
        raise errors.Denied("senders and other keys are not of one shop", code="other_shop")


def owner(request: web.Request) -> Owner | None:
    """Whose limits the caller may move; None: everybody's."""
    caller = request[CALLER]
    return None if caller.shop is None else Owner(caller.shop, caller.key_id)


def _timed(decision: Decision, began: float) -> None:
    _DECISION_S[decision.backend].observe(perf_counter() - began)


def count(request: web.Request, decision: Decision) -> None:
    if decision.listed is not None:
        metrics.count_listed(decision.listed)
        return
    labels, backend = metrics.DECISIONS.labels, decision.backend
    for met in decision.met:
        outcome = "allowed"
        if met.violated:
            outcome = "shadow_denied" if met.limit.shadow else "denied"
        elif decision.allowed and met.debt_us * NEAR_OF > met.pace.tau_us * NEAR and met.limit.cost:
            metrics.NEAR_LIMIT.labels(met.policy.id).count += 1
        labels(met.policy.id, outcome, backend).count += 1
    request.app[keys.USAGE].note(decision.met, backend)
