"""What a condition says of a document, and which ones are none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketing import conditions
from marketing.conditions import check, holds

DATA = {
    "order": {"total": 50.0, "items": [{"sku": "rose"}], "is_gift": True, "at": "2026-11-24"},
    "tags": ["vip", "el"],
    "name": "Ελένη",
    "nothing": None,
}


def field(name: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"field": name, "op": op, "value": value}


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        (field("order.total", "eq", 50), True),
        (field("order.total", "ne", 50), False),
        (field("order.total", "gte", 50), True),
        (field("order.total", "gt", 50), False),
        (field("order.total", "lt", "90"), False),
        (field("order.total", "gt", "9"), False),
        (field("order.at", "lt", "2026-11-25"), True),
        (field("order.is_gift", "eq", 1), False),
        (field("order.is_gift", "gt", 0), False),
        (field("order.is_gift", "eq", True), True),
        (field("order.items.0.sku", "eq", "rose"), True),
        (field("order.items.1.sku", "eq", None), True),
        (field("order.items.-1.sku", "exists", True), False),
        (field("tags", "contains", "vip"), True),
        (field("tags", "contains", "vi"), False),
        (field("name", "contains", "λέ"), True),
        (field("name", "in", ["Ελένη", "Νίκος"]), True),
        (field("missing", "in", ["x"]), False),
        (field("missing", "exists", False), True),
        (field("nothing", "exists", False), True),
        (field("name", "exists", True), True),
        (field("missing", "ne", 1), True),
        (field("name.first", "eq", None), True),
        ({"and": [field("name", "exists", True), field("tags", "contains", "x")]}, False),
        ({"or": [field("name", "exists", False), field("tags", "contains", "el")]}, True),
        ({"not": {"not": field("name", "exists", True)}}, True),
    ],
)
def test_answers(condition: dict[str, Any], answer: bool) -> None:
    assert holds(check(condition), DATA) is answer


def nested(depth: int) -> dict[str, Any]:
    return field("a", "eq", 1) if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"and": []},
        {"and": {}},
        {"and": [1]},
        {"not": []},
        {"and": [field("a", "eq")], "or": [field("a", "eq")]},
        {"field": "", "op": "eq"},
        {"field": 1, "op": "eq"},
        {"field": "a", "op": "matches", "value": "(a+)+"},
        {"field": "a", "op": ["eq"]},
        {"field": "a", "op": "eq", "values": 1},
        field("a", "in", "abc"),
        field("a", "exists", 1),
        nested(11),
        {"or": [field("a", "eq")] * 100},
    ],
)
def test_no_condition(condition: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(condition)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(conditions.OPERATORS)), JSON, JSON)
def test_every_comparison_that_is_one_has_an_answer(op: str, have: Any, want: Any) -> None:
    condition = field("a", op, want)
    try:
        check(condition)
    except ValueError:
        return
    assert holds(condition, {"a": have}) is not holds({"not": condition}, {"a": have})
