"""What a check is told when nobody can know better."""

from collections.abc import Sequence

import pytest

from chassis.kernel import errors
from chassis.kernel.clock import SystemClock
from contracts.ratelimits import Check
from ratelimit_service.core import gcra
from ratelimit_service.core.checks import Checks, State
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.switch import Ruling
from ratelimit_service.core.tokens import Tokens


async def test_before_the_policies_are_loaded_none_is_called_unknown() -> None:
    async def rule(_asks: Sequence[gcra.Ask]) -> list[Ruling]:
        raise AssertionError("nothing to decide")

    table = PolicyTable()
    checks = Checks(
        policies=table,
        rule=rule,
        state=lambda: State(None, 0.0),
        tokens=Tokens("a secret", SystemClock()),
    )
    asked = Check.model_validate({"subject": {"shop": "a"}, "policies": ["none"]})
    with pytest.raises(errors.Unavailable):
        await checks.check(asked)
    table.loaded = True
    with pytest.raises(errors.NotFound):
        await checks.check(asked)
