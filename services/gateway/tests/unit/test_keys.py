"""API keys: their form, and who is let in by them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.kernel import errors
from gateway.core import gcra, keys
from gateway.core.authenticate import Authenticate
from testkit.clock import FakeClock

ADMIN = "a" * 40


def test_a_fresh_key_carries_its_id() -> None:
    identifier, key = keys.mint()
    assert keys.id_of(key) == identifier
    assert key.startswith(f"msk_{identifier}_")
    assert keys.mint() != keys.mint()


@pytest.mark.parametrize("place", [4, 13, 30, -1])
def test_a_typing_mistake_is_seen_without_a_look_up(place: int) -> None:
    _, key = keys.mint()
    wrong = list(key)
    wrong[place] = "x" if wrong[place] != "x" else "y"
    assert keys.id_of("".join(wrong)) is None


@pytest.mark.parametrize("text", ["", "msk_", "Bearer x", "msk_a_b_c", "ü" * 60])
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert keys.id_of(text) is None


class Store:
    """A key store with a list."""

    def __init__(self, *known: keys.ApiKey) -> None:
        self.known = {key.id: key for key in known}
        self.asked = 0

    async def find(self, key_id: str) -> keys.ApiKey | None:
        self.asked += 1
        return self.known.get(key_id)


def a_key(clock: FakeClock) -> tuple[keys.ApiKey, str]:
    identifier, secret = keys.mint()
    key = keys.ApiKey(
        id=identifier,
        name="k",
        digest=keys.digest(secret),
        scopes=frozenset({"jobs:read"}),
        shop=None,
        expires_at=clock.now() + timedelta(hours=1),
        created_at=datetime.now(UTC),
    )
    return key, secret


def door(clock: FakeClock, store: Store) -> Authenticate:
    return Authenticate(
        table=keys.KeyTable(),
        store=store,  # type: ignore[arg-type]  # only what a door needs
        failures=gcra.Buckets(clock.monotonic),
        admin_key=ADMIN,
        clock=clock,
    )


async def test_the_bootstrap_key_is_an_operator(clock: FakeClock) -> None:
    identity = await door(clock, Store())(ADMIN, "10.0.0.1")
    assert identity.is_admin


async def test_a_key_too_new_for_the_copy_is_asked_for_once(clock: FakeClock) -> None:
    key, secret = a_key(clock)
    store = Store(key)
    authenticate = door(clock, store)
    for _ in range(2):
        identity = await authenticate(secret, "10.0.0.1")
    assert (identity.key_id, identity.is_admin, store.asked) == (key.id, False, 1)


async def test_an_expired_key_is_no_key(clock: FakeClock) -> None:
    key, secret = a_key(clock)
    authenticate = door(clock, Store(key))
    await authenticate(secret, "10.0.0.1")
    clock.advance(3601)
    with pytest.raises(errors.Unauthenticated):
        await authenticate(secret, "10.0.0.1")


async def test_the_right_id_with_another_secret_is_no_key(clock: FakeClock) -> None:
    key, secret = a_key(clock)
    with pytest.raises(errors.Unauthenticated):
        await door(clock, Store(replace(key, digest=keys.digest("other"))))(secret, "10.0.0.1")


async def test_ten_failures_a_minute_then_not_even_a_look_up(clock: FakeClock) -> None:
    store = Store()
    authenticate = door(clock, store)
    for _ in range(10):
        with pytest.raises(errors.Unauthenticated):
            await authenticate(keys.mint()[1], "2001:db8::1")
    asked = store.asked
    with pytest.raises(errors.Limited):
        await authenticate(keys.mint()[1], "2001:db8::2")
    assert store.asked == asked
    with pytest.raises(errors.Unauthenticated):
        await authenticate(keys.mint()[1], "2001:db8:0:1::1")
    clock.advance(6.1)
    with pytest.raises(errors.Unauthenticated):
        await authenticate(keys.mint()[1], "2001:db8::1")
