"""What was asked of a queue and what it answered, and a judge: was a promise broken?

I1  every accepted job is there and has ended; what was refused is not; nothing else is
I2  one job for each key
I3  one lease's result for each job, and never two leases at once

Times are of one clock. The judge never accuses wrongly: where an answer was lost, either is right.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

FINAL = frozenset({"completed", "failed", "cancelled"})
# Outcomes after which the job is over, whatever attempts are left.
CLOSING = {"completed": "completed", "cancel": "cancelled", "discard": "failed"}


class Answer(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Ending:
    """`told_at`: it was first sent. `answer`: settled, duplicate, lost, or "" when none came."""

    outcome: str
    told_at: float
    answer: str = ""


@dataclass(slots=True)
class Lease:
    """`known_at`: the answer that brought it had come. `until`: its furthest end that may be."""

    token: str
    known_at: float
    until: float
    endings: list[Ending] = field(default_factory=list)

    @property
    def over_at(self) -> float:
        """From then on another lease is right."""
        ended = [one.told_at for one in self.endings if one.answer != "lost"]
        return min([self.until, *ended])


@dataclass(frozen=True, slots=True)
class Found:
    """A job as it is in the end."""

    id: str
    state: str
    key: str | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    job: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule} {self.job}: {self.what}"


class History:
    def __init__(self) -> None:
        self.jobs: dict[str, Answer] = {}
        self.keys: dict[str, set[str]] = defaultdict(set)
        self.unanswered_keys: set[str] = set()
        self.leases: dict[str, dict[str, Lease]] = defaultdict(dict)

    def enqueued(self, job: str, answer: Answer, *, key: str | None = None) -> None:
        """Of several answers for one id the firmest counts: accepted once is accepted."""
        known = self.jobs.get(job)
        if known is not Answer.OK and (known is None or answer is not Answer.UNKNOWN):
            self.jobs[job] = answer
        if key is not None and answer is Answer.OK:
            self.keys[key].add(job)

    def unanswered(self, key: str) -> None:
        """Under this key, without an id of ours, a job may have been stored."""
        self.unanswered_keys.add(key)

    def leased(self, job: str, token: str, *, known_at: float, until: float) -> None:
        self.leases[job].setdefault(token, Lease(token, known_at, until))

    def ending(self, job: str, token: str, outcome: str, *, told_at: float) -> Ending:
        """Before it is sent; set its `answer` when there is one."""
        made = Ending(outcome, told_at)
        self.leases[job][token].endings.append(made)
        return made

    def judge(self, found: Iterable[Found]) -> list[Violation]:
        there = list(found)
        return [*self._i1(there), *self._i2(there), *self._i3(there)]

    def _i1(self, found: list[Found]) -> Iterable[Violation]:
        by_id = {one.id: one for one in found}
        if len(by_id) < len(found):
            yield Violation("I2", "-", f"{len(found) - len(by_id)} ids are there more than once")
        for job, answer in self.jobs.items():
            one = by_id.get(job)
            if one is None and answer is Answer.OK:
                yield Violation("I1", job, "accepted, and not there")
            elif one is not None and answer is Answer.REFUSED:
                yield Violation("I1", job, "refused, and yet stored")
        for one in found:
            if one.state not in FINAL:
                yield Violation("I1", one.id, f"has not ended: {one.state}")
            if one.id not in self.jobs and one.key not in self.unanswered_keys:
                yield Violation("I1", one.id, "nobody has asked for it")

    def _i2(self, found: list[Found]) -> Iterable[Violation]:
        stored: dict[str, set[str]] = defaultdict(set)
        for one in found:
            if one.key is not None:
                stored[one.key].add(one.id)
        for key in stored.keys() | self.keys.keys():
            ids = stored[key] | self.keys[key]
            if len(ids) > 1:
                yield Violation("I2", key, f"one key, {len(ids)} jobs")

    def _i3(self, found: list[Found]) -> Iterable[Violation]:
        for one in found:
            leases = sorted(self.leases.get(one.id, {}).values(), key=lambda each: each.known_at)
            yield from self._one_result(one, leases)
            yield from self._never_two(one.id, leases)

    def _one_result(self, job: Found, leases: list[Lease]) -> Iterable[Violation]:
        for lease in leases:
            if sum(one.answer == "settled" for one in lease.endings) > 1:
                yield Violation("I3", job.id, "two endings of one lease were accepted")
        accepted = [
            (lease.token, one.outcome)
            for lease in leases
            for one in lease.endings
            if one.answer == "settled" and one.outcome in CLOSING
        ]
        if len(accepted) > 1:
            yield Violation("I3", job.id, f"{len(accepted)} leases ended it")
        for token, outcome in accepted[:1]:
            if job.state != CLOSING[outcome]:
                yield Violation("I3", job.id, f"accepted as {outcome}, and is {job.state}")
            if outcome == "completed" and job.result != {"lease": token}:
                yield Violation("I3", job.id, "its result is not the accepted one")
        told = [{"lease": each.token} for each in leases if _said(each, "completed")]
        if job.state == "completed" and leases and job.result not in told:
            yield Violation("I3", job.id, "its result is one that no lease told")

    def _never_two(self, job: str, leases: list[Lease]) -> Iterable[Violation]:
        for earlier, later in pairwise(leases):
            if later.known_at < earlier.over_at:
                seconds = earlier.over_at - later.known_at
                yield Violation(
                    "I3", job, f"leased again {seconds:.3f} s before its lease was over"
                )


def _said(lease: Lease, outcome: str) -> bool:
    return any(one.outcome == outcome and one.answer != "lost" for one in lease.endings)
