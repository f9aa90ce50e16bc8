"""The edge of a process, over real HTTP: every failure is a problem document, and counted."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pydantic
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from chassis import crypto, metrics
from chassis.kernel import deadline, errors
from chassis.web import app as application
from chassis.web import auth, body, cursor, health
from chassis.web.app import OPEN, SERVICE, Operation
from chassis.web.server import Runner

Client = TestClient[web.Request, web.Application]


class Thing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str


class Query(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    limit: int = 50
    name: str = ""


async def echo(request: web.Request) -> web.Response:
    thing = await body.read_json(request, Thing, limit=1000)
    return body.respond(thing, status=201, road="http", backend="postgres")


async def listed(request: web.Request) -> web.Response:
    query = body.read_query(request, Query)
    return cursor.page(request, [query.limit], cursor.encode([query.limit]), Mainstay_Road="http")


async def stopped(_request: web.Request) -> web.Response:
    return body.respond({"stopped": True})


async def shown(request: web.Request) -> web.Response:
    return body.respond({"id": request.match_info["id"]})


async def waits(_request: web.Request) -> web.Response:
    bound = deadline.current()
    return body.respond({"left_s": None if bound is None else bound.remaining_s()})


async def breaks(request: web.Request) -> web.Response:
    raise RuntimeError(f"secret {request.query.get('why', '')}")


async def missing(_request: web.Request) -> web.Response:
    raise errors.Unavailable("the database does not answer", code="database_unavailable")


OPERATIONS = [
    Operation(method="POST", path="/things", handler=echo, summary="", scope="write"),
    Operation(method="GET", path="/things", handler=listed, summary="", scope="read"),
    Operation(method="GET", path="/things/{id}", handler=shown, summary="", scope=OPEN),
    Operation(method="GET", path="/things/{id}:stop", handler=stopped, summary="", scope=OPEN),
    Operation(method="GET", path="/waits", handler=waits, summary="", scope=OPEN, timeout_s=3),
    Operation(method="GET", path="/streams", handler=waits, summary="", scope=OPEN, timeout_s=0),
    Operation(method="GET", path="/breaks", handler=breaks, summary="", scope=OPEN),
    Operation(method="GET", path="/missing", handler=missing, summary="", scope=OPEN),
    Operation(method="GET", path="/inner", handler=stopped, summary="", scope=SERVICE),
]

PRIVATE, PUBLIC = crypto.new_service_key()
MINTER = crypto.Minter(service="gateway", private_key_pem=PRIVATE)


@pytest_asyncio.fixture
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    keys = tmp_path_factory.mktemp("keys")
    (keys / "gateway.pub").write_text(PUBLIC)
    verifier = crypto.Verifier.from_directory(service="thing-service", directory=keys)
    app = application.base_app(service="thing-service", version="1")
    application.add_operations(app, OPERATIONS, authenticate=auth.by_service_token(verifier))
    server = OurServer(app)
    await server.start_server(auto_decompress=False)  # as the runner does
    async with TestClient(server) as made:
        yield made


class OurServer(TestServer):
    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return Runner(self.app, **options)


def as_key(*scopes: str) -> dict[str, str]:
    token = MINTER.mint("thing-service", key_id="k", scopes=frozenset(scopes))
    return {"Authorization": f"Bearer {token}"}


def as_service() -> dict[str, str]:
    """Made when it is needed: a token lives a minute."""
    return {"Authorization": f"Bearer {MINTER.mint('thing-service')}"}


async def problem(answer: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    told: dict[str, Any] = await answer.json(content_type="application/problem+json")
    assert (answer.status, told["status"], told["code"]) == (status, status, code), told
    return told


async def post(client: Client, data: Any, **headers: str) -> aiohttp.ClientResponse:
    said = {"Content-Type": "application/json", **as_key("write"), **headers}
    return await client.post("/things", data=data, headers=said)


async def test_a_good_request_says_road_backend_and_trace(client: Client) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    answer = await post(client, b'{"name":"x"}', traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
    assert answer.status == 201
    assert await answer.json() == {"name": "x"}
    assert answer.headers["Mainstay-Road"] == "http"
    assert answer.headers["Mainstay-Backend"] == "postgres"
    assert trace_id in answer.headers["traceparent"]


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed"),
        (b'{"nmae":"x"}', {}, 422, "invalid"),
        (b'{"name":"' + b"x" * 1000 + b'"}', {}, 413, "too_large"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415,
         "unsupported_media_type"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported_media_type"),
        (b"{}", {"Request-Timeout-Ms": "soon"}, 422, "invalid"),
        (b"{}", {"Request-Timeout-Ms": "0"}, 422, "invalid"),
        (b"{}", {"Request-Timeout-Ms": "²"}, 422, "invalid"),
        (b"{}", {"Request-Timeout-Ms": "9" * 5000}, 422, "invalid"),
    ],
)  # fmt: skip
async def test_bad_input_is_named(
    client: Client, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    await problem(await post(client, data, **headers), status, code)


async def test_a_body_without_length_is_bounded_too(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    await problem(await post(client, endless()), 413, "too_large")


async def test_a_body_that_stops_is_bounded_in_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_TIMEOUT_S", 0.05)
    go_on = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b'{"name":'
        await go_on.wait()

    told = await problem(await post(client, stuck()), 400, "malformed")
    assert "in time" in told["detail"]
    go_on.set()


HEAD = b"POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\x16\x03\x01\x02\x00\x01\r\n\r\n"],
        [b"POST /things HTTP/hunter2\r\n\r\n"],
        [b"GET /things HTTP/1.1\r\nHost: x\r\nSecret hunter2\r\n\r\n"],
        [b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
        [HEAD + b"X-Hunter2: " + b"x" * 20_000 + b"\r\n\r\n"],
        [HEAD + b"Content-Length: hunter2\r\n\r\n"],
        [CHUNKED + b"Authorization: TOKEN\r\n\r\nzz\r\n"],
        [CHUNKED + b"Authorization: TOKEN\r\n\r\n", b"2\r\n{}\r\nhunter2\r\n"],
    ],
    ids=["tls", "line", "header", "long line", "long header", "length", "chunk", "later chunk"],
)  # fmt: skip
async def test_what_cannot_be_read_is_a_problem_too(client: Client, pieces: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    token = as_key("write")["Authorization"].encode()
    for piece in pieces:
        writer.write(piece.replace(b"TOKEN", token))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        told = json.loads(await reader.readexactly(int(length[1])))
    writer.close()
    assert b" 400 " in head.splitlines()[0]
    assert b"application/problem+json" in head
    assert (told["status"], told["code"]) == (400, "malformed")
    assert told["trace_id"].encode() in head
    assert "hunter2" not in json.dumps(told).lower()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"Authorization": "Basic eDp5"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer "}, 401, "unauthenticated"),
        ({"Authorization": "Bearer nonsense"}, 401, "unauthenticated"),
    ],
)
async def test_who_may_not_is_told_so_before_the_body_is_judged(
    client: Client, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await client.post("/things", data=b"{", headers=headers)
    await problem(answer, status, code)


async def test_who_lacks_the_scope_is_told_so_before_the_body_is_judged(client: Client) -> None:
    answer = await client.post("/things", data=b"{", headers=as_key("read"))
    await problem(answer, 403, "missing_scope")


async def test_services_talk_among_themselves(client: Client) -> None:
    assert (await client.get("/inner", headers=as_service())).status == 200
    assert (await client.get("/things", headers=as_service())).status == 200
    await problem(await client.get("/inner", headers=as_key("read")), 403, "missing_scope")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=x", "/limit"),
        ("other=1", "/other"),
        ("limit=1&limit=2", "/limit"),
        ("name=%00", "/name"),
    ],
)
async def test_wrong_parameters_are_named(client: Client, query: str, pointer: str) -> None:
    answer = await client.get(f"/things?{query}", headers=as_key("read"))
    told = await problem(answer, 422, "invalid")
    assert told["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("path", ["/things/%ED%A0%80", "/things/%FF", "/things?name=%FF%ED%A0%80"])
async def test_no_bytes_in_a_url_break_it(client: Client, path: str) -> None:
    from yarl import URL

    url = URL(str(client.make_url("/")).rstrip("/") + path, encoded=True)
    async with client.session.get(url, headers=as_key("read")) as answer:
        assert answer.status < 500


async def test_nothing_has_a_name_that_no_store_can_hold(client: Client) -> None:
    await problem(await client.get("/things/a%00b"), 404, "not_found")


async def test_a_page_links_to_the_next_with_the_same_question(client: Client) -> None:
    answer = await client.get("/things?limit=7&name=a%26b", headers=as_key("read"))
    told = await answer.json()
    assert told["items"] == [7]
    assert answer.links["next"]["url"].query["cursor"] == told["next_cursor"]
    assert answer.links["next"]["url"].query["name"] == "a&b"
    assert answer.headers["Mainstay-Road"] == "http"


async def test_a_verb_is_not_swallowed_by_the_id(client: Client) -> None:
    assert await (await client.get("/things/7:stop")).json() == {"stopped": True}
    assert await (await client.get("/things/7")).json() == {"id": "7"}


async def test_the_frameworks_own_refusals_are_problem_documents(client: Client) -> None:
    await problem(await client.get("/nothing"), 404, "not_found")
    answer = await client.delete("/things")
    await problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(",")) >= {"GET", "POST"}


async def test_our_own_mistake_tells_nothing_but_its_trace(client: Client) -> None:
    told = await problem(await client.get("/breaks?why=hunter2"), 500, "internal_error")
    assert "hunter2" not in json.dumps(told)
    assert len(told["trace_id"]) == 32


async def test_a_broken_store_is_unavailable_and_says_when_to_repeat(client: Client) -> None:
    answer = await client.get("/missing")
    await problem(answer, 503, "database_unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("path", "headers", "least", "most"),
    [
        ("/waits", {}, 2.5, 3.0),
        ("/waits", {"Request-Timeout-Ms": "500"}, 0.2, 0.5),
        ("/waits", {"Request-Timeout-Ms": "999999999"}, 100, 120),
    ],
)
async def test_the_deadline_is_the_callers_or_the_operations(
    client: Client, path: str, headers: dict[str, str], least: float, most: float
) -> None:
    left_s = (await (await client.get(path, headers=headers)).json())["left_s"]
    assert least < left_s <= most


async def test_a_stream_bounds_itself(client: Client) -> None:
    answer = await client.get("/streams", headers={"Request-Timeout-Ms": "500"})
    assert (await answer.json())["left_s"] is None


def requests(**labels: str) -> float:
    return REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


async def test_requests_are_counted_by_template_and_never_by_the_callers_words(
    client: Client,
) -> None:
    labels = {"method": "GET", "route": "/things/{id}", "status": "200"}
    before = requests(**labels)
    for name in ("a", "b"):
        await client.get(f"/things/{name}")
    assert requests(**labels) - before == 2
    await client.request("PROPFIND", "/nothing")
    assert requests(method="other", route="unmatched", status="404") == 1


async def test_health_of_a_process_and_its_second_port(client: Client) -> None:
    app = client.server.app
    ops = TestClient[web.Request, web.Application](TestServer(health.ops_app(app)))
    async with ops:
        for door in (client, ops):
            assert (await door.get("/livez")).status == 200
            assert (await door.get("/readyz")).status == 503
        app[health.HEALTH].started()
        assert (await ops.get("/readyz")).status == 200
        app[health.HEALTH].seen = {"postgres": "down"}
        assert (await ops.get("/healthz")).status == 200
        app[health.HEALTH].needed = frozenset({"postgres"})
        assert (await ops.get("/healthz")).status == 503
        exposition = await (await ops.get("/metrics")).text()
        assert "http_requests_total{" in exposition
        assert (await client.get("/metrics")).status == 404


def test_no_metric_of_ours_has_a_label_that_can_grow_or_tell() -> None:
    for family in REGISTRY.collect():
        for sample in family.samples:
            assert not metrics.FORBIDDEN_LABELS & set(sample.labels), sample.name
