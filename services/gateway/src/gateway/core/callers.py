"""Who asked lately: what is looked up once for many of his requests."""

from collections import OrderedDict
from dataclasses import dataclass

from gateway.core import accounts, ports
from gateway.core.local import Asked


@dataclass(slots=True, eq=False)
class Caller:
    """`asked`: what is counted of him. The limiter was asked about him by name and knows nothing
    against him until `cleared_until_s`, or has him on a list until `listed_until_s`."""

    asked: list[Asked]
    cleared_until_s: float = 0.0
    listed: ports.Decision | None = None
    listed_until_s: float = 0.0


class Callers:
    """Those longest not heard of are forgotten first."""

    def __init__(self, *, capacity: int = accounts.CAPACITY) -> None:
        self._capacity = capacity
        self._callers: OrderedDict[ports.Demand, Caller] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def get(self, demand: ports.Demand) -> Caller | None:
        found = self._callers.get(demand)
        if found is None:
            return None
        for each in found.asked:
            if each.account.is_gone:
                return None
        self._callers.move_to_end(demand)
        return found

    def add(self, demand: ports.Demand, caller: Caller) -> None:
        self._callers[demand] = caller
        self._callers.move_to_end(demand)
        if len(self._callers) > self._capacity:
            self._callers.popitem(last=False)

    def clear(self) -> None:
        self._callers.clear()
