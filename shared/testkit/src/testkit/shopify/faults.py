"""What goes wrong next, in the order it was asked for."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

HTML = "<html><head><title>Error</title></head><body>Something went wrong.</body></html>"


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One thing that goes wrong, `times` times, with the next calls that it is meant for.

    `where`: token, authorize, graphql, rest or * for all. `detail`: of a token call its grant
    (code, exchange, migrate, refresh, client_credentials), of a query the name of its operation or
    of its first field, else the path. None: any.
    `status`: answered instead of what was asked, or (`after`) when it has been done. `cut`: the
    connection is reset instead of an answer, likewise. `drop`: fields that the answer lacks.
    `delay_s` and `hold` (an event of the test) come before the deed, or after it.
    """

    where: str = "token"
    shop: str | None = None
    detail: str | None = None
    status: int | None = None
    body: str = HTML
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False
    cut: bool = False
    drop: tuple[str, ...] = ()
    delay_s: float = 0.0
    hold: asyncio.Event | None = None
    times: int = 1

    @classmethod
    def lost(cls, **where: str | int) -> Self:
        """It is done, and nobody hears of it."""
        return cls(after=True, cut=True, **where)  # type: ignore[arg-type]

    @classmethod
    def reset(cls, **where: str | int) -> Self:
        """Nothing is done, and the connection is gone."""
        return cls(cut=True, **where)  # type: ignore[arg-type]

    @classmethod
    def answers(cls, status: int, **how: object) -> Self:
        return cls(status=status, **how)  # type: ignore[arg-type]

    @classmethod
    def lacks(cls, *fields: str, **where: str | int) -> Self:
        """The answer comes without these fields."""
        return cls(drop=fields, **where)  # type: ignore[arg-type]

    def meets(self, where: str, shop: str, detail: str) -> bool:
        return (
            self.where in (where, "*")
            and self.shop in (shop, None)
            and self.detail in (detail, None)
        )


class Faults:
    """The script: each request takes the first fault that is meant for it."""

    def __init__(self) -> None:
        self._script: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._script += faults

    def clear(self) -> None:
        self._script.clear()

    @property
    def left(self) -> int:
        return sum(each.times for each in self._script)

    def take(self, where: str, shop: str, detail: str) -> Fault | None:
        for fault in self._script:
            if fault.meets(where, shop, detail):
                fault.times -= 1
                if fault.times < 1:
                    self._script.remove(fault)
                return fault
        return None
