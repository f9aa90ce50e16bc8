"""A token that is told again is still the token of the record, for the same caller and wish."""

from datetime import UTC, datetime
from typing import Any

import pytest

from session_service.api import keys, told
from testkit.clock import FakeClock

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
PATH = f"/v1/sessions/{ID}"
TOKEN = f"/v1/shops/{SHOP}/token"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC))


def session(clock: FakeClock, token: str, *, left_s: float = 3600) -> dict[str, Any]:
    ends_ms = int((clock.now().timestamp() + left_s) * 1000)
    return {"id": ID, "shop": SHOP, "accessToken": token, "expires": ends_ms}


async def test_a_change_and_a_deletion_are_seen_at_once(start: Any, clock: FakeClock) -> None:
    service = await start(clock=clock)
    for token in ("one", "two"):
        await service.call("PUT", PATH, session(clock, token))
        for _ in range(3):
            answer = await service.call("GET", TOKEN)
            assert answer.body["access_token"] == token
        assert answer.headers["Mainstay-Backend"] == "memory"
        assert answer.headers["Cache-Control"] == "no-store"
    await service.call("DELETE", PATH)
    assert (await service.call("GET", TOKEN)).status == 404


async def test_another_replica_is_two_seconds_behind_at_most(start: Any, clock: FakeClock) -> None:
    one, other = await start(clock=clock), await start(clock=clock)
    await one.call("PUT", PATH, session(clock, "one"))
    for _ in range(3):
        assert (await other.call("GET", TOKEN)).body["access_token"] == "one"
    await one.call("PUT", PATH, session(clock, "two"))
    clock.advance(2.0)
    assert (await other.call("GET", TOKEN)).body["access_token"] == "two"


async def test_it_is_told_to_the_same_caller_alone(start: Any, clock: FakeClock) -> None:
    service = await start(clock=clock)
    await service.call("PUT", PATH, session(clock, "one"))
    for _ in range(2):
        assert (await service.call("GET", TOKEN)).status == 200
    refused = await service.call("GET", TOKEN, shop="other.example")
    assert (refused.status, refused.body["code"]) == (403, "other_shop")
    blind = await service.call("GET", TOKEN, scopes=frozenset({"sessions:read"}))
    assert (blind.status, blind.body["code"]) == (403, "missing_scope")


async def test_a_token_that_has_ended_is_not_told_again(start: Any, clock: FakeClock) -> None:
    service = await start(clock=clock)
    await service.call("PUT", PATH, session(clock, "one", left_s=1.5))
    for _ in range(2):
        assert (await service.call("GET", f"{TOKEN}?min_ttl=0")).status == 200
    clock.advance(1.6)
    ended = await service.call("GET", f"{TOKEN}?min_ttl=0")
    assert (ended.status, ended.body["code"]) == (409, "reauth_required")


async def test_what_is_kept_for_that_is_bounded(
    start: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "MAX_ANSWERS", 3)
    service = await start(clock=clock)
    await service.call("PUT", PATH, session(clock, "one"))
    for least in range(10):
        assert (await service.call("GET", f"{TOKEN}?min_ttl={least}")).status == 200
    assert len(service.app[keys.TOLD]._answers) <= 3
