"""Sessions as they cross the wire. Owner: session-service.

The body is Shopify's own `Session.toObject()`, both dates as epoch milliseconds; members that we do
not know are kept and given back.
"""

from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from contracts.wire import Answer, Document, Limit, Moment, Query, Said

MAX_ID = 512
MAX_DELETE = 1000
# The last moment that JavaScript's Date can hold.
LAST_MS = 8_640_000_000_000_000

SessionId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
EpochMs = Annotated[int, Field(ge=0, le=LAST_MS)]


class SessionBody(BaseModel):
    """A session. Without `tokens:read` both tokens are absent."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    id: SessionId
    shop: str = Field(min_length=1, max_length=255)
    state: str | None = None
    is_online: bool = Field(False, alias="isOnline")
    scope: str | None = None
    access_token: str | None = Field(None, alias="accessToken", repr=False)
    expires: EpochMs | None = None
    refresh_token: str | None = Field(None, alias="refreshToken", repr=False)
    refresh_token_expires: EpochMs | None = Field(None, alias="refreshTokenExpires")
    online_access_info: Document | None = Field(None, alias="onlineAccessInfo")

    @field_validator("shop")
    @classmethod
    def _named(cls, shop: str) -> str:
        if not shop.strip():
            raise ValueError("names no shop")
        return shop

    def document(self) -> Document:
        """Exactly the members that were given."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class SessionStored(Answer):
    """The answer to a PUT; `version` is the ETag of the session from now on."""

    version: int


class SessionsDelete(Said):
    """`POST /v1/sessions:batchDelete`."""

    ids: list[str] = Field(max_length=MAX_DELETE)


class Deleted(Answer):
    deleted: int


class SessionPage(Answer):
    items: list[SessionBody]
    next_cursor: str | None = None


class SessionsQuery(Query):
    limit: Limit = 50
    cursor: str | None = None


class PurgeQuery(Query):
    """`before`: spare what was granted later, e.g. by a reinstallation."""

    before: Moment | None = None


class TokenMode(StrEnum):
    OFFLINE = "offline"
    ONLINE = "online"


class TokenQuery(Query):
    mode: TokenMode = TokenMode.OFFLINE
    user_id: int | None = Field(None, ge=1, lt=2**63)

    @model_validator(mode="after")
    def _one_user(self) -> Self:
        if (self.mode is TokenMode.ONLINE) != (self.user_id is not None):
            raise ValueError("mode=online needs user_id, and only mode=online takes one")
        return self


class Token(Answer):
    """A token to call Shopify with. `expires` is in epoch milliseconds, null: it does not end."""

    access_token: str = Field(repr=False)
    scope: str | None
    expires: EpochMs | None
    version: int


class ShopTokenQuery(TokenQuery):
    """`min_ttl`: seconds that the token should live on; one with less is renewed first, if it can
    be. A token that lives is answered also when its renewal fails."""

    min_ttl: int = Field(300, ge=0, le=3000)


class TokenReject(Said):
    """Shopify answered 401 to the token of this `version`. Renewed only while that is the stored
    one, at most once in 30 s."""

    version: int
    mode: TokenMode = TokenMode.OFFLINE
    user_id: int | None = Field(None, ge=1, lt=2**63)

    @model_validator(mode="after")
    def _one_user(self) -> Self:
        if (self.mode is TokenMode.ONLINE) != (self.user_id is not None):
            raise ValueError("mode online needs user_id, and only mode online takes one")
        return self


class TokenExchange(Said):
    """A session token of App Bridge for an access token. `force`: also when there is one that
    works."""

    session_token: str = Field(min_length=1, max_length=8192, repr=False)
    mode: TokenMode = TokenMode.OFFLINE
    force: bool = False


class GrantedToken(Token):
    """A token with the session that it was stored in."""

    session_id: str
    shop: str
    user_id: int | None = None


class SessionTokenVerify(Said):
    session_token: str = Field(min_length=1, max_length=8192, repr=False)


class SessionTokenClaims(Answer):
    """What a session token says, verified. `shop` is taken from `dest` alone; `user_id` from `sub`
    when that is a user's number. Times in epoch seconds, as they were given."""

    shop: str
    user_id: int | None
    iss: str
    dest: str
    aud: str
    sub: str | None = None
    exp: float
    nbf: float
    iat: float | None = None
    jti: str | None = None
    sid: str | None = None


class OAuthBegin(Said):
    """`return_to`: a path of the app, where the browser goes in the end. `host`: as Shopify gave
    it, for an embedded app."""

    shop: str = Field(min_length=1, max_length=255)
    mode: TokenMode = TokenMode.OFFLINE
    return_to: str | None = Field(None, max_length=2048)
    host: str | None = Field(None, max_length=512)


class OAuthBegun(Answer):
    """Where to send the browser, and the value of its `Set-Cookie`."""

    authorize_url: str
    cookie: str = Field(repr=False)


class OAuthComplete(Said):
    """What came back: the query as it stood in the URL, and the `Cookie` header."""

    query: str = Field(max_length=8192, repr=False)
    cookie: str = Field("", max_length=16_384, repr=False)


class OAuthCompleted(Answer):
    """`redirect_to`: `return_to` on the app's own address, or the app inside Shopify's admin.
    `clear_cookie`: the `Set-Cookie` that ends the one of `begin`."""

    session_id: str
    shop: str
    user_id: int | None
    scope: str | None
    version: int
    redirect_to: str
    clear_cookie: str


class Rekeyed(Answer):
    """Rows sealed anew under the current key, rows that are still under another, and rows that no
    key of ours opens."""

    rekeyed: int
    left: int
    unreadable: int


class TokenEvent(Answer):
    """What happened to the tokens of a session: `installed`, `refreshed`, `reauth_required`,
    `revoked`, `scopes_changed`, `stored`, `deleted`, `rejected` or `refresh_failed`."""

    at: Moment
    kind: str
    session_id: str
    user_id: int | None
    grant: str | None
    reason: str | None
    version: int | None


class TokenEventPage(Answer):
    items: list[TokenEvent]
    next_cursor: str | None = None


class Migrated(Answer):
    """Tokens without an end that were exchanged for pairs; those that Shopify refused; and those
    that are left for the next call."""

    migrated: int
    failed: int
    left: int


class Uninstalled(Said):
    """Body of `POST /internal/v1/shops/{shop}:uninstalled`. What was granted after `before` (when
    Shopify says that it happened) belongs to the next installation and stays."""

    before: Moment


class ScopesUpdated(Said):
    """Body of `POST /internal/v1/shops/{shop}:scopes-updated`."""

    current: list[str] = Field(max_length=500)
    at: Moment


class Redacted(Said):
    """Body of `POST /internal/v1/shops/{shop}:redact`: everything of the shop from before is
    forgotten here, and every other service is told by `shop.redact.v1`."""

    before: Moment
    event_id: UUID


class GraphQLRequest(Said):
    """`POST /v1/shops/{shop}/admin/graphql`, as Shopify's own body."""

    query: str = Field(min_length=1, max_length=500_000)
    variables: Document | None = None
    operation_name: str | None = Field(None, alias="operationName")
    extensions: Document | None = None
