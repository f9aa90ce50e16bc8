"""Paths, queries and pages of the REST API. No input, no output."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

NEXT, PREVIOUS = "next", "previous"
# With a page these alone may be said again.
WITH_PAGE = frozenset({"limit", "fields"})
_STEP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,-]*")
_LINK = re.compile(r'<([^<>]*)>\s*((?:;\s*[A-Za-z]+\s*=\s*(?:"[^"]*"|[^",;\s]*)\s*)*)')
_REL = re.compile(r'(?i);\s*rel\s*=\s*"?([^";]*)"?')


def path_of(given: str) -> str:
    """`products`, `orders/1/refunds.json`: steps of a path below the version, `.json` or not.
    Raises ValueError."""
    steps = given.removeprefix("/").removesuffix(".json").split("/")
    if not all(_STEP.fullmatch(step) and not step.endswith(".") for step in steps):
        raise ValueError("not a path of the REST API")
    return "/".join(steps) + ".json"


def query_of(given: Mapping[str, object]) -> dict[str, str]:
    """As text: lists by comma, None left out."""
    return {name: _text(value) for name, value in given.items() if value is not None}


def pages_of(link: str | None, bases: tuple[str, ...]) -> dict[str, str]:
    """The `page_info` of each `rel` in a Link header. Only of addresses below one of `bases`
    (`https://shop/admin/api/`): another host is somebody else's."""
    pages = {}
    for address, said in _LINK.findall(link or ""):
        rel = _REL.search(said)
        if rel is None or not any(_is_below(address, base) for base in bases):
            continue
        info = parse_qs(urlsplit(address).query).get("page_info", [])
        if len(info) == 1:
            pages[rel[1].strip()] = info[0]
    return pages


def calls_of(header: str | None) -> tuple[int, int] | None:
    """How many of how many calls are in the bucket: `32/40`."""
    used, _, most = (header or "").partition("/")
    return (int(used), int(most)) if used.isdecimal() and most.isdecimal() else None


def _is_below(address: str, base: str) -> bool:
    try:
        given, wanted = urlsplit(address), urlsplit(base)
    except ValueError:
        return False
    same = (given.scheme, given.netloc.lower()) == (wanted.scheme, wanted.netloc.lower())
    return same and given.path.startswith(wanted.path)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat() if isoformat is not None else value)
