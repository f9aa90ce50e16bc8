"""The environment, read."""

import pytest

from queue_service.core.queues import seeds
from queue_service.settings import DEFAULT_CONCURRENCY, ApiSettings, concurrency


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


def test_listening_needs_a_line_that_carries_it() -> None:
    def listens(**given: str) -> str | None:
        needed = {"database_url": "a", "service_key": "k", "service_keys_dir": "."}
        return ApiSettings.model_validate({**needed, **given}).listen_dsn

    assert listens() == "a"
    assert listens(postgres_pooler="transaction") is None
    assert listens(postgres_pooler="transaction", database_direct_url="b") == "b"
