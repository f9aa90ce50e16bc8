"""The client against a deployment that behaves badly: what is repeated, and what is the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from mainstay import errors, transport
from mainstay.client import Client, new_id
from testkit.faults import TcpProxy

JOB = {"id": "0198c0de-0000-7000-8000-000000000001", "state": "ready"}
BATCH = {"id": JOB["id"], "name": "spring", "state": "open"}
ITEMS = {"accepted": 2, "duplicates": 1, "rejected": [{"line": 3, "detail": "no"}], "rows": 4}


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = web.Response | Callable[[web.Request], web.Response]


def reply(document: Any, *, status: int = 200, **headers: str) -> web.Response:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(document, status=status, headers=said)


def problem(status: int, code: str = "x", **headers: str) -> web.Response:
    return reply({"code": code, "detail": "because"}, status=status, **headers)


def dropped(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Deployment:
    """Answers with what it was given, in order; remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(
            Asked(request.method, request.path, dict(request.query), request.headers,
                  await request.read())
        )  # fmt: skip
        answer = self.replies.pop(0)
        return answer if isinstance(answer, web.Response) else answer(request)


@pytest_asyncio.fixture
async def deployment() -> AsyncIterator[Deployment]:
    made = Deployment()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{any:.*}", made.serve)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/"))
        yield made


@pytest.fixture(autouse=True)
def _patient_for_moments_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.001)


@pytest_asyncio.fixture
async def client(deployment: Deployment) -> AsyncIterator[Client]:
    async with Client(deployment.url, "msk_key", timeout_s=2, attempts=3) as made:
        yield made


async def test_a_job_has_an_id_of_ours_and_says_how_it_went(
    client: Client, deployment: Deployment
) -> None:
    deployment.replies = [
        reply({**JOB, "new": 1}, status=201, Mainstay_Road="http", Mainstay_Backend="postgres",
              Degraded="redis", Idempotent_Replay="true")
    ]  # fmt: skip
    job = await client.enqueue(
        "greeting.send",
        {"name": "Ελένη"},
        shop="a.myshopify.com",
        run_at=datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert (job.state, job.road, job.backend, job.degraded) == (
        "ready",
        "http",
        "postgres",
        "redis",
    )
    assert job.replayed
    (asked,) = deployment.asked
    assert (asked.method, asked.path) == ("POST", "/v1/jobs")
    assert asked.headers["Authorization"] == "Bearer msk_key"
    assert asked.headers["Request-Timeout-Ms"] == "2000"
    assert UUID(asked.json["id"]).version == 7
    assert asked.json["run_at"] == "2027-01-01T00:00:00+00:00"
    assert asked.json["args"] == {"name": "Ελένη"}


@pytest.mark.parametrize(
    "trouble", [problem(429), problem(502), problem(503, Retry_After="0"), problem(504), dropped]
)
async def test_trouble_is_repeated_with_the_same_id(
    client: Client, deployment: Deployment, trouble: Reply
) -> None:
    deployment.replies = [trouble, dropped, reply(JOB)]
    await client.enqueue("kind")
    assert len(deployment.asked) == 3
    assert len({asked.body for asked in deployment.asked}) == 1


async def test_what_is_left_after_all_tries_is_raised(
    client: Client, deployment: Deployment
) -> None:
    deployment.replies = [problem(503, "enqueue_unavailable") for _ in range(3)]
    with pytest.raises(errors.Unavailable) as caught:
        await client.enqueue("kind")
    assert caught.value.code == "enqueue_unavailable"
    assert len(deployment.asked) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, errors.Unauthenticated), (422, errors.Invalid), (404, errors.NotFound),
     (500, errors.Unavailable), (302, errors.ApiError)],
)  # fmt: skip
async def test_what_no_repeat_can_help_is_not_repeated(
    client: Client, deployment: Deployment, status: int, kind: type[errors.ApiError]
) -> None:
    deployment.replies = [problem(status, Location="http://elsewhere.example/")]
    with pytest.raises(kind):
        await client.enqueue("kind")
    assert len(deployment.asked) == 1


async def test_more_patience_than_half_a_minute_is_the_callers_to_have(
    client: Client, deployment: Deployment
) -> None:
    deployment.replies = [problem(429, Retry_After="31")]
    with pytest.raises(errors.Limited) as caught:
        await client.enqueue("kind")
    assert caught.value.retry_after_s == 31


async def test_nobody_there_is_unavailable(client: Client, deployment: Deployment) -> None:
    async with TcpProxy.before(deployment.url) as proxy:
        await proxy.refuses()
        async with Client(proxy.url(deployment.url), "k", attempts=2) as lonely:
            with pytest.raises(errors.Unavailable) as caught:
                await lonely.system()
    assert (caught.value.status, caught.value.code) == (0, "no_answer")


