"""Run a service: set up, listen, be ready, wait for a signal or a failure, drain, close in order.

`serve` returns the exit code: 0 after SIGTERM or SIGINT, 1 when a supervised task failed.
aiohttp's `run_app` is not used: when a later context fails to start it never closes the earlier
ones, and it cannot go unready before its sockets close.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

import uvloop
from aiohttp import web

from chassis import lifecycle, logs
from chassis.settings import Settings, redacted
from chassis.web import health, server

log = logs.get(__name__)

# Longer than the 60 s of common balancers: the server must outlive their idle connections.
KEEPALIVE_TIMEOUT_S = 75.0
PARENT_CHECK_S = 1.0
REFUSE_S = 2.0
# Requests in flight are many objects that die young: looking through them often finds nothing.
GC_YOUNG = 10_000


def run(create_app: Callable[[], web.Application], settings: Settings, *, service: str) -> int:
    """Configure logging, serve until told to stop, give back the exit code."""
    logs.configure(service=service, level=settings.log_level)
    log.info("starting", settings=redacted(settings), python=sys.version.split()[0])
    return uvloop.run(_serve(create_app, settings))


async def _serve(create_app: Callable[[], web.Application], settings: Settings) -> int:
    stop = _stop_on_signals()
    app = create_app()
    supervisor = app[health.SUPERVISOR]
    public = _runner(app, settings)
    ops = _runner(health.ops_app(app), settings)
    try:
        await public.setup()
        await ops.setup()
        await _listen(ops, settings.mainstay_bind, settings.ops_port)
        if app[health.PUBLIC]:
            await _listen(public, settings.mainstay_bind, settings.port)
        supervisor.start(lifecycle.LagProbe())
        _leave_alone_what_stays()
        app[health.HEALTH].started()
        log.info("ready")
        parent = asyncio.create_task(_parent_gone(settings.mainstay_parent_pid))
        code = await _until_told(stop, supervisor.failed, parent)
        parent.cancel()
        app[health.HEALTH].stopping()
        await asyncio.sleep(settings.unready_s)
    finally:
        log.info("stopping")
        await public.cleanup()
        await ops.cleanup()
        await supervisor.stop()
    log.info("stopped", code=code)
    await _end_what_is_left(code)
    return code


async def _end_what_is_left(code: int) -> None:
    """Everything is closed: work that refuses to be cancelled must not keep the process."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if not left:
        return
    _, refusing = await asyncio.wait(left, timeout=REFUSE_S)
    if refusing:
        log.error("tasks_refuse_to_end", tasks=sorted(task.get_name() for task in refusing))
        logging.shutdown()
        os._exit(code)


def _runner(app: web.Application, settings: Settings) -> web.AppRunner:
    return server.runner(
        app,
        handle_signals=False,
        keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        shutdown_timeout=settings.drain_timeout_s,
    )


def _leave_alone_what_stays() -> None:
    """What a start has made lives as long as the process: it is never searched for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, *gc.get_threshold()[1:])


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    await web.TCPSite(runner, host, port, backlog=1024, reuse_address=True).start()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _parent_gone(pid: int | None) -> None:
    """Return once the given parent has died; never without one."""
    while pid is None or os.getppid() == pid:
        await asyncio.sleep(PARENT_CHECK_S)


async def _until_told(
    stop: asyncio.Event, failed: asyncio.Event, parent: asyncio.Task[None]
) -> int:
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(failed.wait())]
    await asyncio.wait([*waits, parent], return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    return 1 if failed.is_set() else 0
