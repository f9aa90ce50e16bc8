"""Calls of the Admin API on behalf of apps that hold no token.

What a caller asks is checked and named here; who speaks to Shopify is a port. Answers are
remembered for callers who say how old one may be, each under its shop, the token's version and the
question.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from mainstay.shopify import graphql, rest, retries
from session_service.core.refreshing import Refreshing
from session_service.core.sessions import Access, Found

MAX_AGE_S = 300
# Calls may wait long. One shop must leave room for others, and all of them for those who ask for
# tokens over the same connections of a gateway.
MAX_CALLS, MAX_OF_SHOP = 150, 50
MAX_BYTES = 1024 * 1024
GRAPHQL = "graphql.json"
# A token that ends sooner is renewed before it is used.
MIN_TTL_S = 300
_OURS = Access(shop=None, sees_tokens=True)
_VERSION = re.compile("20[0-9]{2}-(?:01|04|07|10)|unstable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`path` lies below the version (None: the one in force). `text` is a GraphQL document, None
    for REST. `harmless`: a repeat leaves what the first call left. `max_age_s` 0: no answer of
    before will do."""

    shop: str
    method: str
    path: str
    version: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    harmless: bool = False
    max_age_s: int = 0

    @property
    def api(self) -> str:
        return "rest" if self.text is None else "graphql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What Shopify said. `pages`: the `page_info` by its `rel`. `is_good`: a success without
    errors. `degraded` says what was not as it should be."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    pages: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_good: bool = False
    degraded: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`age_s` and `backend` of an answer that was remembered; None: Shopify gave it just now."""

    reply: Reply
    age_s: int | None = None
    backend: str | None = None


class Shopify(Protocol):
    async def ask(self, call: Call) -> Reply:
        """Whatever Shopify answers the caller, 4xx too. Else raises the fault: `Limited`,
        `Conflict`, `Upstream`, `Unavailable`, `Late`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptToken:
    """A token; `stale_s` as in `sessions.Found`."""

    token: str = field(repr=False)
    version: int
    stale_s: int | None = None

    @property
    def degraded(self) -> str | None:
        return None if self.stale_s is None else f"sessions;stale={self.stale_s}"


class Keeper(Protocol):
    """Keeps the offline session of each shop; raises as the token call does."""

    async def token(self, shop: str) -> KeptToken: ...

    async def rejected(self, shop: str, version: int) -> KeptToken:
        """Shopify answered 401 to that version: another, or the same when there is none."""
        ...


class Shelf(Protocol):
    """Where answers lie. Raises Unavailable when it is not there."""

    @property
    def backend(self) -> str: ...

    async def get(self, name: str) -> bytes | None: ...

    async def put(self, name: str, kept: bytes, *, ttl_s: int) -> None: ...


class OfflineTokens:
    """The Keeper over the sessions of this service."""

    def __init__(self, refreshing: Refreshing) -> None:
        self._refreshing = refreshing

    async def token(self, shop: str) -> KeptToken:
        return _held(
            await self._refreshing.token(shop, user_id=None, min_ttl_s=MIN_TTL_S, access=_OURS)
        )

    async def rejected(self, shop: str, version: int) -> KeptToken:
        return _held(
            await self._refreshing.reject(shop, user_id=None, version=version, access=_OURS)
        )