async def test_each_try_has_its_time(deployment: Deployment) -> None:
    async with TcpProxy.before(deployment.url) as proxy:
        proxy.hangs()
        async with Client(proxy.url(deployment.url), "k", timeout_s=0.1, attempts=2) as hasty:
            with pytest.raises(errors.Unavailable):
                await hasty.system()
            assert proxy.accepted == 2


@pytest.mark.parametrize("document", [[], "x", None, {"state": "ready"}, {"id": "no", "state": 1}])
async def test_an_answer_of_another_shape_is_said_to_be_one(
    client: Client, deployment: Deployment, document: Any
) -> None:
    deployment.replies = [reply(document)]
    with pytest.raises(errors.Unavailable) as caught:
        await client.get_job(JOB["id"])
    assert caught.value.code == "bad_answer"


async def test_a_key_decides_instead_of_an_id(client: Client, deployment: Deployment) -> None:
    deployment.replies = [reply(JOB), reply(JOB)]
    await client.enqueue("kind", idempotency_key="order-7")
    assert deployment.asked[0].headers["Idempotency-Key"] == "order-7"
    assert "id" not in deployment.asked[0].json
    own = new_id()
    await client.enqueue("kind", id=own)
    assert deployment.asked[1].json["id"] == str(own)


async def test_many_jobs_each_with_an_id(client: Client, deployment: Deployment) -> None:
    results = [{"id": JOB["id"], "status": "created"}, {"id": None, "status": "rejected"}]
    deployment.replies = [problem(503), reply({"results": results}, status=207)]
    told = await client.enqueue_batch([{"kind": "a"}, {"kind": "b"}], atomic=True)
    assert [one.status for one in told.results] == ["created", "rejected"]
    first, second = (asked.json for asked in deployment.asked)
    assert first == second
    assert len({job["id"] for job in first["jobs"]}) == 2
    assert first["atomic"] is True


async def test_lists_are_asked_with_what_was_wanted(client: Client, deployment: Deployment) -> None:
    deployment.replies = [reply({"items": [JOB], "next_cursor": "n&="})]
    page = await client.list_jobs(
        limit=7, queue="sms", tag="a b", since=datetime(2027, 1, 1, tzinfo=UTC)
    )
    assert [str(job.id) for job in page.items] == [JOB["id"]]
    assert page.next_cursor == "n&="
    assert deployment.asked[0].query == {
        "limit": "7", "queue": "sms", "tag": "a b", "since": "2027-01-01T00:00:00+00:00",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["cancelled", "completed"])
async def test_cancelling_twice_is_cancelled_and_too_late_is_a_conflict(
    client: Client, deployment: Deployment, state: str
) -> None:
    deployment.replies = [problem(409, "job_finished"), reply({**JOB, "state": state})]
    if state == "cancelled":
        assert (await client.cancel(JOB["id"])).state == "cancelled"
    else:
        with pytest.raises(errors.Conflict):
            await client.cancel(JOB["id"])
    assert deployment.asked[0].path == f"/v1/jobs/{JOB['id']}:cancel"


LEASED = {**JOB, "state": "running", "kind": "k", "queue": "q",
          "lease": {"token": "t", "until": "2027-01-01T00:00:00Z"}}  # fmt: skip


async def test_a_lease_call_is_repeated_as_the_same_call_and_given_time_to_wait(
    client: Client, deployment: Deployment
) -> None:
    deployment.replies = [dropped, problem(503), reply({"jobs": [LEASED]})]
    (job,) = (await client.lease("a/b", max=3, wait_s=7.5, lease_s=30)).jobs
    assert (str(job.id), job.lease.token) == (JOB["id"], "t")
    first, *again = deployment.asked
    assert first.path == "/v1/queues/a/b:lease"  # one step: it was sent as a%2Fb
    assert {asked.body for asked in again} == {first.body}
    assert UUID(first.json["request_id"])
    assert (first.json["wait_ms"], first.json["max"]) == (7500, 3)
    assert first.headers["Request-Timeout-Ms"] == "9500"


async def test_outcomes_are_said_as_the_job_was_leased(
    client: Client, deployment: Deployment
) -> None:
    deployment.replies = [reply({"jobs": [LEASED]})]
    (job,) = (await client.lease("q")).jobs
    results = [{"id": JOB["id"], "status": "settled"}, {"id": None, "status": "unknown"}]
    deployment.replies = [dropped, reply({"results": results, "jobs": []})]
    told = await client.settle(
        [job.completed({"ok": 1}), job.failed("t", "m", delay_s=3)], lease={"queue": "q", "max": 2}
    )
    assert [one.status for one in told.results] == ["settled", "unknown"]
    _, said, again = deployment.asked
    assert said.body == again.body
    done, failed = said.json["outcomes"]
    assert done == {"id": JOB["id"], "token": "t", "outcome": "completed", "result": {"ok": 1}}
    assert failed["error"] == {"type": "t", "message": "m", "retryable": True}
    assert said.json["lease"]["request_id"] == again.json["lease"]["request_id"]


