"""The environment, read."""

import pytest

from queue_service.core.queues import seeds
from queue_service.settings import DEFAULT_CONCURRENCY, concurrency


def test_concurrency_is_read_by_queue() -> None:
    assert concurrency(" sms=20, own=1 ,") == {"sms": 20, "own": 1}
    assert concurrency("") == {}


@pytest.mark.parametrize("wrong", ["sms", "sms=", "sms=0", "sms=x", "=5", "Sms=5", "sms=10001"])
def test_what_is_no_concurrency_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"sms|=5|Sms"):
        concurrency(wrong)


def test_the_default_is_what_the_seeds_say() -> None:
    given = {queue.name: queue.concurrency for queue in seeds({})}
    assert {**given, **concurrency(DEFAULT_CONCURRENCY)} == given
