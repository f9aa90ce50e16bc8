"""Policies in Postgres. What the seed file names is there from the start; afterwards the database
has the word."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import asyncpg

from chassis import sql
from chassis.kernel import errors
from chassis.postgres import Database
from contracts.ratelimits import PolicyPut
from ratelimit_service.core import policy
from ratelimit_service.core.policy import Policy

QUERIES = sql.queries(__file__)
CHANNEL = "ratelimit_policies"
# Older than any version of the database's, so that a record it has made is never converted back.
SEED_VERSION = 0


def seeds() -> dict[str, PolicyPut]:
    raw = json.loads(resources.files(__package__).joinpath("seed.json").read_text())
    return {name: _spec(given) for name, given in raw.items()}


def seed_policies() -> list[Policy]:
    """What holds until the database has been read."""
    start = datetime.fromtimestamp(0, UTC)
    return [
        policy.build(name, version=SEED_VERSION, spec=spec, updated_at=start)
        for name, spec in seeds().items()
    ]


class PostgresPolicies:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def seed(self) -> None:
        named = seeds()
        specs = [spec.model_dump(mode="json") for spec in named.values()]
        await self._database.execute(QUERIES.seed, list(named), specs)

    async def all(self) -> Sequence[Policy]:
        return [_policy(row) for row in await self._database.fetch(QUERIES.all)]

    async def page(self, *, after: str, limit: int) -> Sequence[Policy]:
        rows = await self._database.fetch(QUERIES.page, after, limit)
        return [_policy(row) for row in rows]

    async def find(self, identifier: str) -> Policy | None:
        row = await self._database.fetchrow(QUERIES.find, identifier)
        return _policy(row) if row is not None else None

    async def put(self, identifier: str, spec: PolicyPut) -> Policy:
        row = await self._database.fetchrow(QUERIES.put, identifier, spec.model_dump(mode="json"))
        if row is None:
            raise errors.Conflict("somebody else is changing this policy; repeat")
        return _policy(row)

    async def delete(self, identifier: str) -> bool:
        return await self._database.fetchrow(QUERIES.delete, identifier) is not None


def _policy(row: asyncpg.Record) -> Policy:
    return policy.build(
        row["id"],
        version=row["version"],
        spec=_spec(row["spec"]),
        updated_at=row["updated_at"],
    )


def _spec(document: Mapping[str, Any]) -> PolicyPut:
    """From JSON, whose enums are text: the strict model takes those from JSON alone."""
    return PolicyPut.model_validate_json(json.dumps(document))
