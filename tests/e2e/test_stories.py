"""What an app does in its first hour, through the public HTTP API."""

import asyncio

import aiohttp

from mainstay.client import new_id
from testkit.signals import eventually
from testkit.stack import StackProcess


async def test_a_job_is_created_runs_and_can_be_read(stack: StackProcess) -> None:
    async with stack.session() as session:
        body = {"kind": "campaign.report", "args": {"x": "Ελένη 🌷"}, "shop": "One.Example"}
        async with session.post("/v1/jobs", json=body) as answer:
            assert answer.status == 201
            assert answer.headers["Mainstay-Road"] == "direct"
            assert answer.headers["Mainstay-Backend"] == "postgres"
            assert "Degraded" not in answer.headers
            job = await answer.json()
        assert job["shop"] == "one.example"

        async def completed() -> bool:
            async with session.get(f"/v1/jobs/{job['id']}") as found:
                read = await found.json()
            return bool(read["state"] == "completed" and read["result"] == body["args"])

        await eventually(completed, 10.0)


async def test_the_same_id_or_key_is_the_same_job_whoever_asks_first(stack: StackProcess) -> None:
    async with stack.session() as session:

        async def post(body: dict[str, object], **headers: str) -> tuple[int, str, str | None]:
            async with session.post("/v1/jobs", json=body, headers=headers) as answer:
                told = await answer.json()
                replay = answer.headers.get("Idempotent-Replay")
                return answer.status, told.get("id") or told["code"], replay

        own = {"kind": "campaign.report", "id": str(new_id())}
        assert await post(own) == (201, own["id"], None)
        assert await post(own) == (200, own["id"], "true")
        assert (await post({**own, "args": {"other": 1}}))[:2] == (409, "id_taken")
        key = {"Idempotency-Key": f"key-{new_id()}"}
        keyed = {"kind": "campaign.report", "args": {"n": 1}}
        answers = await asyncio.gather(*(post(keyed, **key) for _ in range(8)))
        assert sorted(status for status, _, _ in answers) == [200] * 7 + [201]
        assert len({job_id for _, job_id, _ in answers}) == 1
        other = await post({**keyed, "args": {"n": 2}}, **key)
        assert other[:2] == (422, "idempotency_key_reused")


async def test_a_paused_queue_waits_and_a_cancelled_job_never_runs(stack: StackProcess) -> None:
    async with stack.session() as session:
        async with session.post("/v1/queues/automation:pause") as answer:
            assert (await answer.json())["paused"] is True
        body = {"kind": "campaign.report", "queue": "automation"}
        ids = []
        for _ in range(2):
            async with session.post("/v1/jobs", json=body) as answer:
                ids.append((await answer.json())["id"])
        async with session.post(f"/v1/jobs/{ids[0]}:cancel") as answer:
            assert (await answer.json())["state"] == "cancelled"
        async with session.get(f"/v1/jobs/{ids[1]}") as answer:
            assert (await answer.json())["state"] == "ready"
        async with session.post("/v1/queues/automation:resume") as answer:
            assert (await answer.json())["paused"] is False

        async def completed() -> bool:
            async with session.get(f"/v1/jobs/{ids[1]}") as found:
                return bool((await found.json())["state"] == "completed")

        await eventually(completed, 10.0)
        async with session.get(f"/v1/jobs/{ids[0]}") as answer:
            assert (await answer.json())["state"] == "cancelled"


async def test_a_scheduled_job_waits_for_its_time(stack: StackProcess) -> None:
    async with stack.session() as session:
        async with session.post("/v1/jobs", json={"kind": "campaign.report", "delay_s": 2}) as made:
            job = await made.json()
        assert job["state"] == "scheduled"

        async def completed() -> bool:
            async with session.get(f"/v1/jobs/{job['id']}") as found:
                read = await found.json()
            assert read["state"] == "completed"
            return bool(read["started_at"] >= job["run_at"])

        await eventually(completed, 10.0)


