"""Grants of one shop that cross each other, over replicas that freeze and die: the pair that is
stored is always the one that Shopify takes.
"""

import asyncio
from typing import Any

import pytest

from chassis import crypto
from chassis.kernel import errors
from session_service.app import DATABASE, GRANTS, SETTINGS
from session_service.core.grants import Exchange, Grant, Refresh
from testkit.faults import TcpProxy
from testkit.shopify.apps import is_live, session, settings
from testkit.shopify.faults import Fault
from testkit.shopify.rules import Retry
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
TOKEN = f"/v1/shops/{SHOP}/token"
DAY_MS = 86_400_000


@pytest.fixture(params=Retry, autouse=True)
def retry(request: pytest.FixtureRequest, shopify: MockShopify) -> Retry:
    shopify.rules.retry = request.param
    return shopify.rules.retry


async def put(service: Any, document: dict[str, Any]) -> int:
    answer = await service.call("PUT", f"/v1/sessions/{document['id']}", document)
    assert answer.status == 200, answer.raw
    return int(answer.body["version"])


async def stored(service: Any, shop: str = SHOP) -> dict[str, Any]:
    """As the record has it, past every memory."""
    vault_row = await service.app[GRANTS]._find(f"offline_{shop}")
    document: dict[str, Any] = vault_row.session.document(with_secrets=True)
    return document


def exchange(shopify: MockShopify, shop: str = SHOP) -> Exchange:
    return Exchange(session_token=shopify.session_token(shop), is_forced=True)


async def test_two_exchanges_that_cross_store_the_pair_that_lives(
    start: Any, shopify: MockShopify
) -> None:
    """The first answer would arrive last, with a pair that the second has revoked."""
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    shopify.faults.add(Fault(after=True, delay_s=0.4))
    asked = [replica.app[GRANTS].obtain(ID, SHOP, exchange(shopify)) for replica in replicas]
    await asyncio.gather(*asked)
    assert len(shopify.called("token", SHOP, "exchange")) == 2
    assert is_live(shopify, await stored(replicas[0]))


async def test_exchanges_a_refresh_and_stale_puts_at_once_lock_no_shop_out(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    shops = [f"shop-{n}.myshopify.com" for n in range(12)]
    shopify.faults.add(*(Fault(after=True, delay_s=0.02 * (n % 5)) for n in range(36)))

    async def storm(shop: str) -> None:
        one, other = (replica.app[GRANTS] for replica in replicas)
        name, document = f"offline_{shop}", session(shopify, shop, left_s=0)
        await put(replicas[0], document)
        await asyncio.gather(
            one.obtain(name, shop, exchange(shopify, shop)),
            other.obtain(name, shop, exchange(shopify, shop)),
            other.obtain(name, shop, Refresh()),
            _late(put(replicas[0], document), 0.05),
            _late(put(replicas[1], document), 0.1),
        )

    await asyncio.gather(*(storm(shop) for shop in shops))
    dead = [s for s in shops if not is_live(shopify, await stored(replicas[0], s))]
    assert dead == []


async def _late(work: Any, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await work


async def test_a_stale_put_keeps_the_pair_and_replaces_the_rest(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=0, state="one")
    await put(service, document)
    assert (await service.get(TOKEN)).status == 200
    renewed = await stored(service)
    assert renewed["accessToken"] != document["accessToken"]
    version = await put(service, document | {"state": "two", "mine": [1]})
    now = await stored(service)
    assert (now["state"], now["mine"]) == ("two", [1])
    for name in ("accessToken", "refreshToken", "expires", "refreshTokenExpires"):
        assert now[name] == renewed[name], name
    assert version == (await service.get(TOKEN)).body["version"]
    assert is_live(shopify, now)


async def test_a_pair_is_known_as_stale_after_many_others_and_another_key(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    first = session(shopify, SHOP)
    await put(service, first)
    engine = service.app[GRANTS]
    for _ in range(5):
        before = await engine._find(ID)
        await engine.obtain(ID, SHOP, Refresh(over_gen=before.session.gen))
    keys = service.app[SETTINGS].session_keys.get_secret_value()
    newer = await start(**settings(shopify), session_keys=f"k2:{crypto.new_key()},{keys}")
    await put(newer, first)
    assert is_live(shopify, await stored(newer))


async def test_a_pair_that_nobody_knows_replaces_and_the_old_one_is_kept_behind_it(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    first = session(shopify, SHOP)
    await put(service, first)
    second = session(shopify, SHOP)
    await put(service, second)
    held = await service.app[GRANTS]._find(ID)
    assert (await stored(service))["accessToken"] == second["accessToken"]
    assert held.session.previous_refresh == first["refreshToken"]
    # A pair that a PUT has replaced is not one that we retired: it may be put back.
    await put(service, first)
    assert (await stored(service))["accessToken"] == first["accessToken"]


@pytest.mark.parametrize("renews", [True, False])
async def test_a_winner_that_froze_neither_overwrites_nor_is_believed(
    start: Any, shopify: MockShopify, renews: bool
) -> None:
    frozen, other = await start(**settings(shopify)), await start(**settings(shopify))
    await put(frozen, session(shopify, SHOP, left_s=0))
    thawed = asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=thawed))

    def grant() -> Grant:
        return Refresh() if renews else exchange(shopify)

    asking = asyncio.create_task(frozen.app[GRANTS].obtain(ID, SHOP, grant()))
    await eventually(lambda: len(shopify.called("token")) == 1)
    # Its time ran out while it did not run.
    await other.app[DATABASE].execute("update grant_lease set until = now()")
    second = await other.app[GRANTS].obtain(ID, SHOP, grant())
    thawed.set()
    first = await asking
    assert first.tokens.same_pair(second.tokens)
    assert is_live(shopify, await stored(other))


async def test_who_lost_the_lease_does_not_commit_before_its_new_owner(
    start: Any, shopify: MockShopify
) -> None:
    frozen, other = await start(**settings(shopify)), await start(**settings(shopify))
    await put(frozen, session(shopify, SHOP, left_s=0))
    thawed, answered = asyncio.Event(), asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=thawed), Fault(after=True, hold=answered))
    first = asyncio.create_task(frozen.app[GRANTS].obtain(ID, SHOP, Refresh()))
    await eventually(lambda: len(shopify.called("token")) == 1)
    await other.app[DATABASE].execute("update grant_lease set until = now()")
    second = asyncio.create_task(other.app[GRANTS].obtain(ID, SHOP, Refresh()))
    await eventually(lambda: len(shopify.called("token")) == 2)
    thawed.set()
    with pytest.raises(errors.Unavailable) as raised:
        await first
    assert raised.value.code == "refresh_in_progress"
    answered.set()
    await second
    assert is_live(shopify, await stored(other))


