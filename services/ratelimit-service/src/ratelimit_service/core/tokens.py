"""What a reservation took, signed, for whoever gives it back."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable

from chassis.kernel.clock import Clock
from ratelimit_service.core import gcra

PURPOSE = b"ratelimit reservation v1"
MAC_BYTES = 16


class Tokens:
    """`key` is this service's own secret; all replicas have the same."""

    def __init__(self, key: str, clock: Clock) -> None:
        self._key = hmac.digest(key.encode(), PURPOSE, hashlib.sha256)
        self._clock = clock

    def mint(self, taken: Iterable[tuple[gcra.Limit, gcra.Level]]) -> str:
        """Names each key, how many tokens left it and at which pace, when, and a nonce."""
        at_ms = int(self._clock.now().timestamp() * 1000)
        entries = [[limit.key, limit.cost, level.pace.t_us] for limit, level in taken]
        body = json.dumps([secrets.token_hex(8), at_ms, entries], separators=(",", ":")).encode()
        mac = hmac.digest(self._key, body, hashlib.sha256)[:MAC_BYTES]
        return base64.urlsafe_b64encode(mac + body).rstrip(b"=").decode()
