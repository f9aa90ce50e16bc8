"""Reading what callers send, and saying exactly what is wrong with it.

Bytes that are not one JSON value are 400; a value outside what we take is 422 with pointers.
"""

import asyncio
import json
import math
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar, get_origin

import jiter
import orjson
import pydantic
from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web.answer import Answer

Model = TypeVar("Model", bound=pydantic.BaseModel)

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
MAX_DEPTH = 64
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
JSON_TYPES = frozenset({"application/json"})
JSON_ANSWER = "application/json; charset=utf-8"

# Cheap signs that a body may hold what `screen` refuses; most bodies show none and skip the walk.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPED = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")
_SHAPES = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_INTEGER, _LARGE_EXPONENT = b"0" * 19, b"0e000"


async def read_bytes(request: web.Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, bounded in size and time."""
    if request.content_length is not None and request.content_length > limit:
        raise errors.TooLarge(f"the body is over {limit} bytes")
    content = request.content
    if content.is_eof():
        # Most bodies are there by now: there is nothing to wait for.
        raw = content.read_nowait()
        if len(raw) > limit:
            raise errors.TooLarge(f"the body is over {limit} bytes")
        return raw
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in content.iter_any():
                size += len(piece)
                if size > limit:
                    raise errors.TooLarge(f"the body is over {limit} bytes")
                pieces.append(piece)
    except TimeoutError:
        raise errors.Malformed("the body did not arrive in time") from None
    return b"".join(pieces)


async def read_json(
    request: web.Request, model: type[Model], *, limit: int = MAX_BODY_BYTES
) -> Model:
    """The body as the given model."""
    require_json(request)
    return parse(await read_bytes(request, limit=limit), model)


class Remembered(Generic[Model]):
    """Reads bodies of a frozen model that callers send again and again in the same words: what was
    understood once is not parsed twice. Bounded: when it is full it begins anew."""

    def __init__(self, model: type[Model], *, capacity: int = 4096, max_bytes: int = 512) -> None:
        self._model = model
        self._capacity, self._max_bytes = capacity, max_bytes
        self._known: dict[bytes, Model] = {}

    async def read_json(self, request: web.Request) -> Model:
        require_json(request)
        raw = await read_bytes(request)
        known = self._known.get(raw)
        return self._learn(raw) if known is None else known

    def _learn(self, raw: bytes) -> Model:
        parsed = parse(raw, self._model)
        if len(raw) <= self._max_bytes:
            if len(self._known) >= self._capacity:
                self._known.clear()
            self._known[raw] = parsed
        return parsed


def require_json(request: web.Request, types: frozenset[str] = JSON_TYPES) -> None:
    if request.headers.get("Content-Type") in types and "Content-Encoding" not in request.headers:
        return
    if request.content_type not in types:
        raise errors.Unsupported(f"send {' or '.join(sorted(types))}")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise errors.Unsupported("send UTF-8")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise errors.Unsupported("send the body without a content encoding")


def parse(raw: bytes, model: type[Model]) -> Model:
    """Validate raw JSON strictly: no coercion, unknown members named."""
    return parse_both(raw, model)[0]


def parse_both(raw: bytes, model: type[Model]) -> tuple[Model, Any]:
    """As `parse`; beside the model the value as its caller said it."""
    value = parse_value(raw)
    try:
        return model.model_validate_json(raw), value
    except pydantic.ValidationError as error:
        raise invalid(error) from None


def parse_value(raw: bytes) -> Any:
    """Any one JSON value, screened."""
    try:
        value = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise _refusal(str(error), raw) from None
    if _is_suspicious(raw) or _may_be_deep(raw, value):
        screen(value)
    return value


def _is_suspicious(raw: bytes) -> bool:
    """Searched byte by byte in C: a pattern of all this would cost more than the parsing."""
    shapes = raw.translate(_SHAPES, b"+")
    if _LONG_INTEGER in shapes or _LARGE_EXPONENT in shapes:
        return True
    return b"\\u" in raw and _ESCAPED.search(raw) is not None


def _may_be_deep(raw: bytes, value: Any) -> bool:
    """Many values are long lists, few are deep."""
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if type(each) is dict or type(each) is list]:
        depth += 1
        level = [
            child for each in level for child in (each.values() if type(each) is dict else each)
        ]
    return depth


def _refusal(message: str, raw: bytes) -> errors.Fault:
    if "recursion limit" in message:
        flaw = errors.Flaw("", f"nested deeper than {MAX_DEPTH}")
        return errors.Invalid(f"nested deeper than {MAX_DEPTH}", flaws=[flaw])
    if _SURROGATE.search(raw):
        # The fast parser stops at half a pair; the slow one reads on, so the place can be named.
        try:
            screen(json.loads(raw))
        except errors.Invalid as fault:
            return fault
        except (ValueError, RecursionError):
            pass
    return errors.Malformed(f"the body is not valid JSON: {message}")


def screen(value: Any) -> None:
    """Refuse what no store of ours keeps faithfully, naming the place."""
    flaws = list(_unfaithful(value, "", 0))
    if flaws:
        raise errors.Invalid("the document holds values that cannot be kept", flaws=flaws[:20])


def _unfaithful(value: Any, pointer: str, depth: int) -> Iterator[errors.Flaw]:
    if depth > MAX_DEPTH:
        yield errors.Flaw(pointer, f"nested deeper than {MAX_DEPTH}")
        return
    match value:
        case str():
            yield from _unfaithful_text(value, pointer)
        case bool() | None:
            pass
        case float():
            if not math.isfinite(value):
                yield errors.Flaw(pointer, "a number beyond the range of a double")
        case int():
            if not INT_MIN <= value <= INT_MAX:
                yield errors.Flaw(pointer, "an integer beyond 64 bit")
        case list():
            for index, item in enumerate(value):
                yield from _unfaithful(item, f"{pointer}/{index}", depth + 1)
        case dict():
            for name, item in value.items():
                yield from _unfaithful_text(name, pointer)
                yield from _unfaithful(item, f"{pointer}/{_escape(name)}", depth + 1)


def _unfaithful_text(text: str, pointer: str) -> Iterator[errors.Flaw]:
    if "\x00" in text:
        yield errors.Flaw(pointer, "holds U+0000")
    if any("\ud800" <= char <= "\udfff" for char in text):
        yield errors.Flaw(pointer, "holds half a surrogate pair")


def invalid(error: pydantic.ValidationError, *, code: str | None = None) -> errors.Invalid:
    """pydantic's findings as our flaws; never the offending input itself."""
    flaws = [
        errors.Flaw("".join(f"/{_escape(str(part))}" for part in found["loc"]), _say(found))
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = flaws[0]
    return errors.Invalid(
        f"{first.pointer or 'the document'}: {first.detail}", code=code, flaws=flaws
    )


def _say(found: Any) -> str:
    if found["type"] == "extra_forbidden":
        return "unknown member"
    message: str = found["msg"]
    return message.removeprefix("Value error, ")


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Query parameters as the given model; unknown or wrong ones are 422, and those that are given
    twice where the model has no list (one of `contracts.wire.Names`)."""
    if "?" not in request.raw_path:
        known: Model = _nothing_given(model)
        return known
    lists = {n for n, field in model.model_fields.items() if get_origin(field.annotation) is list}
    repeated = {name for name in set(request.query) - lists if len(request.query.getall(name)) > 1}
    if repeated:
        raise errors.Invalid(
            "a parameter is given twice",
            flaws=[errors.Flaw(f"/{name}", "given twice") for name in sorted(repeated)],
        )
    given = {name: ",".join(request.query.getall(name)) for name in request.query}
    screen(given)
    return _understood(model, given)


@cache
def _nothing_given(model: type[Model]) -> Model:
    """Models of queries are frozen: one is for all."""
    return _understood(model, {})


def _understood(model: type[Model], given: dict[str, str]) -> Model:
    try:
        return model.model_validate_strings(given)
    except pydantic.ValidationError as error:
        raise invalid(error) from None


def respond(
    value: Any,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    road: str | None = None,
    backend: str | None = None,
    degraded: str | None = None,
) -> web.Response:
    """A JSON answer that says which road and backend made it."""
    said = {"Content-Type": JSON_ANSWER, **(headers or {})}
    if road is not None:
        said["Mainstay-Road"] = road
    if backend is not None:
        said["Mainstay-Backend"] = backend
    if degraded is not None:
        said["Degraded"] = degraded
    return Answer(status=status, body=_encoded(value), headers=said)


def _encoded(value: Any) -> bytes:
    """Moments in UTC end in Z, as `rfc3339` says them."""
    if type(value) is not dict and isinstance(value, pydantic.BaseModel):
        return value.model_dump_json(by_alias=True).encode()
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z)
    except TypeError:
        # A number like 1e300 comes out of jsonb as an integer of 301 digits.
        return json.dumps(value, default=_plain, ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    raise TypeError(type(value).__name__)