async def test_a_lease_that_may_be_anothers_asks_nothing_more(
    start: Any, shopify: MockShopify, clock: Any
) -> None:
    """Between two tries it froze for longer than its lease lasts."""
    service = await start(**settings(shopify), clock=clock)
    ends_ms = int(clock.now().timestamp() * 1000)
    await put(service, session(shopify, SHOP, expires=ends_ms))
    shopify.faults.add(Fault.answers(503, times=3))
    asking = asyncio.create_task(service.get(TOKEN))
    await eventually(lambda: len(shopify.called("token")) == 1)
    clock.advance(7)
    answer = await asking
    assert (answer.status, answer.body["code"]) == (503, "refresh_in_progress")
    assert len(shopify.called("token")) == 1


async def test_postgres_away_during_the_commit_costs_nothing(
    start: Any, shopify: MockShopify, database: str
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(**settings(shopify), database_url=proxy.url(database))
        whole = await start(**settings(shopify))
        document = session(shopify, SHOP, left_s=0)
        await put(service, document)
        answered = asyncio.Event()
        shopify.faults.add(Fault(after=True, hold=answered))
        asking = asyncio.create_task(service.get(TOKEN))
        await eventually(lambda: len(shopify.called("token")) == 1)
        await proxy.refuses()
        answered.set()
        # Time for more than one attempt at the commit, of which none may come through.
        await asyncio.sleep(0.3)
        assert (await stored(whole))["accessToken"] == document["accessToken"]
        await proxy.passes()
        answer = await asking
        assert answer.status == 200, answer.raw
        assert is_live(shopify, await stored(whole))


async def test_without_postgres_nothing_is_renewed(
    start: Any, shopify: MockShopify, database: str
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(**settings(shopify), database_url=proxy.url(database))
        await put(service, session(shopify, SHOP, left_s=0))
        await proxy.refuses()
        answer = await service.get(TOKEN)
        assert (answer.status, answer.body["code"]) == (503, "database_unavailable")
        assert not shopify.called("token")


async def test_who_installs_again_is_not_undone_by_a_late_uninstall(
    start: Any, shopify: MockShopify
) -> None:
    """Granted and told of by the same clock, which is an hour ahead of ours."""
    shopify.clock.advance(3600)
    service = await start(**settings(shopify))
    await service.app[GRANTS].obtain(ID, SHOP, exchange(shopify))
    uninstalled_at = shopify.clock.iso()[:26] + "Z"
    shopify.uninstall(SHOP)
    shopify.clock.advance(5)
    shopify.install(SHOP)
    await service.app[GRANTS].obtain(ID, SHOP, exchange(shopify))
    gone = await service.call("DELETE", f"/v1/shops/{SHOP}?before={uninstalled_at}")
    assert gone.body == {"deleted": 0}
    assert is_live(shopify, await stored(service))
    now = shopify.clock.iso()[:26] + "Z"
    gone = await service.call("DELETE", f"/v1/shops/{SHOP}?before={now}")
    assert gone.body == {"deleted": 1}


async def test_versions_never_come_again(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    seen = []
    for _ in range(3):
        session_ = await service.app[GRANTS].obtain(ID, SHOP, exchange(shopify))
        seen += [session_.version]
        assert session_.gen == session_.version
        await service.call("DELETE", f"/v1/sessions/{ID}")
    assert seen == sorted(set(seen))


async def test_other_changes_of_a_session_do_not_disturb_its_renewal(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=0)
    await put(service, document)
    answered = asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=answered))
    asking = asyncio.create_task(service.get(TOKEN))
    await eventually(lambda: len(shopify.called("token")) == 1)
    await put(service, document | {"state": "changed meanwhile"})
    answered.set()
    assert (await asking).status == 200
    now = await stored(service)
    assert is_live(shopify, now)
    assert now["state"] == "changed meanwhile"


async def test_a_pair_that_was_put_meanwhile_wins_over_a_renewal(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    answered = asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=answered))
    asking = asyncio.create_task(service.get(TOKEN))
    await eventually(lambda: len(shopify.called("token")) == 1)
    newer = session(shopify, SHOP)
    await put(service, newer)
    answered.set()
    assert (await asking).body["access_token"] == newer["accessToken"]
    assert is_live(shopify, await stored(service))
