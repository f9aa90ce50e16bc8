"""How long to wait before the next try."""

import random
from collections.abc import Callable

Uniform = Callable[[float, float], float]


def delay_s(
    failures: int,
    *,
    base_s: float,
    max_s: float,
    factor: float = 2.0,
    jitter: float = 0.5,
    uniform: Uniform = random.uniform,
) -> float:
    """r·min(max, base·factor^(failures−1)), r uniform in [1−jitter, 1].

    `failures` counts from 1. After an outage a million jobs share one count, so the jitter is what
    keeps them from returning together.
    """
    exponent = min(max(failures, 1) - 1, 64)
    ceiling = min(max_s, base_s * factor**exponent)
    return ceiling * uniform(1.0 - jitter, 1.0)
