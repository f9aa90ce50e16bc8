"""A limiter in memory, on the reference function; only tests import it."""

from collections.abc import Mapping, Sequence

from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.switch import Ruling


class MemoryLimiter:
    """Takes the place of the batcher and everything behind it. Time is moved by hand."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000
        self.records: dict[str, gcra.RateLimitRecord] = {}
        self.backend = Backend.POSTGRES

    async def rule(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        verdicts = self.decide(gcra.Batch(asks))
        return [Ruling(verdict, self.backend) for verdict in verdicts]

    def decide(
        self, batch: gcra.Batch, debts: Mapping[str, gcra.Level | None] | None = None
    ) -> Sequence[gcra.Verdict]:
        """`debts`: what is said of keys that are not here."""
        for key, level in (debts or {}).items():
            if level is not None and key not in self.records:
                self.records[key] = gcra.RateLimitRecord(self.now_us + level.debt_us, level.pace)
        verdicts, changed = gcra.decide(batch, self.records, self.now_us)
        self.records.update(changed)
        return verdicts
