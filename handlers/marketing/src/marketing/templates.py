"""Message texts as Liquid templates, within bounds.

An undefined variable renders as nothing, as in Shopify's own Liquid, and the `default` filter
serves for it and for an empty cell of a CSV alike. There is no `include` and no `render`. The text
that comes out is NFC, with LF line ends and no white space around it: what people see, at the
least cost in segments.
"""

import functools
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from liquid import BoundTemplate, Environment
from liquid.exceptions import LiquidError

MAX_SOURCE_CHARS = 5_000
MAX_VALUE_CHARS = 10_000
COMPILED = 256


class _Liquid(Environment):
    block_nesting_limit = 10
    context_depth_limit = 10
    loop_iteration_limit = 1_000
    local_namespace_limit = 64 * 1024
    output_stream_limit = 4 * MAX_VALUE_CHARS


class TooMuch(LiquidError):
    """A value grew beyond what a text message could ever need."""


def check(source: str) -> None:
    """Raises ValueError that says what is wrong, and where."""
    if len(source) > MAX_SOURCE_CHARS:
        raise ValueError(f"the template is longer than {MAX_SOURCE_CHARS} characters")
    try:
        _compiled(source)
    except LiquidError as error:
        raise ValueError(f"this is no Liquid template: {_told(error)}") from None


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Raises ValueError when the template cannot be rendered with these variables."""
    try:
        text = _compiled(source).render(dict(variables))
    except LiquidError as error:
        raise ValueError(f"the template failed: {_told(error)}") from None
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").strip())


@functools.lru_cache(maxsize=COMPILED)
def _compiled(source: str) -> BoundTemplate:
    environment = _environment()
    template = environment.from_string(source)
    if unknown := template.analyze().filters.keys() - environment.filters.keys():
        raise LiquidError(f"unknown filter {', '.join(sorted(unknown))}", token=None)
    return template


@functools.cache
def _environment() -> Environment:
    environment = _Liquid()
    for tag in ("include", "render"):
        del environment.tags[tag]
    for name, function in environment.filters.items():
        environment.filters[name] = _bounded(function)
    return environment


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A chain of filters multiplies: nothing long goes in, and no two long things meet."""

    @functools.wraps(function)
    def bounded(left: object, *args: object, **kwargs: object) -> object:
        longest = max((_length(arg) for arg in (*args, *kwargs.values())), default=0)
        if max(_length(left), longest, _length(left) * longest // 100) > MAX_VALUE_CHARS:
            raise TooMuch(f"a value is longer than {MAX_VALUE_CHARS} characters", token=None)
        try:
            return function(left, *args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            raise LiquidError(f"a filter failed: {type(error).__name__}", token=None) from error

    return bounded


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | range | dict) else 0


def _told(error: LiquidError) -> str:
    return str(error.message)
