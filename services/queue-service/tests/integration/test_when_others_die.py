"""The database away, refusing or silent; the gateway as the only road for events."""

from typing import Any

from aiohttp import web

from chassis.kernel import ids
from testkit.faults import TcpProxy
from testkit.signals import eventually

HASTE = {"Request-Timeout-Ms": "400"}


async def test_without_the_database_every_answer_is_503_and_a_repeat_makes_one_job(
    start: Any, dsn: str
) -> None:
    async with TcpProxy.before(dsn) as proxy:
        service = await start(database_url=proxy.url(dsn))
        said = {"kind": "k", "id": str(ids.new_id())}
        for breaks in (proxy.hangs, proxy.refuses):
            done = breaks()
            if done is not None:
                await done
            for method, path, body in (
                ("POST", "/v1/jobs", said),
                ("GET", f"/v1/jobs/{said['id']}", None),
                ("POST", "/v1/batches", {"name": "b", "kind": "k"}),
            ):
                refused = await service.call(method, path, body, headers=HASTE)
                assert refused.status in (503, 504), (path, refused.raw)
                assert refused.body["retryable"] is True
                assert refused.body["code"] != "not_found"
            await proxy.passes()

        async def is_back() -> bool:
            return (await service.post("/v1/jobs", said)).status in (200, 201)

        await eventually(is_back, within_s=15)
        assert (await service.post("/v1/jobs", said)).status == 200
        assert await service.count() == 1


async def test_without_a_bus_events_go_to_the_gateway(start: Any) -> None:
    taken: list[dict[str, Any]] = []
    answers = [503, 200]

    async def take(request: web.Request) -> web.Response:
        status = answers.pop(0) if answers else 200
        if status == 200:
            taken.extend((await request.json())["events"])
        return web.json_response({"taken": 1, "known": 0}, status=status)

    app = web.Application()
    app.router.add_post("/internal/v1/events", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        service = await start(gateway_url=f"http://{host}:{port}")
        batch = (await service.post("/v1/batches", {"name": "b", "kind": "k"})).body
        await service.post(f"/v1/batches/{batch['id']}:close")
        (event,) = await eventually(lambda: taken, within_s=10)
        assert event["data"]["batch_id"] == batch["id"]

        async def outbox_is_empty() -> bool:
            return bool((await service.fetch("select count(*) from outbox"))[0][0] == 0)

        await eventually(outbox_is_empty)
        assert len({one["id"] for one in taken}) == 1
    finally:
        await runner.cleanup()
