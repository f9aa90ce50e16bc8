"""Which of the replicas does the housekeeping: a lease row in the service's own database.

The table is `leader(name, holder, until)`. A lease saves work and guards nothing: a holder that was
frozen still acts when it wakes, so whatever it leads must be idempotent by key.
"""

from chassis import postgres, sql
from chassis.kernel import ids

SQL = sql.queries(__file__)

LEASE_S = 5.0


class Leader:
    def __init__(self, database: postgres.Database, name: str, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._name = name
        self._lease_s = lease_s
        self._holder = ids.new_id()

    async def leads(self) -> bool:
        """Take the lease, or renew it. Ask again well within `lease_s`."""
        return bool(
            await self._database.fetchval(SQL.lead, self._name, self._holder, self._lease_s)
        )
