"""`python -m bench.bare_http PORT`: the least that a POST costs in aiohttp: parse, mint, answer."""

import asyncio
import sys

import orjson
import uuid_utils
import uvloop
from aiohttp import web


async def post(request: web.Request) -> web.Response:
    job = orjson.loads(await request.read())
    answer = orjson.dumps({"id": str(uuid_utils.uuid7()), "kind": job["kind"], "state": "ready"})
    return web.Response(status=201, body=answer, content_type="application/json")


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/jobs", post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
