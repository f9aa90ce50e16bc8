"""The published bound follows from the policy, and the ledger keeps its part of it."""

import json

import pytest

from contracts.ratelimits import Bound, PolicyPut
from ratelimit_service.core import bound, gcra, policy
from ratelimit_service.core.ledger import Ledger, Owed
from testkit.clock import FakeClock

BUCKET = {"key": "shop", "rate": "50/s", "burst": 100}
ZERO = Bound(per_switch=0, per_dead_replica=0, both_stores_lost=0, per_second_apart=0.0)


def of(replicas: int | None = None, **spec: object) -> Bound | None:
    said = PolicyPut.model_validate_json(json.dumps(spec))
    pace = policy.pace(said)
    return bound.of_policy(said, pace, policy.pinned(said, pace), replicas=replicas)


@pytest.mark.parametrize(
    ("replicas", "lost"), [(None, 200), (1, 50), (2, 100), (4, 150), (1000, 200)]
)
def test_of_a_bucket(replicas: int | None, lost: int) -> None:
    assert of(replicas, **BUCKET) == Bound(
        per_switch=0, per_dead_replica=19, both_stores_lost=lost, per_second_apart=50.0
    )


def test_of_a_quota_windows_add_nothing() -> None:
    found = of(key="shop", algorithm="fixed", limit="2000/d")
    assert found is not None
    assert (found.per_dead_replica, found.per_second_apart) == (399, 0.0)


def test_of_a_small_bucket_no_dead_replica_counts() -> None:
    found = of(key="shop", rate="1/s", burst=10)
    assert found is not None
    assert (found.per_dead_replica, found.both_stores_lost) == (0, 20)


def test_strict_limits_and_permits_are_exact() -> None:
    assert of(**BUCKET, consistency="strict") == ZERO
    assert of(key="shop", algorithm="concurrency", limit=5, lease_s=30) == ZERO


def test_a_policy_that_refuses_nothing_has_none() -> None:
    assert of(**BUCKET, shadow=True) is None
    opened, closed = of(**BUCKET, on_failure="open"), of(**BUCKET, on_failure="closed")
    assert opened is not None
    assert opened.both_stores_lost is None
    assert closed is not None
    assert closed.both_stores_lost == 0
    patient = of(**BUCKET, on_failure="closed", max_degraded_s=1.0)
    assert patient is not None
    assert patient.both_stores_lost == 200


@pytest.mark.parametrize("burst", [11, 15, 25, 100, 1000])
def test_what_is_answered_and_unknown_to_postgres_is_within_the_bound_of_a_dead_replica(
    burst: int, clock: FakeClock
) -> None:
    """Where each hand-over takes until somebody has to wait for it."""
    found = of(key="shop", rate="1/h", burst=burst)
    assert found is not None
    pace = gcra.Pace(3_600_000_000, burst * 3_600_000_000, 1)
    ledger, told, worst = Ledger(clock.monotonic), 0, 0
    flying: tuple[dict[str, Owed], int] | None = None
    for spent in range(1, burst + 1):
        asked = gcra.Ask((gcra.Limit("k", pace, 1),))
        level = gcra.Level((spent - 1) * pace.t_us, pace)
        ledger.note(asked, gcra.judge(asked, {"k": level}), synced=False)
        if flying is None and ledger.is_due:
            flying = ledger.take(), spent
        while ledger.is_late(["k"]):
            if flying is not None:
                ledger.confirm(flying[0])
                told = flying[1]
            flying = ledger.take(), spent
        worst = max(worst, spent - told)
    assert found.per_dead_replica - 1 <= worst <= found.per_dead_replica
