"""What a decision took, signed, for whoever gives it back.

A token is the caller's own word for its charge: nobody else can make one, and its nonce is taken
once.
"""

import base64
import binascii
import hashlib
import hmac
import itertools
import secrets
import time
from collections.abc import Callable, Iterable

import orjson

from chassis.kernel import errors
from chassis.kernel.values import value
from ratelimit_service.core import gcra

PURPOSE = b"ratelimit charge v2"
MAC_BYTES = 16
# Of this process, and its own count.
NONCE_BYTES = 7 + 5
# Nothing has been left of the charge for so long: the token is no token any more.
LIFE_US = 86_400_000_000


def _system_us() -> int:
    return time.time_ns() // 1000


@value
class Charge:
    """`cost` tokens of a policy's key, one every `t_us`. `lasts_us`: for how long after the charge
    any of it is still there (a bucket drains, a window ends); `window`: of a quota, the number of
    its window."""

    policy: str
    key: str
    cost: int
    t_us: int
    lasts_us: int
    window: int | None = None


@value
class Charged:
    """`age_us`: since the charge, by the clocks of those who signed and who read it. `is_over`: it
    was a lease, and its time is over."""

    nonce: bytes
    age_us: int
    charges: tuple[Charge, ...]
    is_over: bool

    @property
    def lasts_us(self) -> int:
        return max([each.lasts_us for each in self.charges])


class Tokens:
    """`key` is this service's own secret; all replicas have the same. `now_us`: since 1970."""

    def __init__(self, key: str, now_us: Callable[[], int] = _system_us) -> None:
        secret = hmac.digest(key.encode(), PURPOSE, hashlib.sha256)
        self._mac = hashlib.blake2b(key=secret, digest_size=MAC_BYTES)
        self._now_us = now_us
        self._process = secrets.token_bytes(7)
        self._count = itertools.count()

    def mint(self, charges: Iterable[Charge]) -> str | None:
        """None where nothing was taken. Called for every decision that takes something, so it
        costs a few microseconds."""
        entries = [
            (each.policy, each.key, each.cost, each.t_us, each.lasts_us, each.window)
            for each in charges
        ]
        if not entries:
            return None
        nonce = self._process + next(self._count).to_bytes(5, "big")
        return self._signed(nonce + orjson.dumps((self._now_us(), 0, entries)))

    def until(self, token: str, expires_us: int) -> str:
        """The same charge, to be given back before `expires_us` (since 1970): a lease."""
        body = self._opened(token)
        at_us, _, entries = orjson.loads(body[NONCE_BYTES:])
        return self._signed(body[:NONCE_BYTES] + orjson.dumps((at_us, expires_us, entries)))

    def read(self, token: str) -> Charged:
        """Raises Invalid for what was not minted here, or too long ago."""
        body = self._opened(token)
        at_us, expires_us, entries = orjson.loads(body[NONCE_BYTES:])
        now_us = self._now_us()
        charged = Charged(
            nonce=body[:NONCE_BYTES],
            age_us=max(0, now_us - at_us),
            charges=tuple([Charge(*each) for each in entries]),
            is_over=0 < expires_us <= now_us,
        )
        if charged.age_us > charged.lasts_us + LIFE_US:
            raise _invalid("the token has expired")
        return charged

    def _signed(self, body: bytes) -> str:
        return base64.urlsafe_b64encode(self._code(body) + body).rstrip(b"=").decode()

    def _opened(self, token: str) -> bytes:
        padded = token + "=" * (-len(token) % 4)
        try:
            signed = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid("not a token of a decision") from None
        mac, body = signed[:MAC_BYTES], signed[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._code(body)):
            raise _invalid("not a token of a decision")
        return body

    def _code(self, body: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(body)
        return mac.digest()


def charge(policy: str, limit: gcra.Limit, before: gcra.Level) -> Charge:
    """What `limit` took from a key that stood at `before`."""
    span, t_us = before.span, before.pace.t_us
    if span is not None:
        return Charge(policy, limit.key, limit.cost, t_us, span.left_us, span.number)
    lasts_us = before.debt_us + limit.cost * t_us
    return Charge(policy, limit.key, limit.cost, t_us, lasts_us)


def _invalid(detail: str) -> errors.Invalid:
    return errors.Invalid(f"/token: {detail}", flaws=[errors.Flaw("/token", detail)])
