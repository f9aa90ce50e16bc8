"""Whatever happens to its stores and replicas, a limit gives out no more than its published bound,
refuses little needlessly, and answers.

Two replicas under saturated callers; `tools/bench faults` prints what it came to.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from testkit import limiters
from testkit.limit_days import Day
from testkit.limit_faults import FAULTS, Fault

pytestmark = pytest.mark.chaos

# Patient, so that a busy machine is not taken for a broken database.
DECISION_S = 1.0


async def violations(
    faults: Sequence[Fault], folder: Path, postgres: PostgresServer, redis: RedisServer
) -> list[str]:
    async with limiters.running(folder, postgres, redis, decision_s=DECISION_S) as field:
        day = await Day.of(field)
        rows = [row for fault in faults for row in await day.run(fault)]
    return [wrong for row in rows for wrong in row.violations]


@pytest.mark.timeout(180)
async def test_no_limit_is_multiplied_on_a_bad_day(
    tmp_path: Path, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    quick = [fault for fault in FAULTS if fault.is_quick]
    assert await violations(quick, tmp_path, private_postgres, private_redis) == []


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_no_limit_is_multiplied_on_the_worst_of_days(
    tmp_path: Path, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    assert await violations(FAULTS, tmp_path, private_postgres, private_redis) == []
