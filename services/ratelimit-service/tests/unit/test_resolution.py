"""Which limit holds for a shop, and that its version grows with all that changes it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from contracts.ratelimits import (
    KeyKind,
    OverridePut,
    PlanPut,
    PolicyChange,
    PolicyPut,
    ShopPlan,
    Subject,
)
from ratelimit_service.core import gcra, policies
from ratelimit_service.core.configuration import PLAN_OF_SHOP, Kind, Place, Said, Setting
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy

SHOP = "spring-garden.myshopify.com"
VERIFIED = Subject(shop=SHOP)
START = datetime(2026, 11, 25, tzinfo=UTC)
POLICY = Place(Kind.POLICY, "", "api")
PLAN = Place(Kind.PLAN, "", "plus")
ON_PLAN = Place(Kind.SHOP, SHOP, PLAN_OF_SHOP)
OVERRIDE = Place(Kind.OVERRIDE, SHOP, "api")

bursts = st.integers(1, 50)
# Each writer writes another field, and one that others write too.
events = st.one_of(
    st.tuples(st.just("policy"), bursts, st.booleans()),
    st.tuples(st.just("plan"), bursts, bursts),
    st.tuples(st.just("empty plan")),
    st.tuples(st.just("join")),
    st.tuples(st.just("leave")),
    st.tuples(st.just("override"), bursts, st.none() | st.integers(1, 5)),
    st.tuples(st.just("remove")),
    st.tuples(st.just("learn"), bursts),
    st.tuples(st.just("wait"), st.integers(1, 5)),
)


def setting(place: Place, version: int, said: Said | None, **more: Any) -> Setting:
    return Setting(place=place, version=version, said=said, author="k", updated_at=START, **more)


def api(burst: int, **more: Any) -> PolicyPut:
    return PolicyPut(key=KeyKind.SHOP, rate="1/s", burst=burst, **more)


@dataclass
class World:
    """Settings change one after another; what ought to hold is computed the long way."""

    now_s: float = START.timestamp()
    version: int = 1
    policy: PolicyPut = field(default_factory=lambda: api(7))
    plan: PlanPut | None = None
    joined: bool = False
    override: OverridePut | None = None
    learned: PolicyChange | None = None

    def __post_init__(self) -> None:
        self.table = PolicyTable(now=lambda: self.now_s)
        self.history = [setting(POLICY, 1, self.policy)]
        self.table.apply(self.history[0])

    def put(self, place: Place, said: Said | None) -> None:
        self.version += 1
        self.history.append(setting(place, self.version, said))
        self.table.apply(self.history[-1])

    def happen(self, what: str, *how: Any) -> None:
        match what:
            case "policy":
                self.policy = api(how[0], learn=how[1])
                self.put(POLICY, self.policy)
            case "plan":
                change = PolicyChange(burst=how[0], default_cost=how[1])
                self.plan = PlanPut(policies={"api": change})
                self.put(PLAN, self.plan)
            case "empty plan":
                self.plan = PlanPut(policies={})
                self.put(PLAN, self.plan)
            case "join" | "leave":
                self.joined = what == "join"
                self.put(ON_PLAN, ShopPlan(plan="plus") if self.joined else None)
            case "override":
                until = None if how[1] is None else self.now_s + how[1]
                expires = None if until is None else datetime.fromtimestamp(until, UTC)
                self.override = OverridePut(burst=how[0], expires_at=expires)
                self.put(OVERRIDE, self.override)
            case "remove":
                self.override = None
                self.put(OVERRIDE, None)
            case "learn":
                self.version += 1
                self.learned = PolicyChange(burst=how[0])
                self.table.learn("api", SHOP, self.learned, version=self.version)
            case "wait":
                self.now_s += how[0]

    def expected(self) -> PolicyPut:
        over = self.override
        if over is not None and over.expires_at is not None:
            over = over if self.now_s < over.expires_at.timestamp() else None
        plan = self.plan.policies.get("api") if self.plan and self.joined else None
        learned = self.learned if self.policy.learn else None
        burst = next(
            (each.burst for each in (learned, over, plan) if each is not None and each.burst),
            self.policy.burst,
        )
        cost = plan.default_cost if plan is not None else 1
        return self.policy.model_copy(update={"burst": burst, "default_cost": cost})

    def found(self) -> Policy:
        found = self.table.find("api", VERIFIED)
        assert found is not None
        return found


@given(st.lists(events, max_size=30))
def test_the_last_word_wins_and_every_change_of_it_has_a_newer_version(happened: Any) -> None:
    world = World()
    before = world.found()
    for each in happened:
        world.happen(*each)
        after = world.found()
        assert after.spec == world.expected()
        assert after.pace.burst == after.spec.burst
        assert after.pace.version >= before.pace.version
        if after.spec != before.spec:
            assert after.pace.version > before.pace.version
        before = after


@given(st.lists(events, max_size=20), st.data())
def test_replicas_that_hear_of_changes_late_or_twice_agree(
    happened: Any, data: st.DataObject
) -> None:
    world = World()
    for each in happened:
        if each[0] != "learn":
            world.happen(*each)
    other = PolicyTable(now=lambda: world.now_s)
    repeats = data.draw(st.lists(st.sampled_from(world.history), max_size=10))
    for heard in data.draw(st.permutations([*world.history, *repeats])):
        other.apply(heard)
    assert other.find("api", VERIFIED) == world.found()


@given(st.lists(events, max_size=30))
def test_a_shop_that_nobody_vouches_for_has_the_policy_as_it_is(happened: Any) -> None:
    world = World()
    for each in happened:
        world.happen(*each)
    claimed = world.table.find("api", Subject(shop=SHOP, shop_verified=False, ip="192.0.2.1"))
    assert claimed == world.table.find("api") == world.table.find("api", Subject(shop="other"))
    assert claimed is not None
    assert claimed.spec == world.policy


def test_what_was_spent_is_converted_when_an_override_comes_runs_out_and_the_policy_changes() -> (
    None
):
    world = World()
    record: gcra.Record | None = None
    changes: list[tuple[tuple[Any, ...], int]] = [
        (("override", 20, 5), 17),
        (("policy", 9, False), 14),
        (("wait", 6), 0),
        (("policy", 30, False), 18),
    ]
    for change, left in changes:
        world.happen(*change)
        pace = world.found().pace
        ask = gcra.Ask((gcra.Limit("k", pace, 3),))
        [verdict], changed = gcra.decide(
            gcra.Batch([ask]), {} if record is None else {"k": record}, 0
        )
        assert verdict.levels[0].pace == pace, "the store kept to an older pace"
        record = changed.get("k")
        assert isinstance(record, gcra.RateLimitRecord)
        assert (pace.tau_us - record.tat_us) // pace.t_us == left


def test_a_policy_of_addresses_is_the_same_for_all() -> None:
    table = PolicyTable()
    by_address = PolicyPut(key=KeyKind.IP, rate="1/s", burst=5)
    table.apply(setting(Place(Kind.POLICY, "", "api"), 1, by_address))
    table.apply(setting(OVERRIDE, 2, OverridePut(burst=50)))
    found = table.find("api", VERIFIED)
    assert found is not None
    assert found.pace.burst == 5


def test_layers_that_fit_no_longer_step_aside_the_plan_first() -> None:
    world = World(policy=api(7, max_cost=5))
    world.put(POLICY, world.policy)
    world.happen("plan", 9, 6)
    world.happen("join")
    assert world.found().spec == world.policy, "a plan whose default_cost is more than max_cost"
    world.happen("override", 3, None)
    assert world.found().spec.burst == 3
    assert world.found().spec.default_cost == 1


@pytest.mark.parametrize("flaw", ["burst", "flaw"])
def test_what_cannot_be_counted_leaves_what_was_in_force(flaw: str) -> None:
    world = World()
    broken = (
        setting(POLICY, 9, api(9, max_cost=1, default_cost=2))
        if flaw == "burst"
        else setting(POLICY, 9, None, flaw="/rate: missing")
    )
    with pytest.raises(errors.Invalid):
        world.table.apply(broken)
    assert world.found().spec.burst == 7


def test_policies_merged_for_shops_take_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "MERGED_SHOPS", 10)
    world = World()
    world.happen("plan", 9, 1)
    for number in range(35):
        place = Place(Kind.SHOP, f"shop-{number}", PLAN_OF_SHOP)
        world.put(place, ShopPlan(plan="plus"))
        found = world.table.find("api", Subject(shop=f"shop-{number}"))
        assert found is not None
        assert found.pace.burst == 9
    assert len(world.table._merged) <= 10
