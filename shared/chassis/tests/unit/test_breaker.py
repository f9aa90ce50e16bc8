"""The circuit, with time and chance in the test's hands."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chassis.kernel.breaker import Breaker, Policy, State, Ticket, Why
from testkit.clock import FakeClock

POLICY = Policy(
    failures_to_open=3, hold_base_s=1, hold_max_s=4, trials=2, ramp_s=10, first_share=0.1
)


class Circuit(Breaker):
    """With a clock, a draw and a memory of its changes."""

    def __init__(self, clock: FakeClock, policy: Policy = POLICY) -> None:
        self.clock = clock
        self.draw = 1.0
        self.changes: list[State] = []
        super().__init__(
            "upstream",
            monotonic=clock.monotonic,
            policy=policy,
            uniform=lambda low, high: low + (high - low) * self.draw,
            on_change=lambda _name, state: self.changes.append(state),
        )

    def admitted(self) -> Ticket:
        ticket = self.admit(essential=True)
        assert ticket is not None
        return ticket

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.failure(self.admitted())

    def recover(self) -> None:
        """From open to recovering."""
        self.clock.advance(POLICY.hold_max_s)
        for _ in range(POLICY.trials):
            self.success(self.admitted())


@pytest.fixture
def circuit(clock: FakeClock) -> Circuit:
    return Circuit(clock)


def test_failures_in_a_row_open_it_and_a_success_between_does_not_count(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.success(circuit.admitted())
    circuit.fail(2)
    assert circuit.state is State.CLOSED
    circuit.fail(1)
    assert circuit.state is State.OPEN
    assert circuit.admit() is None


def test_the_hold_ends_after_its_draw_and_one_trial_is_in_flight_at_a_time(
    circuit: Circuit,
) -> None:
    circuit.fail(3)
    circuit.clock.advance(0.99)
    assert circuit.admit() is None
    circuit.clock.advance(0.02)
    trial = circuit.admit()
    assert trial is not None
    assert circuit.state is State.HALF_OPEN
    assert circuit.admit() is None
    circuit.success(trial)
    assert circuit.admit() is not None


def test_enough_good_trials_begin_the_ramp_and_the_ramp_ends_closed(circuit: Circuit) -> None:
    circuit.fail(3)
    circuit.recover()
    assert circuit.state is State.RECOVERING
    circuit.draw = 0.5
    assert circuit.admit() is None
    assert circuit.admit(essential=True) is not None
    circuit.clock.advance(5)
    assert circuit.admit() is not None
    circuit.clock.advance(5)
    assert circuit.state is State.CLOSED
    assert circuit.changes == [State.OPEN, State.HALF_OPEN, State.RECOVERING, State.CLOSED]


@pytest.mark.parametrize("stage", [State.HALF_OPEN, State.RECOVERING])
def test_one_failure_on_the_way_back_opens_it_again(circuit: Circuit, stage: State) -> None:
    circuit.fail(3)
    if stage is State.HALF_OPEN:
        circuit.clock.advance(1)
    else:
        circuit.recover()
    assert circuit.state is stage
    circuit.fail()
    assert circuit.state is State.OPEN


def test_each_opening_in_a_row_holds_twice_as_long_up_to_the_maximum(circuit: Circuit) -> None:
    circuit.fail(3)
    for hold_s in (1, 2, 4, 4):
        circuit.clock.advance(hold_s - 0.01)
        assert circuit.state is State.OPEN
        circuit.clock.advance(0.01)
        assert circuit.state is State.HALF_OPEN
        circuit.fail()
    circuit.recover()
    circuit.clock.advance(10)
    assert circuit.state is State.CLOSED
    circuit.fail(3)
    circuit.clock.advance(1)
    assert circuit.state is State.HALF_OPEN, "closed in between: the first hold again"


def test_an_answer_from_before_a_change_says_nothing_about_the_time_after_it(
    circuit: Circuit,
) -> None:
    old = [circuit.admitted() for _ in range(5)]
    circuit.fail(3)
    circuit.clock.advance(1)
    trial = circuit.admitted()
    circuit.failure(old[0])
    circuit.success(old[1])
    circuit.ignore(old[2])
    assert circuit.state is State.HALF_OPEN
    assert circuit.admit() is None, "the trial is still in flight"
    circuit.success(trial)
    assert circuit.state is State.HALF_OPEN, "one of two trials"


def test_a_call_that_said_nothing_frees_the_place_of_the_trial(circuit: Circuit) -> None:
    circuit.fail(3)
    circuit.clock.advance(1)
    circuit.ignore(circuit.admitted())
    assert circuit.admit() is not None


def test_a_probe_opens_it_at_once_and_invites_it_back_before_the_hold_ends(
    circuit: Circuit,
) -> None:
    circuit.force_open()
    assert circuit.admit() is None
    circuit.force_open()
    assert circuit.changes == [State.OPEN]
    circuit.invite()
    assert circuit.admit() is not None
    circuit.invite()
    assert circuit.changes == [State.OPEN, State.HALF_OPEN]


@pytest.mark.parametrize(("every", "state"), [(4, State.OPEN), (6, State.CLOSED)])
def test_too_large_a_share_of_failures_opens_it_although_none_follow_each_other(
    clock: FakeClock, every: int, state: State
) -> None:
    circuit = Circuit(clock, dataclasses.replace(POLICY, tolerated=0.2))
    for number in range(1, 60):
        if circuit.state is State.CLOSED:
            ticket = circuit.admitted()
            circuit.success(ticket) if number % every else circuit.failure(ticket)
        clock.advance(0.05)
    assert State.OPEN in circuit.changes if state is State.OPEN else circuit.changes == []


def test_few_calls_and_old_calls_are_no_share(clock: FakeClock) -> None:
    circuit = Circuit(clock, dataclasses.replace(POLICY, tolerated=0.2, window_s=10.0))
    circuit.fail(2)
    circuit.success(circuit.admitted())
    assert circuit.state is State.CLOSED, "three calls say nothing"
    for _ in range(3):
        clock.advance(60)
        circuit.fail(2)
        circuit.success(circuit.admitted())
    assert circuit.state is State.CLOSED
    assert circuit.traffic.calls < 4


def test_calm_times_take_back_one_opening_each(clock: FakeClock) -> None:
    circuit = Circuit(clock, dataclasses.replace(POLICY, calm_s=60.0))
    for _ in range(2):
        circuit.fail(3)
        circuit.recover()
        clock.advance(POLICY.ramp_s)
        assert circuit.state is State.CLOSED
    circuit.fail(3)
    clock.advance(3.9)
    assert circuit.state is State.OPEN, "the third hold"
    circuit.recover()
    clock.advance(POLICY.ramp_s)
    assert circuit.state is State.CLOSED
    clock.advance(181)
    circuit.fail(3)
    clock.advance(1)
    assert circuit.state is State.HALF_OPEN, "the first hold again"


def test_a_call_that_must_not_be_lost_is_no_trial(circuit: Circuit) -> None:
    circuit.fail(3)
    circuit.clock.advance(1)
    assert circuit.admit(essential=True, may_try=False) is None
    trial = circuit.admitted()
    assert trial.is_trial
    circuit.success(trial)
    circuit.success(circuit.admitted())
    assert circuit.state is State.RECOVERING
    assert circuit.admit(essential=True, may_try=False) == Ticket(circuit._generation)


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSED])
def test_what_an_operator_pins_stays_for_its_time_whatever_calls_and_probes_say(
    circuit: Circuit, state: State
) -> None:
    circuit.pin(state, for_s=60)
    for _ in range(5):
        circuit.force_open()
        circuit.invite()
        ticket = circuit.admit()
        assert (ticket is None) == (state is State.OPEN)
        if ticket is not None:
            circuit.failure(ticket)
        circuit.clock.advance(11)
    assert circuit.state is state
    circuit.clock.advance(5)
    assert circuit.state is (State.HALF_OPEN if state is State.OPEN else State.CLOSED)


def test_it_may_be_unpinned_early_and_from_closed_goes_by_what_calls_say(circuit: Circuit) -> None:
    circuit.force_open()
    circuit.pin(State.CLOSED, for_s=60)
    assert (circuit.state, circuit.why) == (State.CLOSED, Why.OPERATOR)
    circuit.fail(3)
    circuit.unpin()
    assert circuit.state is State.CLOSED
    circuit.fail(1)
    assert (circuit.state, circuit.why) == (State.OPEN, Why.TRAFFIC)


@given(st.floats(0, 9), st.floats(0, 1))
def test_the_share_let_through_grows_with_the_time_since_the_return(
    elapsed_s: float, draw: float
) -> None:
    circuit = Circuit(FakeClock())
    circuit.fail(3)
    circuit.recover()
    circuit.clock.advance(elapsed_s)
    if circuit.state is State.RECOVERING:
        share = 0.1 + elapsed_s / 10
        circuit.draw = draw
        if abs(draw - share) > 1e-9:
            assert (circuit.admit() is not None) == (draw < share)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(FakeClock())
        self.tickets: list[Ticket] = []

    @rule(draw=st.floats(0, 1), essential=st.booleans())
    def admit(self, draw: float, essential: bool) -> None:
        self.circuit.draw = draw
        before = self.circuit.state
        ticket = self.circuit.admit(essential=essential)
        assert not (before is State.OPEN and ticket)
        assert not (before is State.CLOSED and ticket is None)
        if ticket is not None:
            self.tickets.append(ticket)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), ending=st.sampled_from(["success", "failure", "ignore"]))
    def give_back(self, data: st.DataObject, ending: str) -> None:
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        getattr(self.circuit, ending)(ticket)

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.circuit.clock.advance(seconds)

    @rule(word=st.sampled_from(["force_open", "invite"]))
    def probe(self, word: str) -> None:
        getattr(self.circuit, word)()

    @rule(state=st.sampled_from([State.OPEN, State.CLOSED]), for_s=st.floats(0, 8))
    def pin(self, state: State, for_s: float) -> None:
        self.circuit.pin(state, for_s=for_s)

    @rule()
    def unpin(self) -> None:
        self.circuit.unpin()

    @invariant()
    def never_more_than_one_trial_in_flight(self) -> None:
        if self.circuit.state is State.HALF_OPEN:
            generation = self.circuit._generation
            assert sum(ticket.generation == generation for ticket in self.tickets) <= 1

    @invariant()
    def never_two_notices_of_one_state(self) -> None:
        changes = self.circuit.changes
        assert all(a is not b for a, b in itertools.pairwise(changes))

    def teardown(self) -> None:
        """However it got there: an upstream that answers is used in full again."""
        for ticket in self.tickets:
            self.circuit.ignore(ticket)
        self.circuit.unpin()
        if self.circuit.state is not State.CLOSED:
            if self.circuit.state is not State.RECOVERING:
                self.circuit.clock.advance(POLICY.hold_max_s)
                while self.circuit.state is State.HALF_OPEN:
                    self.circuit.success(self.circuit.admitted())
            self.circuit.clock.advance(POLICY.ramp_s)
        assert self.circuit.state is State.CLOSED


TestAnyHistory = AnyHistory.TestCase
