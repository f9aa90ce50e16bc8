"""Push handlers as they are registered: a URL for a kind, and the secret that signs deliveries."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chassis.kernel import errors
from contracts import handlers as wire


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHandler:
    kind: str
    url: str
    timeout_s: float
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushHandler(NewHandler):
    """`sealed` is the secret as it lies in the table. While `disabled_at` is set its jobs wait."""

    sealed: str
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime


class HandlerStore(Protocol):
    async def get(self, kind: str) -> PushHandler | None: ...

    async def create(self, new: NewHandler, *, sealed: str) -> bool:
        """False when there is one for this kind."""
        ...

    async def change(self, new: NewHandler, *, sealed: str | None) -> bool:
        """And enable it again. None keeps the secret. False: there is none for this kind."""
        ...

    async def delete(self, kind: str) -> bool: ...


class Seal(Protocol):
    def seal(self, plain: str, *identity: str) -> str: ...

    def open(self, sealed: str, *identity: str) -> str: ...


class Judge(Protocol):
    def require(self, url: str) -> None:
        """Invalid, saying what is wrong with it."""
        ...


class Handlers:
    """`installed` are the kinds that run in Python here; `seal` is None without a key."""

    def __init__(
        self,
        *,
        handlers: HandlerStore,
        seal: Seal | None,
        judge: Judge,
        installed: Container[str],
        new_secret: Callable[[], str],
    ) -> None:
        self._handlers = handlers
        self._seal = seal
        self._judge = judge
        self._installed = installed
        self._new_secret = new_secret

    async def put(
        self, new: NewHandler, *, secret: str | None
    ) -> tuple[PushHandler, bool, str | None]:
        """(handler, made now, the secret if we made it). Without one the known secret stays."""
        self._require_good(new)
        if self._seal is None:
            raise errors.Unavailable(
                "QUEUE_KEYS are not configured: the secret could not be sealed",
                code="push_not_configured",
            )
        sealed = _sealed(self._seal, new.kind, secret) if secret is not None else None
        if await self._handlers.change(new, sealed=sealed):
            return await self.get(new.kind), False, None
        made = secret or self._new_secret()
        if await self._handlers.create(new, sealed=_sealed(self._seal, new.kind, made)):
            return await self.get(new.kind), True, None if secret else made
        # Somebody else's came in between: theirs is the one that is known.
        await self._handlers.change(new, sealed=sealed)
        return await self.get(new.kind), False, None

    def _require_good(self, new: NewHandler) -> None:
        if new.kind in self._installed:
            raise errors.Conflict(f"{new.kind} is run by a handler that is installed here")
        try:
            self._judge.require(new.url)
        except errors.Invalid as error:
            flaws = [errors.Flaw("/url", error.detail)]
            raise errors.Invalid(f"/url: {error.detail}", flaws=flaws) from None

    async def get(self, kind: str) -> PushHandler:
        found = await self._handlers.get(kind)
        if found is None:
            raise no_such_handler()
        return found

    async def delete(self, kind: str) -> None:
        if not await self._handlers.delete(kind):
            raise no_such_handler()


def no_such_handler() -> errors.NotFound:
    return errors.NotFound("there is no push handler for this kind")


def opened(seal: Seal, known: PushHandler) -> bytes:
    """What signs this handler's deliveries. Raises what the seal raises when it is broken."""
    return wire.secret_bytes(seal.open(known.sealed, "handler", known.kind))


def _sealed(seal: Seal, kind: str, secret: str) -> str:
    return seal.seal(secret, "handler", kind)
