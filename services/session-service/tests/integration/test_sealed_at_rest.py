"""Who reads our stores finds no token, and who moves what is sealed finds nothing at all."""

from typing import Any

import asyncpg
import pytest
import redis

from chassis import crypto
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
PATH = f"/v1/sessions/{ID}"
SECRETS = ("shpat_very_secret_one", "shprt_very_secret_two", "staff@example.com", "shpat_new_one")
SESSION = {
    "id": ID,
    "shop": SHOP,
    "accessToken": SECRETS[0],
    "refreshToken": SECRETS[1],
    "onlineAccessInfo": {"associated_user": {"id": 7, "email": SECRETS[2]}},
    "unknown": {"accessToken": SECRETS[0]},
}
NEW = {**SESSION, "accessToken": SECRETS[3], "refreshToken": "shprt_next"}


async def fetch(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def test_neither_the_tables_nor_redis_hold_a_token(
    start: Any, database: str, redis_url: str
) -> None:
    service = await start(redis_url=redis_url)
    for session in (SESSION, NEW):
        assert (await service.call("PUT", PATH, session)).status == 200
    [row] = await fetch(database, "select s::text as t, s.* from shopify_session s")
    with redis.Redis.from_url(redis_url) as client:
        copies = [client.get(key) or b"" for key in client.scan_iter()]
    assert len(copies) == 1
    kept = row["t"].encode() + b"".join(copies)
    for secret in (*SECRETS, "shprt_next"):
        assert secret.encode() not in kept
    assert row["previous_refresh_token"] is not None
    assert row["access_token"].startswith("enc:v1:k1:")


async def test_gen_moves_with_the_tokens_and_version_with_everything(
    start: Any, database: str
) -> None:
    service = await start()

    async def stamps() -> tuple[int, int]:
        [row] = await fetch(database, "select gen, version from shopify_session")
        return row["gen"], row["version"]

    await service.call("PUT", PATH, SESSION)
    first = await stamps()
    await service.call("PUT", PATH, {**SESSION, "state": "other"})
    second = await stamps()
    assert first[0] == second[0] and first[1] < second[1]
    await service.call("PUT", PATH, NEW)
    assert second[1] < (await stamps())[0]


async def test_without_the_key_the_fault_is_named_and_nothing_else(
    start: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    await (await start()).call("PUT", PATH, SESSION)
    other = await start(session_keys=f"k1:{crypto.new_key()}")
    for target in (PATH, f"/v1/shops/{SHOP}/token", f"/v1/shops/{SHOP}/sessions"):
        answer = await other.call("GET", target)
        assert (answer.status, answer.body["code"]) == (500, "decrypt_failed")
        assert b"enc:v1" not in answer.raw
    assert (await other.call("GET", "/v1/sessions/another")).status == 404
    said = "".join(capfd.readouterr())
    assert not [secret for secret in (*SECRETS, "enc:v1") if secret in said]


async def test_a_ring_opens_what_its_older_keys_sealed(start: Any, database: str) -> None:
    old = f"a:{crypto.new_key()}"
    await (await start(session_keys=old)).call("PUT", PATH, SESSION)
    service = await start(session_keys=f"b:{crypto.new_key()},{old}")
    assert (await service.call("GET", PATH)).body == SESSION
    await service.call("PUT", PATH, NEW)
    [row] = await fetch(database, "select * from shopify_session")
    assert row["key_id"] == "b"
    assert row["access_token"].startswith("enc:v1:b:")


async def test_what_is_moved_to_another_row_or_column_does_not_open(
    start: Any, database: str
) -> None:
    service = await start()
    await service.call("PUT", PATH, SESSION)
    await service.call("PUT", "/v1/sessions/b", {**SESSION, "id": "b"})
    await fetch(
        database,
        "update shopify_session set access_token ="
        f" (select access_token from shopify_session where id = '{ID}') where id = 'b'",
    )
    await fetch(
        database, f"update shopify_session set access_token = refresh_token where id = '{ID}'"
    )
    fresh = await start()
    for target in ("/v1/sessions/b", PATH):
        assert (await fresh.call("GET", target)).body["code"] == "decrypt_failed"


async def test_no_metric_names_a_shop_or_a_session(service: Any) -> None:
    import prometheus_client

    await service.call("PUT", PATH, SESSION)
    await service.call("GET", PATH)

    def exposed() -> str:
        return prometheus_client.generate_latest().decode()

    await eventually(lambda: "session_reads_total" in exposed())
    assert SHOP not in exposed()