async def test_a_batch_is_made_filled_and_closed(
    client: Client, deployment: Deployment, tmp_path: Path
) -> None:
    rows = tmp_path / "spring.csv"
    rows.write_bytes(b"to\n" + b"+306912345678\n" * 20_000)
    deployment.replies = [
        problem(503), reply(BATCH, status=201), problem(503), reply(ITEMS),
        problem(409, "batch_closed"), reply({**BATCH, "state": "closed"}),
    ]  # fmt: skip
    batch = await client.create_batch("spring", "sms.send", queue="sms")
    told = await client.upload_items(batch.id, rows, source="s", offset=3, strict=True)
    closed = await client.close_batch(batch.id)
    assert (told.accepted, told.rejected[0].line, closed.state) == (2, 3, "closed")
    made, made_again, sent, sent_again, *_ = deployment.asked
    assert made.body == made_again.body
    assert sent.body == sent_again.body == rows.read_bytes()
    assert sent.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert sent.query == {"source": "s", "offset": "3", "strict": "true"}


async def test_an_iterator_cannot_be_sent_twice_and_is_not(
    client: Client, deployment: Deployment
) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield b"to\n"

    deployment.replies = [problem(503)]
    with pytest.raises(errors.Unavailable):
        await client.upload_items(JOB["id"], rows())
    assert len(deployment.asked) == 1


@pytest.mark.parametrize("error", [ValueError("bad row"), OSError("disk"), FileNotFoundError()])
async def test_rows_that_cannot_be_read_are_the_callers_own_error(
    client: Client, deployment: Deployment, error: Exception
) -> None:
    class Rows:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"to\n"
            raise error

    deployment.replies = [reply(ITEMS) for _ in range(3)]
    with pytest.raises(type(error)) as caught:
        await client.upload_items(JOB["id"], Rows())
    assert caught.value is error


async def test_a_refusal_in_the_middle_of_an_upload_is_heard(tmp_path: Path) -> None:
    """The rows are far more than what the connection holds, and nobody reads them."""
    asked = 0

    async def refuse(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return problem(404, "not_found")

    rows = tmp_path / "rows.csv"
    rows.write_bytes(b"to\n" + b"+306912345678\n" * 2_000_000)
    app = web.Application()
    app.router.add_post("/{any:.*}", refuse)
    async with TestServer(app) as server, Client(str(server.make_url("/")), "k") as client:
        with pytest.raises(errors.NotFound):
            await client.upload_items(JOB["id"], rows)
    assert asked == 1


async def test_a_missing_file_is_told_as_it_is(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await client.upload_items(JOB["id"], tmp_path / "none.csv")


async def test_an_upload_may_take_long_but_not_stand_still(deployment: Deployment) -> None:
    """Four pieces, each after most of the time that one may take."""
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield b"x\n"

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x\n"
        await go_on.wait()

    deployment.replies = [reply(ITEMS)]
    async with Client(deployment.url, "k", timeout_s=0.1, stall_timeout_s=0.25) as patient:
        assert (await patient.upload_items(JOB["id"], slowly())).accepted == 2
        with pytest.raises(errors.Unavailable):
            await patient.upload_items(JOB["id"], stuck())
    go_on.set()


async def test_outside_of_async_with_it_says_so(deployment: Deployment) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client(deployment.url, "k").system()


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://x", "https://"])
def test_a_wrong_address_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url, "k")


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
async def test_what_is_no_json_is_the_callers_own_error(client: Client, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        await client.enqueue("kind", {"value": value})


def test_new_ids_are_version_7_and_sort_by_time() -> None:
    made = [new_id() for _ in range(500)]
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}
    assert len(set(made)) == 500
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)


async def test_a_redirect_does_not_carry_the_key_elsewhere(deployment: Deployment) -> None:
    deployment.replies = [reply({}, status=307, Location="/elsewhere")]
    async with Client(deployment.url, "k") as client:
        with pytest.raises(errors.ApiError):
            await client.system()
    assert len(deployment.asked) == 1


async def test_a_verb_whose_answer_was_lost_is_what_it_was(
    client: Client, deployment: Deployment
) -> None:
    live, ended = reply(JOB), reply({**JOB, "state": "completed"})
    deployment.replies = [dropped, problem(409, "job_not_retryable"), live]
    assert (await client.retry(JOB["id"])).state == "ready"
    deployment.replies = [problem(409, "job_not_retryable"), ended]
    with pytest.raises(errors.Conflict):
        await client.retry(JOB["id"])
    deployment.replies = [dropped, problem(404)]
    await client.delete_schedule("nightly")
    deployment.asked.clear()
    deployment.replies = [dropped, reply({"matched": 7})]
    assert await client.cancel_jobs(queue="sms", dry_run=True) == 7
    assert len({asked.headers["Idempotency-Key"] for asked in deployment.asked}) == 1
    assert deployment.asked[-1].json == {"filter": {"queue": "sms"}, "dry_run": True}
