"""Conditions on a document of data, as JSON: no code, no loops, and always an answer.

    {"and": [{"field": "order.total", "op": "gte", "value": 50},
             {"not": {"field": "customer.tags", "op": "contains", "value": "vip"}}]}

A field that is not there is null. Numbers compare with numbers and texts with texts; between other
types `lt`, `lte`, `gt`, `gte`, `in` and `contains` are false.
"""

from collections.abc import Callable, Mapping
from typing import Any

MAX_DEPTH = 10
MAX_PARTS = 100
Condition = dict[str, Any]


def _equal(have: Any, want: Any) -> bool:
    """True is no 1 in JSON."""
    if isinstance(have, bool) is not isinstance(want, bool):
        return False
    return bool(have == want)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(have: Any, want: Any) -> bool:
        return ((_is_number(have) and _is_number(want)) or _are_texts(have, want)) and compare(
            have, want
        )

    return ordered


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(have: Any, want: Any) -> bool:
    return isinstance(have, str) and isinstance(want, str)


def _contains(have: Any, want: Any) -> bool:
    if isinstance(have, list):
        return any(_equal(each, want) for each in have)
    return _are_texts(have, want) and want in have


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "ne": lambda have, want: not _equal(have, want),
    "lt": _ordered(lambda have, want: have < want),
    "lte": _ordered(lambda have, want: have <= want),
    "gt": _ordered(lambda have, want: have > want),
    "gte": _ordered(lambda have, want: have >= want),
    "in": lambda have, want: _contains(want, have) and isinstance(want, list),
    "contains": _contains,
    "exists": lambda have, want: (have is not None) is want,
}


def check(condition: Condition) -> Condition:
    """The same; raises ValueError that says what is wrong with it."""
    if _parts(condition, 1) > MAX_PARTS:
        raise ValueError(f"a condition has at most {MAX_PARTS} parts")
    return condition


def holds(condition: Condition, data: Mapping[str, Any]) -> bool:
    """Of a condition that was checked."""
    if "and" in condition:
        return all(holds(each, data) for each in condition["and"])
    if "or" in condition:
        return any(holds(each, data) for each in condition["or"])
    if "not" in condition:
        return not holds(condition["not"], data)
    have = _field(data, condition["field"])
    return OPERATORS[condition["op"]](have, condition.get("value"))


def _parts(condition: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ValueError(f"a condition is nested at most {MAX_DEPTH} deep")
    if not isinstance(condition, dict):
        raise ValueError("a condition is an object")
    members = set(condition)
    if members in ({"and"}, {"or"}):
        (inner,) = condition.values()
        if not isinstance(inner, list) or not inner:
            raise ValueError("and, or: a list of conditions")
        return 1 + sum(_parts(each, depth + 1) for each in inner)
    if members == {"not"}:
        return 1 + _parts(condition["not"], depth + 1)
    _check_comparison(condition)
    return 1


def _check_comparison(condition: Condition) -> None:
    field, op, value = (condition.get(name) for name in ("field", "op", "value"))
    if not set(condition) <= {"field", "op", "value"} or not isinstance(field, str) or not field:
        raise ValueError("a condition is {field, op, value}, {and: […]}, {or: […]} or {not: {…}}")
    if not isinstance(op, str) or op not in OPERATORS:
        raise ValueError(f"op is one of {', '.join(OPERATORS)}")
    if op == "in" and not isinstance(value, list):
        raise ValueError("in: value is a list")
    if op == "exists" and not isinstance(value, bool):
        raise ValueError("exists: value is true or false")


def _field(data: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and step.isascii() and step.isdigit():
            data = data[int(step)] if len(step) < 7 and int(step) < len(data) else None
        else:
            return None
    return data
