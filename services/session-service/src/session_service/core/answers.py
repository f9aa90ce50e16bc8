"""Answers of Shopify's token endpoint, by what they mean. Nothing in them is taken on trust: an
error may be a page of HTML, a success may lack what it should hold.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

QUOTED = 200
_WORD = re.compile("[a-z_]{1,64}")
_TAG = re.compile("<[^>]*>")
# Whatever is long and no plain word.
_SECRET = re.compile(r"(?<!\S)(?![A-Z]?[a-z_]+[.,:;!]?(?!\S))\S{8,}")


class Verdict(StrEnum):
    GRANTED = "granted"
    # The token that was given is none any more.
    DEAD = "dead"
    # The session token is not good, or no longer.
    SUBJECT = "subject"
    # The app's own name or secret is wrong, or the app is not installed.
    CLIENT = "client"
    # Frozen or locked: it may come back.
    AWAY = "away"
    # Forbidden, or no such shop.
    GONE = "gone"
    REFUSED = "refused"
    # Nothing is known; the same question may be put again.
    TRANSIENT = "transient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came over the wire. `date`: of Shopify's clock."""

    status: int
    body: bytes = field(repr=False)
    date: datetime | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`said`: Shopify's word for what is wrong, fit for a log."""

    verdict: Verdict
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    said: str = ""
    date: datetime | None = None
    retry_after_s: float | None = None


NO_ANSWER = Answer(verdict=Verdict.TRANSIENT, said="no answer")

_BY_STATUS = {
    402: Verdict.AWAY,
    423: Verdict.AWAY,
    403: Verdict.GONE,
    404: Verdict.GONE,
    408: Verdict.TRANSIENT,
    429: Verdict.TRANSIENT,
}
_BY_WORD = {
    "invalid_grant": Verdict.DEAD,
    "invalid_subject_token": Verdict.SUBJECT,
    "invalid_client": Verdict.CLIENT,
}


def read(reply: Reply) -> Answer:
    document = _document(reply.body)
    verdict = _verdict(reply.status, document)
    return Answer(
        verdict=verdict,
        document=document if verdict is Verdict.GRANTED else {},
        said="" if verdict is Verdict.GRANTED else _said(reply, document),
        date=reply.date,
        retry_after_s=reply.retry_after_s,
    )


def _verdict(status: int, document: Mapping[str, Any]) -> Verdict:
    if status == 200:
        token = document.get("access_token")
        is_token = isinstance(token, str) and token != ""
        return Verdict.GRANTED if is_token else Verdict.TRANSIENT
    if status >= 500:
        return Verdict.TRANSIENT
    if status not in (400, 401):
        return _BY_STATUS.get(status, Verdict.REFUSED)
    word = document.get("error")
    if word == "invalid_request" and "refresh_token" in str(document.get("error_description")):
        return Verdict.DEAD
    return _BY_WORD.get(word, Verdict.REFUSED) if isinstance(word, str) else Verdict.REFUSED


def _document(body: bytes) -> dict[str, Any]:
    """Empty for what is no object, and for text that no store of ours keeps."""
    try:
        found = json.loads(body)
        is_text = b"\\u0000" not in json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and is_text else {}


def _said(reply: Reply, document: Mapping[str, Any]) -> str:
    word = document.get("error")
    if isinstance(word, str) and _WORD.fullmatch(word):
        return f"{reply.status} {word}"
    return f"{reply.status} {quote(reply.body)}".strip()


def quote(body: bytes) -> str:
    """The beginning of a page, without anything in it that may be a secret."""
    text = _TAG.sub(" ", body[:4000].decode("utf-8", "replace"))
    printable = "".join(char if char.isprintable() else " " for char in text)
    return _SECRET.sub("***", " ".join(printable.split()))[:QUOTED]
