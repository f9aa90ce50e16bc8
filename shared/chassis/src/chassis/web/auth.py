"""Service tokens at the door of a service."""

from aiohttp import web

from chassis.crypto import Caller, Verifier
from chassis.kernel import errors
from chassis.web.app import Authenticate


def by_service_token(verifier: Verifier) -> Authenticate:
    """Services take EdDSA tokens of other services and nothing else."""

    async def authenticate(request: web.Request) -> Caller:
        return verifier.verify(bearer(request))

    return authenticate


def bearer(request: web.Request) -> str:
    """The credential of the Authorization header, or Unauthenticated."""
    given = request.headers.get("Authorization", "")
    if given.startswith("Bearer ") and " " not in (token := given[7:]) and token:
        return token
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.Unauthenticated("send Authorization: Bearer <key>")
    return token.strip()
