"""Load: so many callers at once, each one call after another; over HTTP by wrk where there is one.

A client written in Python measures itself as much as the server, so the report says who drove.
"""

import asyncio
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

BODY = {"kind": "bench.noop", "queue": "bench", "args": {"to": "+306900000183", "n": 1}}
WRK_MARGIN_S = 30.0


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
    url: str, *, headers: dict[str, str], seconds: float, connections: int, scratch: Path
) -> Rate:
    """POST BODY as fast as it goes; LoadError if an answer is not 2xx."""
    if shutil.which("wrk"):
        return _wrk(url, headers=headers, seconds=seconds, connections=connections, scratch=scratch)
    return asyncio.run(_client(url, headers=headers, seconds=seconds, connections=connections))


def _wrk(
    url: str, *, headers: dict[str, str], seconds: float, connections: int, scratch: Path
) -> Rate:
    script = scratch / "post.lua"
    quoted = "".join(f"wrk.headers[{name!r}] = {value!r}\n" for name, value in headers.items())
    body = orjson.dumps(BODY).decode()
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{body}'\n{quoted}")
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


async def _client(url: str, *, headers: dict[str, str], seconds: float, connections: int) -> Rate:
    body = orjson.dumps(BODY)
    took: list[float] = []
    ends = time.perf_counter() + seconds
    connector = aiohttp.TCPConnector(limit=connections)

    async def caller(session: aiohttp.ClientSession) -> None:
        while (began := time.perf_counter()) < ends:
            async with session.post(url, data=body, headers=headers) as answer:
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
