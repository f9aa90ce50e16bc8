"""A known path is found without the router, and answered as if it had been asked."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from chassis.web import app as application
from chassis.web import body, server
from chassis.web.app import OPEN, Operation


async def told(request: web.Request) -> web.Response:
    said = await body.read_bytes(request)
    resource = request.match_info.route.resource
    return body.respond(
        {
            "path": request.rel_url.raw_path,
            "query": dict(request.query),
            "matched": dict(request.match_info),
            "route": resource.canonical if resource else None,
            "is_ours": request.app["name"],
            "bytes": len(said),
        }
    )


def made() -> web.Application:
    app = application.base_app(service="test", version="1")
    app["name"] = "test"
    application.add_operations(
        app,
        [
            Operation(method=method, path=path, handler=told, summary="", scope=OPEN)
            for method, path in [
                ("GET", "/v1/things"),
                ("POST", "/v1/things"),
                ("POST", "/v1/things:batch"),
                ("GET", "/v1/things/{id}"),
                ("GET", "/v1/things/{id:[^/]+}/parts"),
                ("POST", "/v1/things/{id:[^/]+}/parts"),
                ("GET", "/v1/things/{id}/parts/old"),
                ("GET", "/v1/things/{id}/parts/{part}"),
                ("GET", "/v1/things/{id}/part:count"),
                ("GET", "/v1/shops/{shop}/all"),
                ("GET", "/v1/shops/{shop}/{path:.+}"),
                ("GET", "/v1/lists/{id}:verb/tail"),
                ("GET", "/v1/lists/{id}/tail"),
            ]
        ],
        authenticate=None,  # type: ignore[arg-type]  # nobody has to say who they are
    )
    return app


@pytest_asyncio.fixture
async def urls() -> AsyncIterator[list[str]]:
    """Where the application is served by our server, and by the framework's."""
    app, other = made(), made()
    runners = [server.runner(app), web.AppRunner(other, access_log=None)]
    found: list[str] = []
    for runner in runners:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield found
    for runner in runners:
        await runner.cleanup()


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.parametrize("path", ["/v1/things", "/v1/things?a=1", "/v1/%74hings", "/v1/things/",
                                  "/v1/things:batch", "/v1/things%3Abatch", "/v1/things/7",
                                  "/v1/nothing", "/livez", "/v1/things/7/parts",
                                  "/v1/things/7/parts?a=1", "/v1/things/7/parts?a=/parts",
                                  "/v1/things/7/parts/", "/v1/things//parts",
                                  "/v1/things/%37/parts",
                                  "/v1/things/7%2F8/parts", "/v1/things/7/8/parts",
                                  "/v1/things/{}/parts", "/v1/things/7/parts#parts",
                                  "/v1/things/parts", "/v1/things/../parts", "/v1/things/7/part%73",
                                  "/v1/things/7/parts/old", "/v1/things/7/part:count",
                                  "/v1/shops/a/all", "/v1/shops/a/b/all", "/v1/lists/7:verb/tail",
                                  "/v1/lists/7/tail", "//v1/things/7/parts"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}])
async def test_the_answer_is_the_same(
    urls: list[str], method: str, path: str, headers: dict[str, str]
) -> None:
    answers = []
    async with aiohttp.ClientSession() as http:
        for url in urls:
            where = URL(url + path, encoded=True)
            data = b"{}" if method == "POST" else None
            async with http.request(method, where, data=data, headers=headers) as answer:
                document = await answer.json(content_type=None) if await answer.read() else {}
                document.pop("trace_id", None)
                answers.append((answer.status, answer.headers.get("Allow"), document))
    assert answers[0] == answers[1]


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_another_middleware_is_never_passed_by() -> None:
    seen: list[str] = []

    @web.middleware
    async def watch(request: web.Request, handler: application.Handler) -> web.StreamResponse:
        seen.append(request.path)
        return await handler(request)

    app = made()
    app.middlewares.append(watch)
    runner = server.runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/things"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
    await runner.cleanup()
    assert seen == ["/v1/things"]


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_a_path_with_one_place_is_found_without_the_router(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = made()
    runner = server.runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def resolve(request: web.Request) -> web.UrlMappingMatchInfo:
        raise AssertionError(request.path)

    monkeypatch.setattr(app.router, "resolve", resolve)
    async with aiohttp.ClientSession() as http:
        for path in ("/v1/things", "/v1/things/7/parts", "/v1/things/7/parts?a=1"):
            async with http.get(url + path) as answer:
                assert answer.status == 200
                assert (await answer.json())["matched"] == ({"id": "7"} if "7" in path else {})
    await runner.cleanup()
