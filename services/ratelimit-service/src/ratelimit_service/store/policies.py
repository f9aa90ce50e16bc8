"""What the seed file names: there from the start; afterwards the database has the word."""

import json
from datetime import UTC, datetime
from importlib import resources

from contracts.ratelimits import PolicyPut
from ratelimit_service.core import policy
from ratelimit_service.core.policy import Policy

# Older than any version of the database's, so that a record it has made is never converted back.
SEED_VERSION = 0


def seeds() -> dict[str, PolicyPut]:
    raw = json.loads(resources.files(__package__).joinpath("seed.json").read_text())
    return {name: PolicyPut.model_validate_json(json.dumps(given)) for name, given in raw.items()}


def seed_policies() -> list[Policy]:
    """What holds until the database has been read."""
    start = datetime.fromtimestamp(0, UTC)
    return [
        policy.build(name, version=SEED_VERSION, spec=spec, updated_at=start)
        for name, spec in seeds().items()
    ]
