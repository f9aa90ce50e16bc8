"""A circuit: closed → open → half-open → recovering → closed.

Pure: time and randomness come in. Passive signals are `success` and `failure`; an active probe
may call `force_open` or `invite`; an operator may `pin` it for a time, whatever these say. While
half-open at most one trial is in flight and three in all decide; while recovering a growing share
of the traffic passes, so that an upstream that has just come back is not met by everything at once.
A result carries the generation it was admitted in, so that an answer from before a change of state
says nothing about the time after it.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


class Why(StrEnum):
    """What brought a circuit into the state it is in."""

    START = "start"
    TRAFFIC = "traffic"
    PROBE = "probe"
    HOLD_OVER = "hold_over"
    TRIALS = "trials"
    RAMP_OVER = "ramp_over"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Policy:
    """It opens after `failures_to_open` in a row, or when more than `tolerated` of the calls of
    about the last `window_s` failed and these were ten. Each opening holds twice as long as the one
    before; every `calm_s` of being closed takes one back (0: the first does)."""

    failures_to_open: int = 5
    hold_base_s: float = 1.0
    hold_max_s: float = 30.0
    trials: int = 3
    ramp_s: float = 10.0
    first_share: float = 0.1
    tolerated: float = 1.0
    window_s: float = 30.0
    calm_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ticket:
    generation: int
    is_trial: bool = False


LEAST_CALLS = 10


class Traffic:
    """Calls and failures of about the last seconds: older ones count less and less."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._at = 0.0
        self.calls = 0.0
        self.failures = 0.0

    def add(self, now: float, *, failures: int) -> None:
        self.fade(now)
        self.calls += 1
        self.failures += failures

    def fade(self, now: float) -> None:
        left = math.exp((self._at - now) / self._window_s)
        self._at = now
        self.calls *= left
        self.failures *= left


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
        self._pinned_until: float | None = None
        self._traffic = Traffic(self._policy.window_s)
        self.since = monotonic()
        self.why = Why.START

    @property
    def state(self) -> State:
        if self._is_pinned():
            return self._state
        if self._state is State.OPEN and self._monotonic() >= self._until:
            self._enter(State.HALF_OPEN, Why.HOLD_OVER)
        if self._state is State.RECOVERING and self._share() >= 1.0:
            self._enter(State.CLOSED, Why.RAMP_OVER)
        return self._state

    @property
    def traffic(self) -> Traffic:
        """What calls have said since the last change of state."""
        self._traffic.fade(self._monotonic())
        return self._traffic

    def admit(self, *, essential: bool = False, may_try: bool = True) -> Ticket | None:
        """A ticket when a call may go out now, else None. Every ticket must be given back.

        `essential`: there is no other way to do it, so the ramp does not hold it back. `may_try`:
        it does no harm if it is lost, so it may be one of the trials.
        """
        match self.state:
            case State.OPEN:
                return None
            case State.HALF_OPEN:
                if self._in_flight > 0 or not may_try:
                    return None
                self._in_flight += 1
                return Ticket(self._generation, is_trial=True)
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
        self._traffic.add(self._monotonic(), failures=0)
        if self._state is State.HALF_OPEN:
            self._in_flight -= 1
            self._good_trials += 1
            if self._good_trials >= self._policy.trials:
                self._ramp_from = self._monotonic()
                self._enter(State.RECOVERING, Why.TRIALS)

    def failure(self, ticket: Ticket) -> None:
        if ticket.generation != self._generation:
            return
        self._streak += 1
        self._traffic.add(self._monotonic(), failures=1)
        if self._state is not State.CLOSED or self._is_bad():
            self._open(Why.TRAFFIC)

    def _is_bad(self) -> bool:
        seen, policy = self._traffic, self._policy
        return self._streak >= policy.failures_to_open or (
            seen.calls >= LEAST_CALLS and seen.failures > policy.tolerated * seen.calls
        )

    def ignore(self, ticket: Ticket) -> None:
        """The call said nothing about the upstream (it was cancelled, or refused as bad input)."""
        if ticket.generation == self._generation and self._state is State.HALF_OPEN:
            self._in_flight -= 1

    def force_open(self) -> None:
        """A probe of its own has failed."""
        self._open(Why.PROBE)

    def invite(self) -> None:
        """A probe of its own succeeded: no need to wait for the hold to end."""
        if self._state is State.OPEN and not self._is_pinned():
            self._enter(State.HALF_OPEN, Why.PROBE)

    def pin(self, state: State, *, for_s: float) -> None:
        """An operator's word, CLOSED or OPEN: so it stays for that long."""
        self._pinned_until = self._monotonic() + for_s
        if self._state is not state:
            self._enter(state, Why.OPERATOR)

    def unpin(self) -> None:
        """From open the way back leads over trials, as always."""
        was_pinned, self._pinned_until = self._pinned_until is not None, None
        if was_pinned and self._state is State.OPEN:
            self._enter(State.HALF_OPEN, Why.OPERATOR)

    def _is_pinned(self) -> bool:
        if self._pinned_until is None:
            return False
        if self._monotonic() >= self._pinned_until:
            self.unpin()
        return self._pinned_until is not None

    def _open(self, why: Why) -> None:
        if self.state is State.OPEN or self._is_pinned():
            return
        if self._state is State.CLOSED:
            self._openings = max(0, self._openings - self._calm_times())
        hold_s = min(self._policy.hold_max_s, self._policy.hold_base_s * 2.0**self._openings)
        self._openings = min(self._openings + 1, 16)
        self._until = self._monotonic() + self._uniform(hold_s / 2, hold_s)
        self._enter(State.OPEN, why)

    def _calm_times(self) -> int:
        calm_s = self._policy.calm_s
        return int((self._monotonic() - self.since) / calm_s) if calm_s else self._openings

    def _share(self) -> float:
        elapsed = self._monotonic() - self._ramp_from
        return self._policy.first_share + elapsed / self._policy.ramp_s

    def _enter(self, state: State, why: Why) -> None:
        self._state = state
        self.why = why
        self._generation += 1
        self._streak = 0
        self._in_flight = 0
        self._good_trials = 0
        self._traffic = Traffic(self._policy.window_s)
        self.since = self._monotonic()
        self._on_change(self.name, state)
