"""What a limiter gave out, and a judge: was it more than an ideal bucket would have given?

An admission happened between the question and its answer, nobody knows when. The judge never
accuses wrongly: of an interval it counts only what must have happened in it. Times are of one
clock.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Admission:
    asked_at: float
    answered_at: float
    cost: int = 1


def excess(admissions: Iterable[Admission], *, burst: float, per_s: float) -> float:
    """By how much some interval of t seconds shows more than `burst + per_s * t`; below zero when
    none does, and minus infinity when nothing was given out.

    An interval is worth looking at only from the question of one admission to the answer of
    another. Kept are the beginnings that may yet show the most: a later one only if it shows more.
    """
    begins: list[float] = []
    shown: list[float] = []
    counted: list[tuple[float, int]] = []
    worst = -math.inf
    for each in sorted(admissions, key=lambda one: one.answered_at):
        place = bisect_right(begins, each.asked_at)
        for earlier in range(place):
            shown[earlier] += each.cost
        insort(counted, (each.asked_at, each.cost))
        since = sum(cost for _, cost in counted[bisect_left(counted, (each.asked_at, 0)) :])
        begins.insert(place, each.asked_at)
        shown.insert(place, per_s * each.asked_at + since)
        _keep_rising(begins, shown)
        worst = max(worst, shown[-1] - per_s * each.answered_at)
    return worst - burst


def _keep_rising(begins: list[float], shown: list[float]) -> None:
    """What an earlier beginning shows grows with everything that a later one's does."""
    kept = 0
    for place in range(len(begins)):
        if kept and shown[place] <= shown[kept - 1]:
            continue
        begins[kept], shown[kept] = begins[place], shown[place]
        kept += 1
    del begins[kept:], shown[kept:]
