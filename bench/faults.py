"""`faults`: what two replicas give out while their stores die, beside an ideal bucket and beside
the bound that the service publishes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from testkit import limiters
from testkit.limit_days import WATCHED, Day, Row
from testkit.limit_faults import FAULTS

DECISION_S = 0.25  # as in production
NONE = "–"
LEGEND = """\
bucket: 100 at once, 50/s · hourly: 300 at once, 1/h · quota: 300 a day
sudden, lonely: 400 and 200 at once, 1/h, asked for from a moment before; lonely of one replica only
small: 8 at once, 4/s, always in Postgres · strict: 100 at once, 50/s, written before it is told"""


def faults(path: Path) -> int:
    """Prints as it goes, and at last a table; how often something was not as promised."""
    with PostgresServer(path / "postgres-2") as postgres, RedisServer(path / "redis-2") as redis:
        return asyncio.run(_faults(path / "limiters", postgres, redis))


async def _faults(path: Path, postgres: PostgresServer, redis: RedisServer) -> int:
    print(f"{LEGEND}\n")
    lines: list[str] = []
    wrong: list[str] = []
    async with limiters.running(path, postgres, redis, decision_s=DECISION_S) as field:
        day = await Day.of(field)
        for fault in FAULTS:
            rows = await day.run(fault)
            print(fault.name)
            for row in rows:
                print(f"  {_told(row)}", flush=True)
            wrong += [each for row in rows for each in row.violations]
            lines.append(_line(rows))
    heads = ["bucket: admitted / ideal", *(f"{name}: excess / bound" for name in WATCHED)]
    print("\n".join(["", *(f"- {line}" for line in machine.about()), ""]))
    print(f"| | {' | '.join(heads)} | slowest | 5xx, strict |")
    print(f"|---|{'---:|' * (len(heads) + 2)}")
    print("\n".join(lines))
    print("\n".join(["", *(wrong or ["every limit within its bound, every answer as promised"])]))
    return len(wrong)


def _told(row: Row) -> str:
    seen = row.seen
    roads = ", ".join(f"{n:,} by {backend}" for backend, n in sorted(seen.backends.items()))
    return (
        f"{row.policy:8} admitted {row.admitted:4}, ideal {row.ideal:4.0f},"
        f" excess {_excess(row):>3}, bound {row.bound:3.0f},"
        f" slowest {seen.slowest_s * 1000:4.0f} ms, {row.broken:3} are 5xx ({roads})"
    )


def _line(rows: Sequence[Row]) -> str:
    by_policy = {row.policy: row for row in rows}
    bucket, strict = by_policy["bucket"], by_policy.get("strict")
    cells = [f"{bucket.admitted} / {bucket.ideal:.0f}"]
    for name in WATCHED:
        row = by_policy.get(name)
        cells.append(NONE if row is None else f"{_excess(row)} / {row.bound:.0f}")
    slowest = max(row.seen.slowest_s for row in rows)
    broken = sum(row.broken for row in rows if row is not strict)
    of_strict = NONE if strict is None else str(strict.broken)
    cells += [f"{slowest * 1000:.0f} ms", f"{broken}, {of_strict}"]
    return f"| {rows[0].fault.name} | {' | '.join(cells)} |"


def _excess(row: Row) -> str:
    return f"{max(row.excess, 0):.0f}"
