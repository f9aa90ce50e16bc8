"""A policy: what is counted, how fast it refills, and what holds when no store answers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timezone
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from contracts.ratelimits import Algorithm, Consistency, OnFailure, PolicyPut, Priority
from ratelimit_service.core import bound, gcra, quota
from ratelimit_service.core.gcra import Pin

MAX_PER_S = 10_000
# A bucket this small is decided in Postgres: what a switch may lose would be much of it.
SMALL_BURST = 10
_RATE = re.compile(r"(\d+)/(\d*)([smhd])")
_NUMBER = re.compile(r"[1-9]\d{0,8}")
_UNIT_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_QUOTAS = (Algorithm.FIXED, Algorithm.SLIDING)
# What an algorithm is described by; nothing else is.
_FIELDS = {
    Algorithm.GCRA: ("rate", "burst"),
    Algorithm.FIXED: ("limit", "tz"),
    Algorithm.SLIDING: ("limit", "tz"),
    Algorithm.CONCURRENCY: ("limit", "lease_s"),
}
_OPTIONAL = ("tz",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    id: str
    version: int
    spec: PolicyPut
    pace: gcra.Pace
    """Of a quota and of concurrency a token counts as a microsecond, so `burst` is the limit."""
    window_s: int
    """Seconds in which an empty bucket fills, or those of a quota's window; 0 of concurrency."""
    floors_us: Mapping[Priority, int]
    """The end of the bucket that a priority may not touch."""
    updated_at: datetime
    calendar: quota.Calendar | None = None
    pin: Pin = Pin.NONE
    key_name: str = ""
    """What follows the subject in a key: the id, and of a quota the period, so that another period
    begins anew."""
    opens_after_s: float | None = None
    """For how long no store must have answered until this refuses nothing; None: it always does."""
    is_concurrency: bool = False
    """So many at once: counted by permits, not by checks."""

    def mode(self, away_s: float) -> OnFailure:
        """What holds once no store has answered for so long."""
        if away_s < self.spec.max_degraded_s:
            return OnFailure.LOCAL
        return self.spec.on_failure

    def limit(
        self, key: str, cost: int, now_us: int, *, op: gcra.Op = gcra.TAKE, wait_us: int = 0
    ) -> gcra.Limit:
        """What this policy asks of a key, which ends in `key_name`; see `gcra.Op` for `wait_us`."""
        window = None if self.calendar is None else self.calendar.window(now_us)
        shadow = self.spec.shadow
        return gcra.Limit(
            key, self.pace, cost, wait_us, shadow, op, window, self.pin, self.opens_after_s
        )

    def document(self) -> dict[str, Any]:
        found = bound.of_policy(self.spec, self.pace, self.pin)
        return {
            "id": self.id,
            "version": self.version,
            **self.spec.model_dump(mode="json"),
            "bound": found and found.model_dump(mode="json"),
            "updated_at": rfc3339(self.updated_at),
        }


def build(identifier: str, *, version: int, spec: PolicyPut, updated_at: datetime) -> Policy:
    """Also of a spec that an override or a plan has changed; the versions of one key must grow
    with every change. Raises Invalid, with a pointer into the spec."""
    counted = pace(spec, version=version)
    windows = quota.Calendar(_quota(spec)) if spec.algorithm in _QUOTAS else None
    window_s = math.ceil(counted.tau_us / 1_000_000)
    if windows is not None:
        window_s = windows.quota.period_s
    return Policy(
        id=identifier,
        version=version,
        spec=spec,
        pace=counted,
        window_s=0 if spec.algorithm is Algorithm.CONCURRENCY else window_s,
        floors_us={
            priority: _kept(spec, priority, counted) * counted.t_us for priority in Priority
        },
        updated_at=updated_at,
        calendar=windows,
        pin=pinned(spec, counted),
        key_name=identifier if windows is None else f"{identifier}:{windows.quota.scope}",
        opens_after_s=spec.max_degraded_s if spec.on_failure is OnFailure.OPEN else None,
        is_concurrency=spec.algorithm is Algorithm.CONCURRENCY,
    )


