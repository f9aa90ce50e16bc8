"""`python -m localstack.sandbox --port N --state FILE`: the SMS provider of a machine without one.

Environment: TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, what callers must show. Exit codes: 0 after
SIGTERM or SIGINT, 2 when it cannot start as asked. Nothing ever leaves for a real network.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from localstack.sandbox.record import Record
from localstack.sandbox.server import Sandbox

PARENT_CHECK_S = 1.0
SHUTDOWN_S = 2.0


def main() -> int:
    options = _options()
    sid, token = os.environ.get("TWILIO_ACCOUNT_SID"), os.environ.get("TWILIO_AUTH_TOKEN")
    if not sid or not token:
        print("sandbox: set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN", file=sys.stderr)
        return 2
    try:
        record = Record(options.state)
        asyncio.run(_serve(Sandbox(sid=sid, token=token, record=record), options))
    except OSError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    record.close()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="localstack.sandbox")
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="NDJSON of what was sent")
    return parser.parse_args()


async def _serve(sandbox: Sandbox, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(sandbox.app(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.bind, options.port, reuse_address=True).start()
        print(f"sandbox: listening on {options.bind}:{options.port}", flush=True)
        await _until(stop, parent=int(os.environ.get("MAINSTAY_PARENT_PID") or 0))
    finally:
        await runner.cleanup()


async def _until(stop: asyncio.Event, *, parent: int) -> None:
    while not stop.is_set() and parent in {0, os.getppid()}:
        try:
            async with asyncio.timeout(PARENT_CHECK_S):
                await stop.wait()
        except TimeoutError:
            continue


if __name__ == "__main__":
    sys.exit(main())
