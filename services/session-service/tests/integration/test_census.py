"""How many sessions need somebody is counted, by what is wrong with them."""

import time
from typing import Any

import asyncpg
import prometheus_client
import pytest

from chassis import crypto
from chassis.web import health
from session_service import metrics
from session_service.api.keys import CLEANUP
from session_service.app import DATABASE, VAULT
from session_service.loops.census import CensusLoop
from session_service.store.census import PostgresCensus

LATER = int(time.time() * 1000) + 3_600_000
PAIR = {"accessToken": "a", "refreshToken": "r", "expires": LATER}
WITHOUT_END = {"accessToken": "a"}
WITHOUT_REFRESH = {"accessToken": "a", "expires": LATER}


async def put(service: Any, session_id: str, members: dict[str, Any]) -> None:
    value = {"id": session_id, "shop": "olives.example", **members}
    assert (await service.call("PUT", f"/v1/sessions/{session_id}", value)).status == 200


async def counted(service: Any) -> dict[str, float]:
    store = PostgresCensus(service.app[DATABASE])
    await CensusLoop(store, key_id=service.app[VAULT].key_id).run_once()
    [family] = metrics.SESSIONS.collect()
    return {sample.labels["kind"]: sample.value for sample in family.samples}


async def test_each_kind_is_counted_and_online_sessions_are_not(start: Any, database: str) -> None:
    old = f"k0:{crypto.new_key()}"
    await put(await start(session_keys=old), "sealed-under-another", PAIR)
    service = await start(session_keys=f"k1:{crypto.new_key()},{old}")
    for session_id, members in (
        ("pair", PAIR),
        ("endless 1", WITHOUT_END),
        ("endless 2", WITHOUT_END),
        ("no refresh", WITHOUT_REFRESH),
        ("online", {**WITHOUT_REFRESH, "isOnline": True}),
        ("lapsed", PAIR),
        ("left", PAIR),
    ):
        await put(service, session_id.replace(" ", "-"), members)
    connection = await asyncpg.connect(database)
    try:
        for session_id, status in (("lapsed", "reauth_required"), ("left", "revoked")):
            await connection.execute(
                "update shopify_session set status = $2 where id = $1", session_id, status
            )
    finally:
        await connection.close()
    assert await counted(service) == {
        "non_expiring": 2,
        "refreshless": 1,
        "reauth_required": 1,
        "revoked": 1,
        "old_key": 1,
    }


async def test_when_a_cleanup_came_to_its_end_is_told(service: Any) -> None:
    await service.app[health.SUPERVISOR].stop()
    before = time.time()
    await service.app[CLEANUP].when_due()
    await service.app[CLEANUP].now()
    await counted(service)
    finished = prometheus_client.REGISTRY.get_sample_value(
        "session_cleanup_finished_timestamp_seconds"
    )
    assert finished == pytest.approx(before, abs=60)


async def test_what_does_not_open_is_counted(start: Any) -> None:
    await put(await start(), "one", PAIR)
    other = await start(session_keys=f"k1:{crypto.new_key()}")
    before = metrics.UNREADABLE._value.get()
    assert (await other.call("GET", "/v1/sessions/one")).status == 500
    assert metrics.UNREADABLE._value.get() == before + 1
