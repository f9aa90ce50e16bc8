"""Hand one message to a provider whose API has the shape of Twilio's, and name what happened.

The one question is whether the message may have gone out:

| what happened | verdict |
|---|---|
| 201, or another 2xx with a sid | `Sent` |
| 429, 503 | `Busy`: refused, nothing was queued |
| any other 3xx or 4xx | `Refused` for good (408: `NotSent`) |
| no connection: refused, no such host, TLS, no answer to the handshake | `NotSent` |
| 500, 502, 504 …, no answer in time, a lost connection, a 2xx without a sid | `Unknown` |

Redirects are not followed: they would carry the password elsewhere.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from mainstay import errors
from marketing.settings import Settings

CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Message:
    """`key` is the same for every attempt at this message."""

    key: UUID
    to: str
    sender: str
    body: str


@dataclass(frozen=True, slots=True)
class Sent:
    """`segments`: how many the provider counts, if it says so."""

    sid: str | None
    status: str | None
    segments: int | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """`retry_after_s` is the provider's wish, if it said one."""

    status: int
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    detail: str


@dataclass(frozen=True, slots=True)
class NotSent:
    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    detail: str


Verdict = Sent | Busy | Refused | NotSent | Unknown


async def send(
    http: aiohttp.ClientSession, settings: Settings, message: Message, *, timeout_s: float
) -> Verdict:
    """One POST, never repeated here. Details hold no secret and no text of the message."""
    token = settings.auth_token.get_secret_value()
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s / 2))
    try:
        async with http.post(
            f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}/Messages.json",
            data=_form(settings, message),
            headers={
                "Authorization": aiohttp.encode_basic_auth(settings.account_sid, token),
                "Idempotency-Key": str(message.key),
            },
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            document = await _document(response)
            retry_after_s = errors.retry_after_s(response.headers.get("Retry-After"))
            return _verdict(response.status, document, retry_after_s, secret=token)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        return NotSent(f"no connection to the provider: {type(error).__name__}")
    except (aiohttp.ClientError, OSError) as error:
        return Unknown(f"the provider's answer was lost: {type(error).__name__}")


def _form(settings: Settings, message: Message) -> dict[str, str]:
    form = {"To": message.to, "From": message.sender, "Body": message.body}
    if settings.status_callback_url:
        form["StatusCallback"] = f"{settings.status_callback_url}/webhooks/sms/twilio/{message.key}"
    return form


async def _document(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The body if it is a JSON object; the status alone decides, so a lost body loses nothing."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                return {}
        document = json.loads(body)
    except (aiohttp.ClientError, OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _verdict(
    status: int, document: dict[str, Any], retry_after_s: float | None, *, secret: str
) -> Verdict:
    sid = document.get("sid")
    if status == 201 or (200 <= status < 300 and isinstance(sid, str)):
        return Sent(_short(sid), _short(document.get("status")), _segments(document))
    if status in (429, 503):
        return Busy(status, retry_after_s)
    if status == 408:
        return NotSent("the provider did not get the whole request in time")
    if 300 <= status < 500:
        return Refused(_detail(status, document, secret))
    return Unknown(f"the provider answered {status}")


def _segments(document: dict[str, Any]) -> int | None:
    """Written as text; 0 while it is not known yet."""
    said = document.get("num_segments")
    return int(said) or None if isinstance(said, str) and said.isdecimal() else None


def _short(value: object) -> str | None:
    return value[:64] if isinstance(value, str) else None


def _detail(status: int, document: dict[str, Any], secret: str) -> str:
    code, told = document.get("code"), document.get("message")
    number = f", code {code}" if isinstance(code, int) else ""
    text = f": {told}" if isinstance(told, str) else ""
    return f"the provider refused it ({status}{number}){text}".replace(secret, "…")[
        :MAX_DETAIL_CHARS
    ]
