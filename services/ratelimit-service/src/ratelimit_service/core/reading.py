"""Keeps the limits in force as the database has them: all of it once, then what has changed."""

from collections.abc import Callable

from chassis.kernel import errors
from ratelimit_service.core.configuration import Place, Setting, Store
from ratelimit_service.core.known import Known
from ratelimit_service.core.policies import PolicyTable

# Rows in one reading, so that nothing else waits for long while a hundred thousand come in.
PAGE = 500

Unreadable = Callable[[Place, str], None]


class Reading:
    """`unreadable` is told of a stored setting that cannot be read; the last good one stays."""

    def __init__(self, *, store: Store, table: PolicyTable, unreadable: Unreadable) -> None:
        self._store = store
        self._table = table
        self._told = unreadable
        self._seen: int | None = None
        self.flawed: set[Place] = set()

    def begin_anew(self) -> None:
        """Something may have been missed, or the database been set back: read everything."""
        self._seen = None

    async def run(self) -> None:
        """Raises Unavailable; then what was read so far holds, and the next run goes on."""
        newest = await self._store.newest()
        if self._seen is None or newest < self._seen:
            await self._read_all()
        else:
            await self._read_on(self._table)

    async def _read_all(self) -> None:
        self._seen = None
        flawed, fresh = self.flawed, Known()
        self.flawed = set()
        try:
            seen = await self._read_on(fresh)
        except BaseException:
            self.flawed, self._seen = flawed, None
            raise
        self._table.become(fresh, kept=self.flawed)
        self._seen = seen

    async def _read_on(self, table: PolicyTable | Known) -> int:
        seen = self._seen or 0
        while True:
            found = await self._store.since(seen, limit=PAGE)
            for setting in found:
                self._apply(table, setting)
                seen = setting.version
            if table is self._table:
                self._seen = seen
            if len(found) < PAGE:
                return seen

    def _apply(self, table: PolicyTable | Known, setting: Setting) -> None:
        try:
            table.apply(setting)
        except errors.Invalid as fault:
            self.flawed.add(setting.place)
            self._told(setting.place, fault.detail)
        else:
            self.flawed.discard(setting.place)
