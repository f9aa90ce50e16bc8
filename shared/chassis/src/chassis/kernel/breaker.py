"""A circuit: closed → open → half-open → recovering → closed.

Pure: time and randomness come in. Passive signals are `success` and `failure`; an active probe
may call `force_open` or `invite`. While half-open at most one trial is in flight and three in all
decide; while recovering a growing share of the traffic passes, so that an upstream that has just
come back is not met by everything at once. A result carries the generation it was admitted in, so
that an answer from before a change of state says nothing about the time after it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class Policy:
    failures_to_open: int = 5
    hold_base_s: float = 1.0
    hold_max_s: float = 30.0
    trials: int = 3
    ramp_s: float = 10.0
    first_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Ticket:
    generation: int


class Breaker:
    def __init__(
        self,
        name: str,
        *,
        monotonic: Callable[[], float],
        policy: Policy | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        on_change: Callable[[str, State], None] = lambda _name, _state: None,
    ) -> None:
        self.name = name
        self._monotonic = monotonic
        self._policy = policy or Policy()
        self._uniform = uniform
        self._on_change = on_change
        self._state = State.CLOSED
        self._generation = 0
        self._streak = 0
        self._openings = 0
        self._until = 0.0
        self._ramp_from = 0.0
        self._in_flight = 0
        self._good_trials = 0
        self.since = monotonic()

    @property
    def state(self) -> State:
        if self._state is State.OPEN and self._monotonic() >= self._until:
            self._enter(State.HALF_OPEN)
        if self._state is State.RECOVERING and self._share() >= 1.0:
            self._openings = 0
            self._enter(State.CLOSED)
        return self._state

    def admit(self, *, essential: bool = False) -> Ticket | None:
        """A ticket when a call may go out now, else None. Every ticket must be given back.

        `essential`: there is no other way to do it, so the ramp does not hold it back.
        """
        match self.state:
            case State.OPEN:
                return None
            case State.HALF_OPEN:
                if self._in_flight > 0:
                    return None
                self._in_flight += 1
            case State.RECOVERING:
                if not essential and self._uniform(0.0, 1.0) > self._share():
                    return None
            case State.CLOSED:
                pass
        return Ticket(self._generation)

    def success(self, ticket: Ticket) -> None:
        if ticket.generation != self._generation:
            return
        self._streak = 0
        if self._state is State.HALF_OPEN:
            self._in_flight -= 1
            self._good_trials += 1
            if self._good_trials >= self._policy.trials:
                self._ramp_from = self._monotonic()
                self._enter(State.RECOVERING)

    def failure(self, ticket: Ticket) -> None:
        if ticket.generation != self._generation:
            return
        self._streak += 1
        tolerated = self._policy.failures_to_open if self._state is State.CLOSED else 1
        if self._streak >= tolerated:
            self.force_open()

    def ignore(self, ticket: Ticket) -> None:
        """The call said nothing about the upstream (it was cancelled, or refused as bad input)."""
        if ticket.generation == self._generation and self._state is State.HALF_OPEN:
            self._in_flight -= 1

    def force_open(self) -> None:
        if self.state is State.OPEN:
            return
        hold_s = min(self._policy.hold_max_s, self._policy.hold_base_s * 2.0**self._openings)
        self._openings = min(self._openings + 1, 16)
        self._until = self._monotonic() + self._uniform(hold_s / 2, hold_s)
        self._enter(State.OPEN)

    def invite(self) -> None:
        """A probe of its own succeeded: no need to wait for the hold to end."""
        if self._state is State.OPEN:
            self._enter(State.HALF_OPEN)

    def _share(self) -> float:
        elapsed = self._monotonic() - self._ramp_from
        return self._policy.first_share + elapsed / self._policy.ramp_s

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._streak = 0
        self._in_flight = 0
        self._good_trials = 0
        self.since = self._monotonic()
        self._on_change(self.name, state)
