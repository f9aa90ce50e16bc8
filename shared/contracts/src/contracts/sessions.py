"""Sessions as they cross the wire. Owner: session-service.

The body is Shopify's own `Session.toObject()`, both dates as epoch milliseconds; members that we do
not know are kept and given back.
"""

from enum import StrEnum
from typing import Annotated, Self

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
