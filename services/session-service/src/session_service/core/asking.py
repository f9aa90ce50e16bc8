"""Putting a question to Shopify until there is an answer that means something."""

import asyncio
import random
from collections.abc import Callable

from chassis.kernel import breaker, errors
from chassis.kernel.clock import Clock
from session_service.core import answers, copying, pairs
from session_service.core.answers import NO_ANSWER, Answer, Verdict
from session_service.core.credentials import Credentials
from session_service.core.grants import Ask
from session_service.core.leasing import Lease
from session_service.core.ports import TokenEndpoint
from session_service.core.record import ShopifySession

TRIES = 3
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 3.0

Uniform = Callable[[float, float], float]


class Asker:
    """`uniform` is for tests."""

    def __init__(
        self,
        *,
        endpoint: TokenEndpoint,
        credentials: Credentials,
        clock: Clock,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._clock = clock
        self._uniform = uniform

    async def ask(
        self, ask: Ask, *, shop: str, old: ShopifySession | None, lease: Lease
    ) -> tuple[Answer, int]:
        """(answer, when its question left in epoch milliseconds). A good answer that lacks
        something is asked for once more before it is believed."""
        first = await self._answered(ask, shop, lease)
        answer = first[0]
        if answer.verdict is not Verdict.GRANTED or not ask.is_repeatable:
            return first
        if not pairs.lacks(ask, old, answer.document):
            return first
        again = await self._answered(ask, shop, lease)
        return again if again[0].verdict is Verdict.GRANTED else first

    async def _answered(self, ask: Ask, shop: str, lease: Lease) -> tuple[Answer, int]:
        for tried in range(1, TRIES + 1):
            lease.check()
            sent_ms = copying.now_ms(self._clock)
            answer = await self._once(ask, shop, lease)
            pause_s = answer.retry_after_s or 0.0
            is_over = answer.verdict is not Verdict.TRANSIENT or pause_s > LONGEST_PAUSE_S
            if is_over or tried == TRIES:
                break
            await asyncio.sleep(pause_s + self._uniform(0.0, FIRST_PAUSE_S * 2.0**tried))
        return answer, sent_ms

    async def _once(self, ask: Ask, shop: str, lease: Lease) -> Answer:
        """Under the current secret, and under the old one when Shopify does not take it."""
        ticket = self._credentials.admit()
        try:
            for named in self._credentials.named():
                lease.check()
                answer = await self._sent(shop, {**named, **ask.body})
                if answer.verdict is not Verdict.CLIENT:
                    break
        except BaseException:
            self._credentials.circuit.ignore(ticket)
            raise
        self._judge(answer, ticket, shop)
        return answer

    async def _sent(self, shop: str, body: dict[str, str]) -> Answer:
        try:
            return answers.read(await self._endpoint.ask(shop, body))
        except errors.Unavailable:
            return NO_ANSWER

    def _judge(self, answer: Answer, ticket: breaker.Ticket, shop: str) -> None:
        if answer.verdict is Verdict.CLIENT:
            self._credentials.refused(ticket, shop)
        elif answer.verdict in (Verdict.GRANTED, Verdict.DEAD, Verdict.SUBJECT):
            self._credentials.accepted(ticket)
        else:
            self._credentials.circuit.ignore(ticket)
