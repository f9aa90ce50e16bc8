"""The contract of a queue, through the door."""

from typing import Any

from contracts import jobs as wire

SHOP = "greek-olives.myshopify.com"


async def test_five_queues_exist_from_the_start_and_the_database_wins(
    service: Any, start: Any
) -> None:
    listed = await service.get("/v1/queues?limit=200")
    found = {one.name: one for one in map(wire.Queue.model_validate, listed.body["items"])}
    assert sorted(found) == ["automation", "campaign", "default", "sms", "webhooks"]
    assert [found[name].concurrency for name in sorted(found)] == [10, 5, 10, 20, 10]
    assert found["sms"].retry == wire.RetryPolicy(base_s=2, factor=2, max_s=300, jitter=0.5)
    assert found["default"].served_by == "worker"
    assert (found["webhooks"].served_by, found["webhooks"].max_age_s) == ("pull", 604800)
    assert (await service.call("PATCH", "/v1/queues/sms", {"concurrency": 3})).status == 200
    again = await start(queue_concurrency="sms=7,own=2")
    assert (await again.get("/v1/queues/sms")).body["concurrency"] == 3
    own = (await again.get("/v1/queues/own")).body
    assert (own["concurrency"], own["served_by"]) == (2, "worker")


async def test_put_makes_a_queue_and_then_merges(service: Any) -> None:
    made = await service.call("PUT", "/v1/queues/mine", {"per_shop_limit": 2, "timeout_s": 5})
    assert made.status == 201
    assert (made.body["served_by"], made.body["timeout_s"]) == ("pull", 5)
    merged = await service.call("PUT", "/v1/queues/mine", {"per_shop_limit": None})
    assert merged.status == 200
    assert (merged.body["per_shop_limit"], merged.body["timeout_s"]) == (None, 5)
    kept = await service.call("PATCH", "/v1/queues/mine", {"retention": {"completed_d": 7}})
    assert (kept.status, kept.body["retention"]) == (200, {"completed_d": 7, "failed_d": None})
    assert (await service.post("/v1/jobs", {"kind": "k", "queue": "mine"})).status == 201


async def test_what_is_wrong_with_a_queue_is_named_and_changes_nothing(service: Any) -> None:
    for change, pointer in (
        ({"concurrency": 0}, "/concurrency"),
        ({"concurrency": None}, "/concurrency"),
        ({"what": 1}, "/what"),
        ({"retry": {"factor": 0.5}}, "/retry/factor"),
        ({"served_by": "me"}, "/served_by"),
        ({"retention": {"completed_d": 0}}, "/retention/completed_d"),
        ({"retention": {"completed_d": 8}}, "/retention/completed_d"),
        ({"retention": {"failed_d": 31}}, "/retention/failed_d"),
        ({"retention": None}, "/retention"),
    ):
        refused = await service.call("PUT", "/v1/queues/mine", change)
        assert refused.status == 422, change
        assert pointer in refused.pointers
    assert (await service.get("/v1/queues/mine")).status == 404
    assert (await service.call("PATCH", "/v1/queues/mine", {})).status == 404


async def test_depth_and_age_are_told(service: Any) -> None:
    jobs = [{"kind": "k"}, {"kind": "k"}, {"kind": "k", "delay_s": 60}]
    await service.post("/v1/jobs:batch", {"jobs": jobs})
    await service.fetch(
        "update queue_job set run_at = now() - interval '9 s' where state = 'ready'"
    )
    queue = (await service.get("/v1/queues/default")).body
    assert queue["depth"] == {"ready": 2, "scheduled": 1}
    assert 9 <= queue["oldest_ready_age_s"] < 60
    assert (await service.get("/v1/queues/sms")).body["oldest_ready_age_s"] is None


async def test_pause_and_resume(service: Any) -> None:
    for verb, is_paused in (("pause", True), ("pause", True), ("resume", False)):
        answer = await service.post(f"/v1/queues/sms:{verb}")
        assert (answer.status, answer.body["paused"]) == (200, is_paused)
    assert (await service.post("/v1/queues/nowhere:pause")).status == 404


async def test_limits_and_weights_reach_the_lanes_and_count_what_runs(service: Any) -> None:
    jobs = [{"kind": "k", "shop": SHOP} for _ in range(3)] + [{"kind": "k"}]
    await service.post("/v1/jobs:batch", {"jobs": jobs})
    await service.fetch(
        """update queue_job set state = 'running', lease_no = 1 where id in (
            select id from queue_job where shop = $1 limit 2)""",
        SHOP,
    )
    change = {"per_shop_limit": 5, "global_limit": 9, "weights": {SHOP: 2.0}}
    assert (await service.call("PATCH", "/v1/queues/default", change)).status == 200
    lanes = await service.fetch("select shop, cap, running, weight from lane order by shop")
    assert [tuple(lane) for lane in lanes] == [("", 5, 0, 1.0), (SHOP, 5, 2, 2.0)]
    rows = await service.fetch("select running from queue where name = 'default'")
    assert rows[0][0] == 2
    running = await service.fetch("select id from queue_job where state = 'running'")
    await service.settle(*[str(row[0]) for row in running])
    lanes = await service.fetch("select sum(running) from lane")
    rows = await service.fetch("select running from queue where name = 'default'")
    assert (lanes[0][0], rows[0][0]) == (0, 0)
    await service.call("PATCH", "/v1/queues/default", {"per_shop_limit": None})
    assert {lane[0] for lane in await service.fetch("select cap from lane")} == {None}


async def test_only_an_empty_queue_is_deleted(service: Any) -> None:
    await service.call("PUT", "/v1/queues/mine", {})
    job = (await service.post("/v1/jobs", {"kind": "k", "queue": "mine"})).body
    refused = await service.call("DELETE", "/v1/queues/mine")
    assert (refused.status, refused.body["code"]) == (409, "conflict")
    await service.post(f"/v1/jobs/{job['id']}:cancel")
    assert (await service.call("DELETE", "/v1/queues/mine")).status == 204
    assert (await service.call("DELETE", "/v1/queues/mine")).status == 404
    assert (await service.post("/v1/jobs", {"kind": "k", "queue": "mine"})).status == 422


async def test_queues_come_in_pages_by_name(service: Any) -> None:
    first = await service.get("/v1/queues?limit=3")
    assert [one["name"] for one in first.body["items"]] == ["automation", "campaign", "default"]
    rest = await service.get(f"/v1/queues?limit=3&cursor={first.body['next_cursor']}")
    assert [one["name"] for one in rest.body["items"]] == ["sms", "webhooks"]
    assert rest.body["next_cursor"] is None
