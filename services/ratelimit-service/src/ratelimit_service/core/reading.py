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
        self._seen = 0
        self._anew = True
        self.flawed: set[Place] = set()

    def begin_anew(self) -> None:
        """Something may have been missed, or the database been set back: read everything."""
        self._anew = True

    async def run(self) -> None:
        """Raises Unavailable; then what was read so far holds, and the next run goes on."""
        newest = await self._store.newest()
        if self._anew or newest < self._seen:
            await self._read_all()
        else:
            await self._read_on(self._table)

    async def _read_all(self) -> None:
        """Asked for meanwhile, it is done again."""
        flawed, seen, fresh = self.flawed, self._seen, Known()
        self.flawed, self._seen, self._anew = set(), 0, False
        try:
            await self._read_on(fresh)
        except BaseException:
            self.flawed, self._seen, self._anew = flawed, seen, True
            raise
        self._table.become(fresh, kept=self.flawed)

    async def _read_on(self, table: PolicyTable | Known) -> None:
        while True:
            found = await self._store.since(self._seen, limit=PAGE)
            for setting in found:
                self._apply(table, setting)
                self._seen = setting.version
            if len(found) < PAGE:
                return

    def _apply(self, table: PolicyTable | Known, setting: Setting) -> None:
        try:
            table.apply(setting)
        except errors.Invalid as fault:
            self.flawed.add(setting.place)
            self._told(setting.place, fault.detail)
        else:
            self.flawed.discard(setting.place)
