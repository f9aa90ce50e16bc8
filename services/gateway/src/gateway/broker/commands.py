"""Road 2: commands to owners over the bus, each kept by a quorum before we go on."""

from collections.abc import Sequence

import orjson

from chassis import rabbit
from chassis.kernel import errors
from contracts import commands, topology
from gateway.core.notices import Notice
from gateway.core.parcels import Parcel, command, loads


class CommandBus:
    def __init__(self, *, publisher: rabbit.Publisher, canary: rabbit.Canary) -> None:
        self._publisher = publisher
        self._canary = canary

    @property
    def is_up(self) -> bool:
        return self._publisher.up.is_set() and self._canary.up

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Unavailable: not all of them are kept. What is may come, the owner knows repeats."""
        if any(len(parcel.raw) > commands.MAX_BYTES for parcel in parcels):
            raise errors.Unavailable("too large for the bus")
        for load in loads(parcels):
            await self._publisher.publish(
                command(load, promised=True),
                exchange=topology.COMMANDS,
                routing_key=commands.ACCEPT_JOBS,
                message_id=str(load[0].id),
            )

    async def tell(self, notice: Notice) -> None:
        """To session-service."""
        told = {
            "type": commands.TELL_SESSIONS,
            "shop": notice.shop,
            "verb": notice.verb,
            "said": notice.said,
        }
        await self._publisher.publish(
            orjson.dumps(told),
            exchange=topology.COMMANDS,
            routing_key=commands.TELL_SESSIONS,
            message_id=str(notice.id),
        )
