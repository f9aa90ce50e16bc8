"""Workers in any language: lease, keep, settle and give back jobs over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from chassis.kernel import ids
from chassis.web import health
from queue_service.api import keys
from queue_service.app import PARKING
from queue_service.core.leases import Ask, Tokens
from testkit.signals import eventually

WRITE = frozenset({"jobs:write"})


@dataclass
class Puller:
    """A worker of few words, at the queue `pulled`."""

    service: Any

    async def enqueue(self, *more: Mapping[str, Any], **fields: Any) -> list[str]:
        wanted = [{"kind": "test", "queue": "pulled", **fields, **one} for one in more or ({},)]
        reply = await self.service.post("/v1/jobs:batch", {"jobs": wanted, "atomic": True})
        assert reply.status == 200, reply.body
        return [one["id"] for one in reply.body["results"]]

    async def ask(self, **fields: Any) -> Any:
        return await self.service.post("/v1/queues/pulled:lease", fields)

    async def lease(self, **fields: Any) -> list[dict[str, Any]]:
        reply = await self.ask(**fields)
        assert reply.status == 200, reply.body
        jobs: list[dict[str, Any]] = reply.body["jobs"]
        return jobs

    async def settle(self, *outcomes: Any, **more: Any) -> list[str]:
        reply = await self.service.post("/v1/leases:settle", {"outcomes": list(outcomes), **more})
        assert reply.status == 200, reply.body
        return [one["status"] for one in reply.body["results"]]

    async def call(self, verb: str, *leases: Any, **more: Any) -> Any:
        reply = await self.service.post(f"/v1/leases:{verb}", {"leases": list(leases), **more})
        assert reply.status == 200, reply.body
        return reply.body

    async def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.service.get(f"/v1/jobs/{job_id}")).body
        return found

    async def expire(self) -> None:
        """Time passes for all leases, so that they have just run out."""
        await self.service.fetch(
            "update queue_job set lease_until = clock_timestamp() where lease_until is not null"
        )

    async def when(self, job_id: str, state: str, *, within_s: float = 5.0) -> dict[str, Any]:
        async def seen() -> dict[str, Any]:
            job = await self.job(job_id)
            assert job["state"] == state, job["state"]
            return job

        return await eventually(seen, within_s=within_s)


def held(job: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": job["id"], "token": job["lease"]["token"], **more}


def said(job: Mapping[str, Any], outcome: str, **more: Any) -> dict[str, Any]:
    return held(job, outcome=outcome, **more)


async def make_queue(service: Any, **fields: Any) -> None:
    reply = await service.call("PUT", "/v1/queues/pulled", fields)
    assert reply.status in (200, 201), reply.body


@pytest_asyncio.fixture
async def puller(service: Any) -> AsyncIterator[Puller]:
    await make_queue(service)
    yield Puller(service)


async def test_a_job_is_leased_settled_and_found_with_its_result(puller: Puller) -> None:
    (job_id,) = await puller.enqueue(args={"n": 1}, shop="a.example", tags=["t"])
    reply = await puller.ask(max=5, lease_s=60, worker="w1")
    assert reply.headers["Mainstay-Backend"] == "postgres"
    assert reply.headers["Cache-Control"] == "no-store"
    (job,) = reply.body["jobs"]
    assert (job["id"], job["state"], job["attempt"]) == (job_id, "running", 1)
    assert (job["args"], job["tags"], job["worker"]) == ({"n": 1}, ["t"], "w1")
    assert job["lease"]["until"] > job["started_at"]
    assert await puller.lease() == []
    assert await puller.settle(said(job, "completed", result={"ok": 1}, progress={"at": 9})) == [
        "settled"
    ]
    done = await puller.job(job_id)
    assert (done["state"], done["result"], done["progress"]) == ("completed", {"ok": 1}, {"at": 9})


async def test_many_jobs_of_many_shops_come_in_one_call(puller: Puller) -> None:
    wanted = await puller.enqueue(*({"shop": f"s{n % 7}.example"} for n in range(50)))
    jobs = await puller.lease(max=500)
    assert sorted(job["id"] for job in jobs) == sorted(wanted)


async def test_every_outcome_is_what_it_says(puller: Puller) -> None:
    error = {"type": "boom", "message": "it broke"}
    expected = {
        "completed": ({}, "completed", 1),
        "failed": ({"error": error}, "retrying", 1),
        "snooze": ({"delay_s": 60}, "scheduled", 0),
        "cancel": ({}, "cancelled", 1),
        "discard": ({"error": error}, "failed", 1),
    }
    await puller.enqueue(*({} for _ in expected))
    jobs = await puller.lease()
    outcomes = [
        said(job, outcome, **more)
        for job, (outcome, (more, _, _)) in zip(jobs, expected.items(), strict=True)
    ]
    assert await puller.settle(*outcomes) == ["settled"] * 5
    for job, (_, state, attempt) in zip(jobs, expected.values(), strict=True):
        now = await puller.job(job["id"])
        assert (now["state"], now["attempt"]) == (state, attempt)
        if state in ("retrying", "failed"):
            assert now["errors"][-1]["type"] == "boom"
            assert now["errors"][-1]["retryable"] is (state == "retrying")


async def test_a_settle_said_again_is_a_duplicate_and_another_one_is_lost(puller: Puller) -> None:
    await puller.enqueue({}, {}, {}, {})
    a, b, c, d = await puller.lease()
    first = [
        said(a, "completed", result=1),
        said(b, "failed"),
        said(c, "snooze", delay_s=60),
        said(d, "discard"),
    ]
    assert await puller.settle(*first) == ["settled"] * 4
    assert await puller.settle(*first) == ["duplicate"] * 4
    other = [said(a, "completed", result=2), said(b, "completed"), said(c, "failed"),
             said(d, "completed")]  # fmt: skip
    assert await puller.settle(*other) == ["lost"] * 4
    assert (await puller.job(a["id"]))["result"] == 1


async def test_the_same_job_twice_in_one_call_is_settled_once(puller: Puller) -> None:
    await puller.enqueue()
    (job,) = await puller.lease()
    twice = [said(job, "completed", result=1), said(job, "completed", result=1)]
    assert await puller.settle(*twice) == ["settled", "duplicate"]


async def test_a_bad_item_harms_itself_alone(puller: Puller) -> None:
    await puller.enqueue({}, {})
    good, other = await puller.lease()
    foreign = {**said(good, "completed"), "id": other["id"]}
    bad: list[Any] = [
        "no object",
        {"id": "no-uuid", "token": "x", "outcome": "completed"},
        said(good, "vanished"),
        said(good, "snooze", delay_s=-1),
        {**said(good, "completed"), "token": "Ünknown"},
        {**said(good, "completed"), "token": good["lease"]["token"][:-2] + "AA"},
        foreign,
    ]
    reply = await puller.service.post(
        "/v1/leases:settle", {"outcomes": [*bad, said(good, "completed")]}
    )
    assert reply.status == 200
    results = reply.body["results"]
    assert [one["status"] for one in results] == ["unknown"] * len(bad) + ["settled"]
    assert [one["id"] for one in results[:3]] == [None, "no-uuid", good["id"]]
    assert results[3]["problem"]["errors"][0]["pointer"] == "/delay_s"
    assert (await puller.job(other["id"]))["state"] == "running"


async def test_a_failed_attempt_follows_its_own_delay_or_its_policy(puller: Puller) -> None:
    retry = {"base_s": 1000.0, "factor": 1.0, "max_s": 1000.0, "jitter": 0.0}
    asked, by_policy = await puller.enqueue({}, {"retry": retry})
    jobs = {job["id"]: job for job in await puller.lease()}
    await puller.settle(said(jobs[asked], "failed", delay_s=0.0), said(jobs[by_policy], "failed"))
    await puller.when(asked, "ready")
    waits = await puller.service.fetch(
        "select extract(epoch from run_at - clock_timestamp())::float8 as s "
        "from queue_job where id = $1",
        UUID(by_policy),
    )
    assert 990 < waits[0]["s"] <= 1000


async def test_the_last_attempt_ends_failed(puller: Puller) -> None:
    (job_id,) = await puller.enqueue(max_attempts=1)
    (job,) = await puller.lease()
    assert await puller.settle(said(job, "failed", error={"type": "no", "message": "m"})) == [
        "settled"
    ]
    assert (await puller.job(job_id))["state"] == "failed"


async def test_after_its_end_a_lease_is_lost_though_nobody_took_the_job(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease()
    await puller.service.app[health.SUPERVISOR].stop()  # no reaper comes before us
    await puller.expire()
    assert await puller.settle(said(job, "completed"), said(job, "snooze")) == ["lost", "lost"]
    assert (await puller.call("heartbeat", held(job)))["lost"] == [job_id]
    assert (await puller.call("release", held(job)))["results"][0]["status"] == "lost"
    mark = await puller.service.post("/v1/leases:mark", held(job, name="n"))
    assert mark.body["code"] == "lease_lost"
    assert (await puller.job(job_id))["state"] == "running"


async def test_an_expired_lease_is_available_within_two_seconds(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    (first,) = await puller.lease()
    await puller.expire()
    (again,) = await puller.lease(wait_ms=2000)
    assert (again["id"], again["attempt"]) == (job_id, 2)
    assert again["errors"][-1]["type"] == "lease_expired"
    assert await puller.settle(said(first, "completed")) == ["lost"]
    assert await puller.settle(said(again, "completed")) == ["settled"]


async def test_leases_that_run_out_spend_attempts_but_are_no_kills(puller: Puller) -> None:
    (job_id,) = await puller.enqueue(max_attempts=4)
    for attempt in range(1, 5):
        (job,) = await puller.lease(wait_ms=3000)
        assert job["attempt"] == attempt
        assert (await puller.service.fetch("select kills from queue_job"))[0]["kills"] == 0
        await puller.expire()
    failed = await puller.when(job_id, "failed")
    assert [one["type"] for one in failed["errors"]] == ["lease_expired"] * 4
    assert await puller.settle(said(job, "failed")) == ["lost"]


async def test_a_heartbeat_keeps_a_lease_and_leaves_progress(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease(lease_s=5)
    told = await puller.call("heartbeat", held(job, progress={"row": 7}), extend_s=3600)
    assert told == {"lost": [], "cancel": []}
    until = "select extract(epoch from lease_until - clock_timestamp())::float8 as s from queue_job"
    assert 3590 < (await puller.service.fetch(until))[0]["s"] <= 3600
    assert (await puller.job(job_id))["progress"] == {"row": 7}
    # Without extend_s by the lease's own time; an end further away stays.
    await puller.call("heartbeat", held(job))
    assert (await puller.service.fetch(until))[0]["s"] > 3500
    await puller.service.fetch("update queue_job set lease_until = now() + interval '1 s'")
    await puller.call("heartbeat", held(job))
    assert 4 < (await puller.service.fetch(until))[0]["s"] <= 5


async def test_a_heartbeat_names_what_is_lost_and_what_to_stop(puller: Puller) -> None:
    await puller.enqueue({}, {}, {})
    kept, stopped, gone = await puller.lease()
    assert (await puller.service.post(f"/v1/jobs/{stopped['id']}:cancel")).status == 200
    await puller.settle(said(gone, "completed"))
    stranger = {"id": str(uuid4()), "token": kept["lease"]["token"]}
    told = await puller.call(
        "heartbeat", held(kept), held(stopped), held(gone), stranger, {"id": "junk"}
    )
    assert told["cancel"] == [stopped["id"]]
    assert told["lost"] == [gone["id"], stranger["id"], "junk"]


@pytest.mark.parametrize("outcome", ["failed", "snooze", "cancel"])
async def test_a_job_told_to_stop_does_not_come_back(puller: Puller, outcome: str) -> None:
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease()
    await puller.service.post(f"/v1/jobs/{job_id}:cancel")
    assert await puller.settle(said(job, outcome)) == ["settled"]
    assert (await puller.job(job_id))["state"] == "cancelled"


async def test_a_job_told_to_stop_whose_lease_runs_out_is_cancelled(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    await puller.lease()
    await puller.service.post(f"/v1/jobs/{job_id}:cancel")
    await puller.expire()
    await puller.when(job_id, "cancelled")


async def test_released_jobs_go_back_at_once_their_attempt_unspent(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease()
    released = await puller.call("release", held(job), {"id": job_id, "token": "no"})
    assert [one["status"] for one in released["results"]] == ["settled", "unknown"]
    (again,) = await puller.lease()
    assert (again["id"], again["attempt"]) == (job_id, 1)
    assert (await puller.call("release", held(job)))["results"][0]["status"] == "lost"


async def test_a_parked_caller_hears_of_a_job_at_once(puller: Puller) -> None:
    clock = asyncio.get_running_loop().time
    parked = asyncio.create_task(puller.lease(wait_ms=20_000))
    await _parked(puller.service, 1)
    began = clock()
    (job_id,) = await puller.enqueue()
    (job,) = await parked
    assert job["id"] == job_id
    assert clock() - began < 0.7


async def test_parked_callers_are_served_in_turn_and_the_rest_wait_to_the_end(
    puller: Puller,
) -> None:
    parked = [asyncio.create_task(puller.lease(max=1, wait_ms=20_000)) for _ in range(3)]
    await _parked(puller.service, 3)
    last = asyncio.create_task(puller.lease(max=1, wait_ms=1500))
    await _parked(puller.service, 4)
    wanted = await puller.enqueue({}, {}, {})
    found = await asyncio.gather(*parked)
    assert sorted(job["id"] for jobs in found for job in jobs) == sorted(wanted)
    assert await last == []


async def test_what_a_caller_who_hung_up_would_get_stays_for_others(puller: Puller) -> None:
    parked = asyncio.create_task(puller.lease(wait_ms=20_000, request_id="r"))
    await _parked(puller.service, 1)
    parked.cancel()
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease(wait_ms=5000)
    assert (job["id"], job["attempt"]) == (job_id, 1)


async def test_what_was_claimed_for_a_caller_who_hung_up_goes_back_unless_it_asked_again(
    puller: Puller,
) -> None:
    leases = puller.service.app[keys.LEASES]
    (job_id,) = await puller.enqueue()

    async def hang_up(request_id: str | None) -> None:
        """After the claim."""
        ask = Ask(queue="pulled", want=1, lease_s=60.0, caller="k", request_id=request_id)
        assert await leases.lease(ask, is_gone=lambda: True) == []

    await hang_up(None)
    await hang_up("one")
    job = await puller.job(job_id)
    assert (job["state"], job["attempt"]) == ("ready", 0)
    (leased,) = await puller.lease(request_id="two")
    await hang_up("two")
    assert await puller.settle(said(leased, "completed")) == ["settled"]


async def test_a_lease_call_repeated_gets_the_same_jobs(puller: Puller) -> None:
    wanted = await puller.enqueue(*({} for _ in range(6)))
    first, again = await asyncio.gather(
        puller.lease(max=2, request_id="one"), puller.lease(max=2, request_id="one")
    )
    assert first == again
    assert [job["id"] for job in await puller.lease(max=2, request_id="one")] == [
        job["id"] for job in first
    ]
    await puller.settle(said(first[0], "completed"))
    assert [job["id"] for job in await puller.lease(max=2, request_id="one")] == [first[1]["id"]]
    other = await puller.lease(max=9, request_id="two")
    assert sorted(job["id"] for job in [*first, *other]) == sorted(wanted)
    await puller.service.fetch("update lease_call set at = at - interval '31 s'")
    assert await puller.lease(max=2, request_id="one") == []


async def test_settling_and_leasing_the_next_is_one_call(puller: Puller) -> None:
    first_id, second_id = await puller.enqueue({"priority": 0}, {"priority": 9})
    (first,) = await puller.lease(max=1)
    assert first["id"] == first_id
    reply = await puller.service.post(
        "/v1/leases:settle",
        {"outcomes": [said(first, "completed")], "lease": {"queue": "pulled", "max": 1}},
    )
    assert [one["status"] for one in reply.body["results"]] == ["settled"]
    assert [job["id"] for job in reply.body["jobs"]] == [second_id]


async def test_a_settle_with_a_wrong_lease_changes_nothing(puller: Puller) -> None:
    (job_id,) = await puller.enqueue()
    (job,) = await puller.lease()
    for queue, status, code in (
        ("sms", 409, "queue_served_by_worker"),
        ("no", 422, "unknown_queue"),
    ):
        reply = await puller.service.post(
            "/v1/leases:settle",
            {"outcomes": [said(job, "completed")], "lease": {"queue": queue}},
        )
        assert (reply.status, reply.body["code"]) == (status, code)
    assert (await puller.job(job_id))["state"] == "running"


async def test_a_queue_of_the_workers_is_not_pulled_from(puller: Puller) -> None:
    reply = await puller.service.post("/v1/queues/sms:lease", {})
    assert (reply.status, reply.body["code"]) == (409, "queue_served_by_worker")
    assert (await puller.service.post("/v1/queues/nowhere:lease", {})).status == 404
    # Also when it is switched while somebody is parked.
    parked = asyncio.create_task(puller.lease(wait_ms=1500))
    await _parked(puller.service, 1)
    await make_queue(puller.service, served_by="worker")
    await puller.enqueue()
    assert await parked == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"max": 501}, "/max"), ({"max": 0}, "/max"), ({"wait_ms": 30_001}, "/wait_ms"),
     ({"lease_s": 0.5}, "/lease_s"), ({"lease_s": 3601}, "/lease_s"), ({"x": 1}, "/x"),
     ({"request_id": ""}, "/request_id"), ({"max": "5"}, "/max")],
)  # fmt: skip
async def test_a_wrong_lease_call_is_told_where(
    puller: Puller, body: Mapping[str, Any], pointer: str
) -> None:
    reply = await puller.service.post("/v1/queues/pulled:lease", body)
    assert (reply.status, reply.pointers) == (422, [pointer])


async def test_a_key_of_a_shop_leases_and_settles_that_shops_jobs_alone(puller: Puller) -> None:
    mine, other = await puller.enqueue({"shop": "mine.example"}, {"shop": "other.example"})
    service = puller.service
    path = "/v1/queues/pulled:lease"
    jobs = (await service.post(path, {}, shop="mine.example", scopes=WRITE)).body["jobs"]
    assert [job["id"] for job in jobs] == [mine]
    (theirs,) = await puller.lease()
    assert theirs["id"] == other
    outcome = {"outcomes": [said(theirs, "completed")]}
    reply = await service.post("/v1/leases:settle", outcome, shop="mine.example")
    assert reply.body["results"][0]["status"] == "unknown"
    beaten = await service.post(
        "/v1/leases:heartbeat", {"leases": [held(theirs)]}, shop="mine.example"
    )
    assert beaten.body["lost"] == [other]
    assert (await puller.job(other))["state"] == "running"
    denied = await service.post(path, {}, scopes=frozenset({"jobs:read"}))
    assert denied.body["code"] == "missing_scope"


async def test_caps_and_pauses_hold_for_those_who_pull(puller: Puller) -> None:
    await make_queue(puller.service, per_shop_limit=2)
    await puller.enqueue(*({"shop": "a.example"} for _ in range(5)))
    jobs = await puller.lease()
    assert len(jobs) == 2
    assert await puller.lease() == []
    parked = asyncio.create_task(puller.lease(wait_ms=10_000))
    await _parked(puller.service, 1)
    await puller.settle(said(jobs[0], "completed"))
    assert len(await parked) == 1
    await puller.service.post("/v1/queues/pulled:pause")
    await puller.settle(said(jobs[1], "completed"))
    assert await puller.lease() == []
    await puller.service.post("/v1/queues/pulled:resume")
    assert len(await puller.lease(wait_ms=5000)) == 1


async def test_a_limit_of_one_lets_one_of_many_calls_have_a_job(puller: Puller) -> None:
    await make_queue(puller.service, global_limit=1)
    await puller.enqueue(*({"shop": f"s{n}.example"} for n in range(6)))
    found = await asyncio.gather(*(puller.lease() for _ in range(6)))
    (job,) = [one for jobs in found for one in jobs]
    # A late settle frees the place once.
    await puller.expire()
    (second,) = await puller.lease(wait_ms=5000)
    assert await puller.settle(said(job, "completed")) == ["lost"]
    assert await puller.lease() == []
    assert await puller.settle(said(second, "completed")) == ["settled"]
    assert len(await puller.lease(wait_ms=3000)) == 1


async def test_a_shop_at_its_limit_does_not_starve_the_others(puller: Puller) -> None:
    await make_queue(puller.service, per_shop_limit=1)
    await puller.enqueue(*({"shop": "big.example", "priority": 0} for _ in range(50)))
    (small,) = await puller.enqueue({"shop": "small.example"})
    jobs = await puller.lease()
    assert sorted(job["shop"] for job in jobs) == ["big.example", "small.example"]
    assert small in {job["id"] for job in jobs}


async def test_snoozed_by_nothing_is_available_at_once_and_spends_nothing(puller: Puller) -> None:
    (job_id,) = await puller.enqueue(max_attempts=1)
    for _ in range(3):
        (job,) = await puller.lease(wait_ms=3000)
        assert (job["id"], job["attempt"]) == (job_id, 1)
        assert await puller.settle(said(job, "snooze", delay_s=0)) == ["settled"]


async def test_what_has_waited_too_long_ends_instead_of_being_leased(puller: Puller) -> None:
    old, fresh = await puller.enqueue({}, {})
    await make_queue(puller.service, max_age_s=60)
    await puller.service.fetch(
        "update queue_job set created_at = created_at - interval '61 s' where id = $1", UUID(old)
    )
    assert [job["id"] for job in await puller.lease()] == [fresh]
    ended = await puller.job(old)
    assert (ended["state"], ended["errors"][-1]["type"]) == ("failed", "expired")


async def test_a_mark_is_left_once_for_all_leases_until_the_effect_did_not_happen(
    puller: Puller,
) -> None:
    async def mark(job: Mapping[str, Any]) -> Any:
        return await puller.service.post("/v1/leases:mark", held(job, name="charge"))

    await puller.enqueue()
    (first,) = await puller.lease()
    assert (await mark(first)).body == {"first": True}
    assert (await mark(first)).body == {"first": True}
    await puller.expire()
    (second,) = await puller.lease(wait_ms=3000)
    lost = await mark(first)
    assert (lost.status, lost.body["code"]) == (409, "lease_lost")
    assert (await mark(second)).body == {"first": False}
    await puller.settle(said(second, "snooze"))
    (third,) = await puller.lease(wait_ms=5000)
    assert (await mark(third)).body == {"first": True}


async def test_leases_outlive_the_service_and_are_good_at_any_replica(
    start: Any,
) -> None:
    one, other = await start(), await start()
    await make_queue(one)
    (job_id,) = await Puller(one).enqueue()
    (job,) = await Puller(one).lease()
    assert await Puller(other).settle(said(job, "completed")) == ["settled"]
    assert (await Puller(other).job(job_id))["state"] == "completed"


async def test_many_pullers_never_get_the_same_job(puller: Puller) -> None:
    wanted = await puller.enqueue(*({"shop": f"s{n % 9}.example"} for n in range(300)))

    async def work() -> list[str]:
        found: list[str] = []
        jobs = await puller.lease(max=20)
        while jobs:
            found += [job["id"] for job in jobs]
            outcomes = [said(job, "completed") for job in jobs]
            reply = await puller.service.post(
                "/v1/leases:settle",
                {"outcomes": outcomes, "lease": {"queue": "pulled", "max": 20, "wait_ms": 300}},
            )
            assert {one["status"] for one in reply.body["results"]} == {"settled"}
            jobs = reply.body["jobs"]
        return found

    found = [one for each in await asyncio.gather(*(work() for _ in range(6))) for one in each]
    assert sorted(found) == sorted(wanted)


async def test_a_stop_lets_parked_callers_go(start: Any) -> None:
    service = await start()
    await make_queue(service)
    parked = asyncio.create_task(Puller(service).lease(wait_ms=30_000))
    await _parked(service, 1)
    await service.app.shutdown()
    async with asyncio.timeout(2):
        assert await parked == []


async def _parked(service: Any, callers: int) -> None:
    def seen() -> bool:
        return sum(line.callers for line in service.app[PARKING]._lines.values()) == callers

    await eventually(seen)


def test_ids_are_bound_to_their_tokens() -> None:
    mine, other = Tokens("a"), Tokens("b")
    job_id = ids.new_id()
    token = mine.issue(job_id, 7)
    assert mine.lease_no(job_id, token) == 7
    assert other.lease_no(job_id, token) is None
    assert mine.lease_no(ids.new_id(), token) is None
    for junk in ("", "=", "AAAA", token[:-4], token + "AAAA", "é" * 32):
        assert mine.lease_no(job_id, junk) is None
