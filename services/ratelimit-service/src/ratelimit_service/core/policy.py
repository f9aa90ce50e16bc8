"""A policy: what is counted, how fast it refills, and what holds when no store answers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from contracts.ratelimits import Algorithm, OnFailure, PolicyPut, Priority
from ratelimit_service.core import gcra

MAX_PER_S = 10_000
_RATE = re.compile(r"(\d+)/(\d*)([smhd])")
_UNIT_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    id: str
    version: int
    spec: PolicyPut
    pace: gcra.Pace
    window_s: int
    """Seconds in which an empty bucket fills."""
    floors_us: Mapping[Priority, int]
    """The end of the bucket that a priority may not touch."""
    updated_at: datetime

    def mode(self, away_s: float) -> OnFailure:
        """What holds once no store has answered for so long."""
        if away_s < self.spec.max_degraded_s:
            return OnFailure.LOCAL
        return self.spec.on_failure

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "version": self.version,
            **self.spec.model_dump(mode="json"),
            "updated_at": rfc3339(self.updated_at),
        }


def build(identifier: str, *, version: int, spec: PolicyPut, updated_at: datetime) -> Policy:
    counted = pace(spec, version=version)
    return Policy(
        id=identifier,
        version=version,
        spec=spec,
        pace=counted,
        window_s=math.ceil(counted.tau_us / 1_000_000),
        floors_us={
            priority: math.ceil(spec.floors.get(priority, 0.0) * counted.burst) * counted.t_us
            for priority in Priority
        },
        updated_at=updated_at,
    )


def pace(spec: PolicyPut, *, version: int = 0) -> gcra.Pace:
    """Raises Invalid for a policy that cannot be counted in whole microseconds."""
    if spec.algorithm is not Algorithm.GCRA:
        raise _invalid("/algorithm", "not counted yet")
    if spec.rate is None:
        raise _invalid("/rate", "needed")
    if spec.burst is None:
        raise _invalid("/burst", "needed")
    t_us = interval_us(spec.rate)
    if t_us * spec.burst > gcra.MAX_TAU_US:
        raise _invalid("/burst", "a bucket this large would not fill within a lifetime")
    if spec.max_cost is not None and spec.default_cost > spec.max_cost:
        raise _invalid("/default_cost", "more than max_cost")
    return gcra.Pace(t_us, t_us * spec.burst, version)


def interval_us(rate: str) -> int:
    """Microseconds for each of `n/[k]s|m|h|d`, rounded up: never faster than said."""
    match = _RATE.fullmatch(rate)
    if match is None:
        raise _invalid("/rate", "must be n/[k]s|m|h|d, e.g. 100/s or 10/5m")
    count, periods, unit = int(match[1]), int(match[2] or 1), match[3]
    period_us = periods * _UNIT_US[unit]
    if count * 1_000_000 > MAX_PER_S * period_us:
        raise _invalid("/rate", f"more than {MAX_PER_S} a second")
    return -(-period_us // count)


def _invalid(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])
