"""Load: so many callers at once, each one call after another; over HTTP by wrk where there is one.

A client written in Python measures itself as much as the server, so the report says who drove.
"""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import aiohttp
import orjson

BODY = orjson.dumps(
    {"kind": "bench.noop", "queue": "bench", "args": {"to": "+306900000183", "n": 1}}
)
WRK_MARGIN_S = 30.0
# A path for each request, from a file: too many to be part of a script.
PATHS_IN_TURN = """
local paths, turn = {{}}, 0
for line in io.lines({file!r}) do paths[#paths + 1] = line end
request = function()
    turn = turn % #paths + 1
    return wrk.format(nil, paths[turn])
end
"""
# Of each caller in turn: `[=[` quotes what holds no `]=]`, as no JSON of ours does.
IN_TURN = """
local bodies, turn = {{{bodies}}}, 0
request = function()
    turn = turn % #bodies + 1
    return wrk.format(nil, nil, nil, bodies[turn])
end
"""


class LoadError(Exception):
    """The figure would be worthless: something answered wrongly."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`p99_ms` is None where it was not measured."""

    per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None


class Table:
    """Ours and bare, side by side, printed as they come."""

    def __init__(self) -> None:
        print(f"{'':34}{'ours':>14}{'bare':>14}{'ratio':>8}   p50 / p99", flush=True)

    def line(self, what: str, rate: Rate, beside: Rate) -> None:
        told = f"{rate.per_s / beside.per_s:8.2f}"
        if rate.p50_ms is not None and rate.p99_ms is not None:
            told += f"   {rate.p50_ms:.1f} / {rate.p99_ms:.1f} ms"
        print(f"{what:34}{rate.per_s:12,.0f}/s{beside.per_s:12,.0f}/s{told}", flush=True)


def driver() -> str:
    return "wrk" if shutil.which("wrk") else "aiohttp client (wrk is not on PATH)"


def http(
    url: str,
    *,
    headers: dict[str, str],
    seconds: float,
    connections: int,
    scratch: Path,
    bodies: Sequence[bytes] = (BODY,),
) -> Rate:
    """POST these as fast as it goes; LoadError if an answer is not 2xx."""
    if shutil.which("wrk"):
        script = scratch / "post.lua"
        script.write_text(_script(headers, bodies))
        return _wrk(url, script, seconds=seconds, connections=connections)
    return asyncio.run(
        _client(url, bodies, headers=headers, seconds=seconds, connections=connections)
    )


def gets(
    url: str,
    paths: Sequence[str],
    *,
    headers: dict[str, str],
    seconds: float,
    connections: int,
    scratch: Path,
) -> Rate:
    """GET these under `url`, one after the other, as fast as it goes; by wrk alone."""
    listed, script = scratch / "paths.txt", scratch / "get.lua"
    listed.write_text("\n".join(paths))
    lines = [f"wrk.headers[{name!r}] = {value!r}" for name, value in headers.items()]
    script.write_text("\n".join([*lines, PATHS_IN_TURN.format(file=str(listed))]))
    return _wrk(url, script, seconds=seconds, connections=connections)


def _script(headers: dict[str, str], bodies: Sequence[bytes]) -> str:
    lines = ["wrk.method = 'POST'", f"wrk.body = [=[{bodies[0].decode()}]=]"]
    lines += [f"wrk.headers[{name!r}] = {value!r}" for name, value in headers.items()]
    if len(bodies) > 1:
        quoted = ", ".join(f"[=[{each.decode()}]=]" for each in bodies)
        lines.append(IN_TURN.format(bodies=quoted))
    return "\n".join(lines)


def _wrk(url: str, script: Path, *, seconds: float, connections: int) -> Rate:
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
         "-s", str(script), url],
        capture_output=True, text=True, check=False, timeout=seconds + WRK_MARGIN_S,
    )  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if rate is None or wrong is not None:
        raise LoadError(f"{url}: {(done.stdout + done.stderr).strip()[-300:]}")
    return Rate(float(rate[1]), _percentile(done.stdout, 50), _percentile(done.stdout, 99))


def _percentile(text: str, percent: int) -> float | None:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
    factor = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return float(found[1]) * factor[found[2]] if found else None


async def _client(
    url: str, bodies: Sequence[bytes], *, headers: dict[str, str], seconds: float, connections: int
) -> Rate:
    turns = cycle(bodies)
    took: list[float] = []
    ends = time.perf_counter() + seconds
    connector = aiohttp.TCPConnector(limit=connections)

    async def caller(session: aiohttp.ClientSession) -> None:
        while (began := time.perf_counter()) < ends:
            async with session.post(url, data=next(turns), headers=headers) as answer:
                text = await answer.text()
                if answer.status >= 300:
                    raise LoadError(f"{url}: {answer.status} {text[:300]}")
            took.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(caller(session))
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return Rate(len(took) / seconds, p50 * 1000, p99 * 1000)