def pace(spec: PolicyPut, *, version: int = 0) -> gcra.Pace:
    """Raises Invalid for a policy that cannot be counted, with a pointer to why."""
    _check_fields(spec)
    match spec.algorithm:
        case Algorithm.GCRA:
            counted = _bucket(spec, version)
        case Algorithm.CONCURRENCY:
            counted = gcra.Pace(1, _permits(spec), version)
        case _:
            counted = gcra.Pace(1, _quota(spec).n, version)
    if spec.max_cost is not None and spec.default_cost > spec.max_cost:
        raise _invalid("/default_cost", "more than max_cost")
    for priority in spec.floors:
        if _kept(spec, priority, counted) >= counted.burst:
            raise _invalid(f"/floors/{priority}", f"leaves nothing of {counted.burst}")
    return counted


def interval_us(rate: str) -> int:
    """Microseconds for each of `n/[k]s|m|h|d`, rounded up: never faster than said."""
    match = _RATE.fullmatch(rate)
    if match is None:
        raise _invalid("/rate", "must be n/[k]s|m|h|d, e.g. 100/s or 10/5m")
    count, periods, unit = int(match[1]), int(match[2] or 1), match[3]
    if not count or not periods:
        raise _invalid("/rate", "zero; to let nothing pass, use the deny list")
    period_us = periods * _UNIT_US[unit]
    if count * 1_000_000 > MAX_PER_S * period_us:
        raise _invalid("/rate", f"more than {MAX_PER_S} a second")
    return -(-period_us // count)


def _check_fields(spec: PolicyPut) -> None:
    algorithm = spec.algorithm
    for name in ("rate", "burst", "limit", "tz", "lease_s"):
        given, known = getattr(spec, name) is not None, name in _FIELDS[algorithm]
        if given and not known:
            raise _invalid(f"/{name}", f"has no meaning for {algorithm}")
        if known and not given and name not in _OPTIONAL:
            raise _invalid(f"/{name}", "needed")
    if spec.learn and algorithm is not Algorithm.GCRA:
        raise _invalid("/learn", f"has no meaning for {algorithm}")
    if spec.floors and algorithm is Algorithm.CONCURRENCY:
        raise _invalid("/floors", f"has no meaning for {algorithm}")


def _bucket(spec: PolicyPut, version: int) -> gcra.Pace:
    assert spec.rate is not None
    assert spec.burst is not None
    t_us = interval_us(spec.rate)
    if t_us > gcra.MAX_TAU_US:
        raise _invalid("/rate", "a token this rare would not come within a lifetime")
    if t_us * spec.burst > gcra.MAX_TAU_US:
        raise _invalid("/burst", "a bucket this large would not fill within a lifetime")
    return gcra.Pace(t_us, t_us * spec.burst, version)


def _permits(spec: PolicyPut) -> int:
    limit = str(spec.limit)
    if not _NUMBER.fullmatch(limit):
        raise _invalid("/limit", "must be a number: so many at once")
    return int(limit)


def _quota(spec: PolicyPut) -> quota.Quota:
    match = quota.LIMIT.fullmatch(str(spec.limit))
    if match is None:
        raise _invalid("/limit", "must be n/[k]s|m|h|d|mo, e.g. 2000/d or 100/15m")
    n, periods, unit = int(match[1]), int(match[2] or 1), match[3]
    counted = quota.Quota(n, periods, unit, _zone(spec, unit), spec.algorithm is Algorithm.SLIDING)
    if counted.period_s > quota.MAX_PERIOD_S:
        raise _invalid("/limit", f"a period of more than {quota.MAX_PERIOD_S // 86_400} days")
    if n > MAX_PER_S * counted.period_s:
        raise _invalid("/limit", f"more than {MAX_PER_S} a second")
    return counted


def _zone(spec: PolicyPut, unit: str) -> ZoneInfo | timezone:
    if spec.tz is None:
        return UTC
    if unit not in ("d", "mo"):
        raise _invalid("/tz", "only whole days and months have a time zone")
    try:
        return UTC if spec.tz == "UTC" else ZoneInfo(spec.tz)
    except (LookupError, ValueError, OSError):
        raise _invalid("/tz", "unknown; must be a name like America/Los_Angeles") from None


def _kept(spec: PolicyPut, priority: Priority, counted: gcra.Pace) -> int:
    """The tokens that a priority leaves for others. The share is taken as it is written: a float
    times a burst may be a hair more than a whole number."""
    return math.ceil(Fraction(str(spec.floors.get(priority, 0.0))) * counted.burst)


def pinned(spec: PolicyPut, counted: gcra.Pace) -> Pin:
    if spec.consistency is Consistency.STRICT:
        return Pin.STRICT
    return Pin.SMALL if counted.burst <= SMALL_BURST else Pin.NONE


def _invalid(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])
