"""`python -m bench.bare_http PORT [ANSWER]`: the least that a POST costs in aiohttp: parse, mint,
answer; or, with a file of JSON, parse and answer what it holds. The least that a GET costs: answer
that."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import uuid_utils
import uvloop
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]


async def post(request: web.Request) -> web.Response:
    job = orjson.loads(await request.read())
    answer = orjson.dumps({"id": str(uuid_utils.uuid7()), "kind": job["kind"], "state": "ready"})
    return web.Response(status=201, body=answer, content_type="application/json")


def answering(value: object) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            orjson.loads(await request.read())
        return web.Response(body=orjson.dumps(value), content_type="application/json")

    return answer


async def serve(port: int, handler: Handler) -> None:
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def handler(words: list[str]) -> Handler:
    return answering(orjson.loads(Path(words[0]).read_bytes())) if words else post


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), handler(sys.argv[2:])))
