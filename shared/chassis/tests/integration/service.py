"""A small service for the tests of the runner: `service.py <what goes wrong>`.

It writes what it does, a line each, to $JOURNAL.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from chassis import runner
from chassis.settings import Settings, load
from chassis.web import app as application
from chassis.web import health
from chassis.web.app import OPEN, Operation


def write(line: str) -> None:
    with Path(os.environ["JOURNAL"]).open("a") as journal:
        journal.write(f"{line}\n")


def resource(name: str, *, fails: bool = False) -> application.Handler:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        if fails:
            raise RuntimeError(f"{name} cannot be opened")
        write(f"open {name}")
        try:
            yield
        finally:
            write(f"close {name}")

    return context  # type: ignore[return-value]  # a cleanup context


async def slow(_request: web.Request) -> web.Response:
    write("slow begins")
    await asyncio.sleep(0.4)
    write("slow ends")
    return web.Response(text="done")


async def ends() -> None:
    await asyncio.sleep(0.05)
    raise RuntimeError("a bug")


async def refuses() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            write("never")


_refusing: asyncio.Task[None] | None = None


def create(what: str) -> web.Application:
    app = application.base_app(service="small", version="1", public=what != "worker")
    operation = Operation(
        method="GET", path="/slow", handler=slow, summary="", scope=OPEN, timeout_s=5
    )
    application.add_operations(app, [operation], authenticate=_nobody)
    app.cleanup_ctx.append(resource("first"))  # type: ignore[arg-type]
    app.cleanup_ctx.append(resource("second", fails=what == "second"))  # type: ignore[arg-type]
    if what == "task":
        app.on_startup.append(_spawn)
    if what == "stubborn":
        app.on_startup.append(_refuse)
    return app


async def _refuse(_app: web.Application) -> None:
    global _refusing
    _refusing = asyncio.create_task(refuses(), name="refuses")


async def _spawn(app: web.Application) -> None:
    app[health.SUPERVISOR].spawn("short", ends())


async def _nobody(_request: web.Request) -> application.Caller:
    raise AssertionError


if __name__ == "__main__":
    sys.exit(runner.run(lambda: create(sys.argv[1]), load(Settings), service="small"))
