"""Session tokens: Shopify's word, for a minute, on who is looking at the app inside its admin.

The shop is taken from `dest` alone. Shopify's clock and ours may be ten seconds apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from chassis.kernel import errors
from chassis.kernel.shopify import InvalidShop, Shops
from contracts.sessions import SessionTokenClaims
from session_service.core import verdicts

LEEWAY_S = 10.0
# No time of ours, and neither is what is no number.
FAR_S = 1e12
# The signature is the library's to check; the claims are ours: Shopify sends fractions of seconds,
# and who came by a checkout has no `sub`.
_SIGNATURE_ALONE: Any = {
    "verify_signature": True,
    **dict.fromkeys(
        ["verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub",
         "verify_jti"],
        False,
    ),
}  # fmt: skip
_NUMBER = re.compile("[0-9]{1,19}")


class InvalidSessionToken(errors.Unauthenticated):
    code = "invalid_session_token"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={verdicts.RETRY_HEADER: "1"})


def verify(
    token: str, *, secrets: Sequence[str], audience: str, shops: Shops, now_s: float
) -> SessionTokenClaims:
    """What the token says; raises InvalidSessionToken, which never repeats any of it."""
    claims = _signed(token, secrets)
    if _time(claims, "exp") + LEEWAY_S <= now_s:
        raise InvalidSessionToken("the session token has expired")
    if _time(claims, "nbf") - LEEWAY_S > now_s:
        raise InvalidSessionToken("the session token is not valid yet")
    if _text(claims, "aud") != audience:
        raise InvalidSessionToken("the session token was made for another app")
    shop = _shop(_text(claims, "dest"), shops)
    if shop != _shop(_text(claims, "iss"), shops):
        raise InvalidSessionToken("the session token names two shops")
    sub = _text(claims, "sub", is_needed=False)
    return SessionTokenClaims(
        shop=shop,
        user_id=_user_id(sub),
        iss=claims["iss"],
        dest=claims["dest"],
        aud=audience,
        sub=sub,
        exp=claims["exp"],
        nbf=claims["nbf"],
        iat=_time(claims, "iat") if "iat" in claims else None,
        jti=_text(claims, "jti", is_needed=False),
        sid=_text(claims, "sid", is_needed=False),
    )


def _signed(token: str, secrets: Sequence[str]) -> Mapping[str, Any]:
    for secret in secrets:
        try:
            return jwt.decode(token, secret, algorithms=["HS256"], options=_SIGNATURE_ALONE)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidSessionToken("this is no session token of Shopify") from None
    raise InvalidSessionToken("the session token is not signed with the secret of this app")


def _text(claims: Mapping[str, Any], name: str, *, is_needed: bool = True) -> Any:
    value = claims.get(name)
    if isinstance(value, str) or (value is None and not is_needed):
        return value
    raise InvalidSessionToken(f"the session token has no proper {name}")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < FAR_S:
        return float(value)
    raise InvalidSessionToken(f"the session token has no proper {name}")


def _shop(address: str, shops: Shops) -> str:
    """Of `https://{shop}` or `https://{shop}/admin`; some leave the scheme out."""
    try:
        return shops.named(address.removeprefix("https://").partition("/")[0])
    except InvalidShop:
        raise InvalidSessionToken("the session token names no shop of Shopify") from None


def _user_id(sub: str | None) -> int | None:
    number = int(sub) if sub is not None and _NUMBER.fullmatch(sub) else 0
    return number if 0 < number < 2**63 else None