class AdminProxy:
    """`shelves`: the first that is there is used."""

    def __init__(
        self, *, shopify: Shopify, keeper: Keeper, shelves: Sequence[Shelf], clock: Clock
    ) -> None:
        self._shopify = shopify
        self._keeper = keeper
        self._shelves = shelves
        self._clock = clock
        self._under_way: Counter[str] = Counter()

    async def __call__(self, call: Call) -> Answer:
        if call.max_age_s <= 0:
            return Answer(reply=await self._ask(call))
        # Without a token that works nothing is answered, remembered or not.
        held = await self._keeper.token(call.shop)
        name = name_of(call, held.version)
        found = await self._find(name, call.max_age_s)
        if found is not None:
            return replace(found, reply=replace(found.reply, degraded=held.degraded))
        reply = await self._ask(call)
        if reply.is_good and len(reply.body) <= MAX_BYTES:
            await self._keep(name, reply)
        return Answer(reply=reply)

    async def _ask(self, call: Call) -> Reply:
        under_way = self._under_way
        if under_way.total() >= MAX_CALLS or under_way[call.shop] >= MAX_OF_SHOP:
            raise errors.Unavailable(
                "too many calls of Shopify are under way", code="overloaded", retry_after_s=1.0
            )
        under_way[call.shop] += 1
        try:
            return await self._shopify.ask(call)
        finally:
            under_way[call.shop] -= 1
            if not under_way[call.shop]:
                del under_way[call.shop]

    async def _find(self, name: str, max_age_s: int) -> Answer | None:
        for shelf in self._shelves:
            try:
                kept = await shelf.get(name)
            except errors.Unavailable:
                continue
            if kept is None:
                return None
            at, reply = _unpacked(kept)
            age_s = int(self._clock.now().timestamp() - at)
            if not 0 <= age_s < max_age_s:
                return None
            return Answer(reply=reply, age_s=age_s, backend=shelf.backend)
        return None

    async def _keep(self, name: str, reply: Reply) -> None:
        kept = _packed(reply, self._clock.now().timestamp())
        for shelf in self._shelves:
            try:
                await shelf.put(name, kept, ttl_s=MAX_AGE_S)
            except errors.Unavailable:
                continue
            return


def graphql_call(
    *,
    shop: str,
    document: Mapping[str, Any],
    version: str | None,
    has_key: bool,
    max_age_s: int,
) -> Call:
    """`document`: Shopify's own body. A mutation is never answered from memory."""
    changes = graphql.changes(document["query"], document.get("operationName"))
    return Call(
        shop=shop,
        method="POST",
        path=GRAPHQL,
        version=_checked(version),
        body=json.dumps(document, ensure_ascii=False).encode(),
        text=document["query"],
        harmless=has_key or not changes,
        max_age_s=0 if changes else max_age_s,
    )


def rest_call(
    *,
    shop: str,
    method: str,
    path: str,
    query: Mapping[str, str],
    body: bytes | None,
    version: str | None,
    has_key: bool,
    max_age_s: int,
) -> Call:
    try:
        steps = rest.path_of(path)
    except ValueError:
        steps = GRAPHQL
    if steps == GRAPHQL:
        raise errors.NotFound("no path of the REST API")
    return Call(
        shop=shop,
        method=method,
        path=steps,
        version=_checked(version),
        query=query,
        body=body,
        harmless=has_key or retries.is_harmless(method),
        max_age_s=max_age_s if method == "GET" else 0,
    )


def name_of(call: Call, token_version: int) -> str:
    """Of exactly this question, asked with this token."""
    asked = [
        call.shop, token_version, call.version, call.method, call.path,
        sorted(call.query.items()), (call.body or b"").decode(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _held(found: Found) -> KeptToken:
    session = found.session
    return KeptToken(
        token=session.tokens.access or "", version=session.version, stale_s=found.stale_s
    )


def _checked(version: str | None) -> str | None:
    if version is not None and not _VERSION.fullmatch(version):
        detail = "a version looks like 2026-10, or is unstable"
        raise errors.Invalid(detail, flaws=[errors.Flaw("/Shopify-Api-Version", detail)])
    return version


def _packed(reply: Reply, at: float) -> bytes:
    told = asdict(reply) | {"body": base64.b64encode(reply.body).decode()}
    return json.dumps({"at": at, "reply": told}).encode()


def _unpacked(kept: bytes) -> tuple[float, Reply]:
    held = json.loads(kept)
    told = held["reply"]
    return held["at"], Reply(**{**told, "body": base64.b64decode(told["body"])})