async def test_a_session_is_stored_read_and_survives_a_restart_of_its_service(
    stack: StackProcess,
) -> None:
    shop = "sessions.myshopify.com"
    session_id = f"offline_{shop}"
    body = {
        "id": session_id,
        "shop": shop,
        "state": "s",
        "isOnline": False,
        "scope": "read_products",
        "accessToken": "shpat_e2e_secret",
        "extra": {"kept": 1},
    }
    async with stack.session() as session:
        async with session.put(f"/v1/sessions/{session_id}", json=body) as answer:
            assert answer.status in (200, 201, 204), await answer.text()
        pid = stack.kill("session-service")
        await eventually(lambda: stack.is_back("session-service", pid), 10.0)

        async def read() -> bool:
            async with session.get(f"/v1/sessions/{session_id}") as answer:
                if answer.status == 503:
                    return False
                assert answer.status == 200
                found = await answer.json()
            assert found["accessToken"] == body["accessToken"]
            return bool(found["extra"] == {"kept": 1})

        await eventually(read, 20.0)
        async with session.delete(f"/v1/sessions/{session_id}") as answer:
            assert answer.status in (200, 204)
        async with session.get(f"/v1/sessions/{session_id}") as answer:
            assert answer.status == 404
    for log in (stack.home / "logs").glob("*.log"):
        assert b"shpat_e2e_secret" not in log.read_bytes()


async def test_limits_are_counted_and_policies_change_live(stack: StackProcess) -> None:
    policy = {"key": "shop", "algorithm": "gcra", "rate": "1/h", "burst": 2}
    asked = {"policies": ["e2e-live"], "subject": {"shop": "limits.example"}}
    async with stack.session() as session:
        async with session.put("/v1/ratelimits/policies/e2e-live", json=policy) as answer:
            assert answer.status in (200, 201), await answer.text()

        async def check() -> bool:
            async with session.post("/v1/ratelimits/check", json=asked) as answer:
                assert answer.status == 200
                assert answer.headers["Mainstay-Backend"] == "postgres"
                return bool((await answer.json())["allowed"])

        assert [await check() for _ in range(3)] == [True, True, False]
        policy["burst"] = 4
        async with session.put("/v1/ratelimits/policies/e2e-live", json=policy) as answer:
            assert answer.status == 200
        await eventually(check, 6.0)


async def test_the_system_page_tells_roads_services_and_what_users_can_do(
    stack: StackProcess,
) -> None:
    services = ("gateway", "queue-service", "queue-worker", "session-service", "ratelimit-service")
    roads = {
        "enqueue": "direct",
        "dispatch": "postgres",
        "limits": "postgres",
        "sessions": "direct",
        "cache": "memory",
    }

    async def all_is_well() -> bool:
        async with stack.session() as session, session.get("/v1/system") as answer:
            assert answer.status == 200
            told = await answer.json()
        found = {name: one["status"] for name, one in told["services"].items()}
        assert found == dict.fromkeys(services, "up")
        assert told["roads"] == roads
        absent = {"postgres": "up", "redis": "absent", "rabbitmq": "absent"}
        assert told["dependencies"] == absent
        assert told["degraded"] is False
        return bool(told["can"])

    # A circuit that was open a moment ago takes its ramp to close.
    await eventually(all_is_well, 30.0)


async def test_every_process_tells_its_health_and_metrics(stack: StackProcess) -> None:
    async with aiohttp.ClientSession() as session:
        for offset in range(100, 105):
            base = f"http://127.0.0.1:{stack.port_base + offset}"
            for path in ("/livez", "/readyz", "/healthz", "/metrics"):
                async with session.get(base + path) as answer:
                    assert answer.status == 200, (offset, path, await answer.text())
        for offset in range(4):
            base = f"http://127.0.0.1:{stack.port_base + offset}"
            async with session.get(f"{base}/healthz") as answer:
                assert answer.status == 200
            async with session.get(f"{base}/metrics") as answer:
                assert answer.status == 404
