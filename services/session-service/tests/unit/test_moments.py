"""When a grant was, by Shopify's clock, which tells whole seconds."""

from datetime import UTC, datetime, timedelta

import pytest

from session_service.clients.shopify import moment_of

TOLD = "Wed, 25 Nov 2026 10:00:05 GMT"
SECOND = datetime(2026, 11, 25, 10, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("off_s", "found_s"),
    [(0.0, 0.0), (0.75, 0.75), (1.5, 0.999999), (10.0, 0.999999), (-0.25, 0.0), (-10.0, 0.0)],
)
def test_our_clock_says_where_in_the_second_it_was_and_never_which_second(
    off_s: float, found_s: float
) -> None:
    came = SECOND + timedelta(seconds=off_s)
    assert moment_of(TOLD, came=came) == SECOND + timedelta(seconds=found_s)


@pytest.mark.parametrize("told", ["", "now", "Wed, 32 Nov 2026 10:00:05 GMT"])
def test_a_date_that_is_none_says_nothing(told: str) -> None:
    assert moment_of(told, came=SECOND) is None
