"""Deciding alone, while no store answers: this replica's share of what it last saw."""

from ratelimit_service.core import gcra
from ratelimit_service.core.ledger import Ledger

# A key never seen here may have spent anything elsewhere: it starts half full.
UNSEEN_DEBT = 0.5


class Local:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def decide(self, ask: gcra.Ask, *, replicas: int) -> gcra.Verdict:
        """Each of `replicas` gives out the same share of the bucket and of its refill."""
        levels = {limit.key: self._level(limit, replicas) for limit in ask.limits}
        verdict = gcra.judge(ask, levels)
        if verdict.passed and not ask.peek:
            self._note(ask, verdict)
        return verdict

    def _level(self, limit: gcra.Limit, replicas: int) -> gcra.Level:
        last = self._ledger.last(limit.key)
        pace = last.pace if last and last.pace.version > limit.pace.version else limit.pace
        if last is None:
            debt_us = int(pace.tau_us * UNSEEN_DEBT)
        elif last.pace.version < pace.version:
            debt_us = gcra.converted(last.debt_us, old=last.pace, new=pace)
        else:
            debt_us = last.debt_us
        # A token costs as many as there are replicas, because each of them gives one out.
        shared_us = min(pace.t_us * replicas, pace.tau_us)
        return gcra.Level(debt_us, gcra.Pace(shared_us, pace.tau_us, pace.version))

    def _note(self, ask: gcra.Ask, verdict: gcra.Verdict) -> None:
        for limit, level in zip(ask.limits, verdict.levels, strict=True):
            if limit.cost and level.fits(limit):
                last = self._ledger.last(limit.key)
                newer = last and last.pace.version > limit.pace.version
                pace = last.pace if last and newer else limit.pace
                debt_us = level.debt_us + limit.cost * level.pace.t_us
                self._ledger.put(limit.key, gcra.Level(debt_us, pace), limit.cost)
