"""Queries that Shopify signs, such as that of an OAuth callback: read, and judged.

Shopify's libraries disagree on what exactly is signed. They differ only for characters that Shopify
does not normally send, so either form counts, over everything that was received.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from chassis.kernel import errors

MAX_AGE_S = 90.0
MAX_PARAMETERS = 50
# One of these given twice would be read as one value here and as another elsewhere.
SINGLE = ("code", "hmac", "host", "shop", "state", "timestamp")
UNSIGNED = frozenset({"hmac", "signature"})
_SECONDS = re.compile("[0-9]{1,12}")

Pairs = Sequence[tuple[str, str]]


class InvalidHmac(errors.Unauthenticated):
    code = "invalid_hmac"


@dataclass(frozen=True, slots=True, repr=False)
class Query:
    """Names and values, decoded, in the order in which they came."""

    pairs: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.pairs if key == name), None)

    def require(self, name: str) -> str:
        found = self.get(name)
        if not found:
            detail = f"the query has no {name}"
            raise errors.Invalid(detail, flaws=[errors.Flaw("/query", detail)])
        return found

    def require_signed(self, secrets: Sequence[str], *, now_s: float) -> None:
        """Raises InvalidHmac. The time counts only once the signature is right."""
        if not is_signed(self.pairs, self.get("hmac") or "", secrets):
            raise InvalidHmac("the query is not signed with the secret of this app")
        given = self.get("timestamp") or ""
        if not _SECONDS.fullmatch(given) or abs(now_s - int(given)) > MAX_AGE_S:
            raise InvalidHmac(f"the query was not signed within the last {MAX_AGE_S:.0f} seconds")


def parse(query: str) -> Query:
    """The query as it stood in the URL; raises Malformed and Invalid."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise errors.Malformed(
            f"not the query of a URL in UTF-8 with at most {MAX_PARAMETERS} parameters"
        ) from None
    names = [name for name, _value in pairs]
    for name in SINGLE:
        if names.count(name) > 1:
            detail = f"{name} is given twice"
            raise errors.Invalid(detail, flaws=[errors.Flaw("/query", detail)])
    return Query(tuple(pairs))


def is_signed(pairs: Pairs, signature: str, secrets: Sequence[str]) -> bool:
    """Is the hexadecimal `signature` that of the parameters, in either form, under one of the
    secrets? All of them are tried, whatever comes first."""
    given = signature.encode("utf-8", "replace")
    signed = [pair for pair in pairs if pair[0] not in UNSIGNED]
    texts = (escaped(signed), legacy(signed))
    matches = [
        hmac.compare_digest(
            given, hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest().encode()
        )
        for key in secrets
        for text in texts
    ]
    return any(matches)


def escaped(pairs: Pairs) -> str:
    """By name, percent-encoded, a space as %20."""
    ordered = sorted(pairs, key=lambda pair: pair[0])
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in ordered)


def legacy(pairs: Pairs) -> str:
    """Decoded, but for what separates; the values of a list, `ids[]`, as one."""
    return "&".join(
        sorted(
            f"{_kept(name).replace('=', '%3D')}={_kept(value)}" for name, value in _joined(pairs)
        )
    )


def _joined(pairs: Pairs) -> Iterator[tuple[str, str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            yield name, value
    for name, values in lists.items():
        yield name, "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _quoted(text: str) -> str:
    return quote(text, safe="*-._").replace("~", "%7E")


def _kept(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26")
