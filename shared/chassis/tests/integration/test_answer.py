"""The short way of answering says what the framework's own would have said."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from chassis.web import server
from chassis.web.answer import Answer

SAID = {"Content-Type": "application/json", "Mainstay-Backend": "postgres"}
MOMENTARY = ("Date: ", "traceparent: ", '{"type"')
BODY = b'{"a":1}'


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    def handler(kind: type[web.Response], **how: int | bytes) -> web.Response:
        return kind(headers=SAID, **how)  # type: ignore[arg-type]

    async def ours(request: web.Request) -> web.Response:
        return handler(Answer, **_asked(request))

    async def theirs(request: web.Request) -> web.Response:
        return handler(web.Response, **_asked(request))

    app = web.Application()
    app.router.add_route("*", "/ours/{status}", ours)
    app.router.add_route("*", "/other/{status}", theirs)
    runner = server.runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def _asked(request: web.Request) -> dict[str, int | bytes]:
    status = int(request.match_info["status"])
    return {"status": status} if status == 204 else {"status": status, "body": BODY}


async def said(port: int, *requests: str) -> list[str]:
    """The answers to requests that are sent at once, until the server closes; without what differs
    each time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    last = "GET /ours/204 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    writer.write("".join([*requests, last]).encode())
    lines = (await reader.read()).decode().split("\r\n")
    writer.close()
    return sorted(line for line in lines if not line.startswith(MOMENTARY))


@pytest.mark.parametrize("status", [200, 201, 204, 304, 503])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("how", ["HTTP/1.1", "HTTP/1.0", "HTTP/1.0\r\nConnection: keep-alive",
                                 "HTTP/1.1\r\nConnection: close"])  # fmt: skip
async def test_it_is_the_same_answer(port: int, method: str, status: int, how: str) -> None:
    line = "{method} /{whose}/{status} {how}\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    ours, theirs = (
        line.format(method=method, whose=whose, status=status, how=how)
        for whose in ("ours", "other")
    )
    assert await said(port, ours, ours) == await said(port, theirs, theirs)
