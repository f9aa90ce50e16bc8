"""Values that are cheap to make are still values."""

from chassis.kernel.values import value


@value
class Pair:
    left: int
    right: int = 0


def test_equal_fields_are_equal_values() -> None:
    assert Pair(1) == Pair(1, 0)
    assert {Pair(1): "one"}[Pair(1)] == "one"
    assert Pair(1) != Pair(2)


def test_there_is_no_place_for_anything_else() -> None:
    assert not hasattr(Pair(1), "__dict__")
