"""The job that does nothing, as a worker finds it by its entry point."""

from typing import Any

from bench.adapters.adapter import KIND, record
from mainstay.handler import Context, handler


@handler(KIND)
async def noop(args: dict[str, Any], ctx: Context) -> None:
    record(args["t"])


HANDLERS = [noop]
