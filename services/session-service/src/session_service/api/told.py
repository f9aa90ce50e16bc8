"""Tokens that were told are told again in the same words, while memory holds the very session that
they are of: a change, a deletion and two seconds end both at once.
"""

import math
from dataclasses import dataclass, field

from aiohttp import web

from chassis.crypto import Caller
from chassis.kernel.clock import Clock
from chassis.web.answer import Answer
from chassis.web.app import CALLER
from session_service.core import copying
from session_service.core.recent import Recent
from session_service.core.record import ShopifySession

MAX_ANSWERS = 4096


@dataclass(slots=True)
class _Told:
    """`until`: from then on, by the monotonic clock, the caller asks for a token that lives longer
    than this one."""

    caller: Caller
    session: ShopifySession
    until: float
    body: bytes = field(repr=False)
    headers: dict[str, str]


class Told:
    def __init__(self, *, recent: Recent, clock: Clock) -> None:
        self._recent = recent
        self._clock = clock
        self._answers: dict[str, _Told] = {}

    def again(self, request: web.Request) -> web.Response | None:
        told = self._answers.get(request.raw_path)
        if told is None or told.caller is not request[CALLER]:
            return None
        if self._clock.monotonic() >= told.until:
            return None
        if self._recent.get(told.session.id) is not told.session:
            return None
        return Answer(body=told.body, headers=told.headers)

    def keep(
        self, request: web.Request, answer: web.Response, session: ShopifySession, *, min_ttl_s: int
    ) -> None:
        """`answer`: for this caller and this path, from memory."""
        ends_ms, until = session.tokens.expires_ms, math.inf
        if ends_ms is not None:
            left_s = (ends_ms - copying.now_ms(self._clock)) / 1000
            until = self._clock.monotonic() + left_s - min_ttl_s
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        if isinstance(answer.body, bytes):
            self._answers[request.raw_path] = _Told(
                request[CALLER], session, until, answer.body, dict(answer.headers)
            )
