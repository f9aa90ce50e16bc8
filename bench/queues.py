"""Puts every contestant through every workload, and prints each figure as it comes."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from bench import machine
from bench.contestants import Contestant
from bench.load import LoadError
from bench.report import Row
from bench.workloads import Figure, Ring, Round

WORKLOADS: dict[str, tuple[Callable[[Round], Awaitable[Figure]], bool]] = {
    "w1": (Round.single, False),
    "w2": (Round.bulk, False),
    "w3": (Round.drain, False),
    "w3 tuned": (Round.drain, True),
    "w3 two": (Round.drain_by_two, True),
    "w4": (Round.latency, False),
    "w5": (Round.mixed, True),
}


def measure(ring: Ring, who: Sequence[Contestant], only: Sequence[str], *, runs: int) -> list[Row]:
    """`only`: w1 to w5, all of them if empty."""
    rows = [Row(each) for each in who]
    for row in rows:
        for name, (workload, is_tuned) in WORKLOADS.items():
            if only and name.split()[0] not in only:
                continue
            if name == "w3 tuned" and row.who.tuning is None:
                continue
            _measure(row, name, workload, Round(ring, row.who, is_tuned=is_tuned), runs=runs)
    return rows


def _measure(
    row: Row,
    name: str,
    workload: Callable[[Round], Awaitable[Figure]],
    round_: Round,
    *,
    runs: int,
) -> None:
    """One that fails is said to have failed, and the others go on."""
    try:
        for _ in range(runs):
            before = machine.now()
            figure = asyncio.run(_coroutine(workload, round_))
            after = machine.now()
            if before is not None and after is not None:
                figure = dataclasses.replace(figure, foreign=after.foreign_cores(before))
            row.runs.setdefault(name, []).append(figure)
            print(f"  {row.who.name:18}{name:10}{_line(figure)}", flush=True)
    except (LoadError, TimeoutError, OSError) as error:
        row.faults.append(f"{name} failed: {' '.join(str(error).split())[-300:]}")
        print(f"  {row.who.name:18}{name:10}{error}", flush=True)


async def _coroutine(workload: Callable[[Round], Awaitable[Figure]], round_: Round) -> Figure:
    return await workload(round_)


def _line(figure: Figure) -> str:
    if figure.p50_ms:
        return f"{figure.p50_ms:12.2f} / {figure.p99_ms:.2f} ms"
    told = f"{figure.per_s:12,.0f}/s" + (" (cut)" if figure.is_cut else "")
    told += f"   {figure.cores:.2f} cores" if figure.cores else ""
    return told + (f", {figure.memory_mb:.0f} MB" if figure.memory_mb else "")
