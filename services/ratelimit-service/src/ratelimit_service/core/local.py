"""Deciding alone, while no store answers: this replica's share of what it last saw."""

import dataclasses

from chassis.kernel.clock import Clock, SystemClock
from ratelimit_service.core import gcra
from ratelimit_service.core.gcra import TAKE
from ratelimit_service.core.ledger import Ledger

# A key never seen here may have spent anything elsewhere: it starts half full.
UNSEEN_DEBT = 0.5


class Local:
    def __init__(self, ledger: Ledger, clock: Clock | None = None) -> None:
        self._ledger = ledger
        self._clock = clock or SystemClock()

    def decide(self, ask: gcra.Ask, *, replicas: int, away_s: float = 0.0) -> gcra.Verdict:
        """Each of `replicas` gives out the same share of the bucket and of its refill. What is open
        by now stops nobody, so that the rest of the ask is taken all the same."""
        ask = _opened(ask, away_s)
        levels = {limit.key: self._level(limit, replicas) for limit in ask.limits}
        verdict = gcra.judge(ask, levels)
        if verdict.passed and not ask.peek:
            self._note(ask, verdict)
        return verdict

    def _level(self, limit: gcra.Limit, replicas: int) -> gcra.Level:
        known = self._known(limit)
        if limit.op is not TAKE:
            return known
        pace = known.pace
        # A token costs as many as there are replicas, because each of them gives one out.
        shared_us = min(pace.t_us * replicas, pace.tau_us)
        return gcra.Level(
            known.debt_us, gcra.Pace(shared_us, pace.tau_us, pace.version), known.span
        )

    def _known(self, limit: gcra.Limit) -> gcra.Level:
        """What the key owes as far as this process knows, at the newest pace it knows."""
        last = self._ledger.last(limit.key)
        # Only a quota asks which moment it is: a debt is as old as its bearer says.
        now_us = 0 if limit.window is None else int(self._clock.now().timestamp() * 1_000_000)
        record = gcra.recorded(last, now_us) if last is not None else None
        found = gcra.level(record, limit.pace, now_us, limit.window)
        if record is not None:
            return found
        unseen_us = int(limit.pace.tau_us * UNSEEN_DEBT)
        return gcra.Level(unseen_us, found.pace, found.span)

    def _note(self, ask: gcra.Ask, verdict: gcra.Verdict) -> None:
        for limit, level in zip(ask.limits, verdict.levels, strict=True):
            if level.fits(limit) and (limit.cost or limit.op is not TAKE):
                after = level.after(limit)
                tokens = limit.cost if limit.op in (TAKE, gcra.Op.PENALIZE) else 1
                pace = self._known(limit).pace
                self._ledger.put(limit.key, gcra.Level(after.debt_us, pace, after.span), tokens)
                if limit.op is gcra.Op.RESET:
                    self._ledger.note_reset(limit.key)


def _opened(ask: gcra.Ask, away_s: float) -> gcra.Ask:
    if not any(_is_open(limit, away_s) for limit in ask.limits):
        return ask
    limits = [
        dataclasses.replace(limit, shadow=True) if _is_open(limit, away_s) else limit
        for limit in ask.limits
    ]
    return gcra.Ask(tuple(limits), ask.peek)


def _is_open(limit: gcra.Limit, away_s: float) -> bool:
    return limit.opens_after_s is not None and away_s >= limit.opens_after_s
