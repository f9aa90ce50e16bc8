"""The outbox: events are rows of the transaction that made them, and leave from there.

The table is the service's own (`outbox(id, event_id, type, envelope, created_at)` and
`leader(name, holder, until)`). One relay per service leads by a lease row; it publishes outside any
transaction and deletes what was taken. Rows are found by existing, never by `id > last seen`:
sequences commit out of order and such a cursor skips rows for ever. A crash between publishing and
deleting sends an event twice with the same id, and every consumer knows ids.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

from prometheus_client import Counter, Gauge

from chassis import crypto, lifecycle, postgres, rabbit, sql
from chassis.http_client import ServiceClient, open_session
from chassis.kernel import errors
from chassis.leader import Leader

SQL = sql.queries(__file__)

CHUNK = 200
LEASE_S = 15.0
GATEWAY_PATH = "/internal/v1/events"

OUTBOX_AGE_S = Gauge("outbox_oldest_age_seconds", "Age of the oldest event still here")
OUTBOX_SENT = Counter("outbox_relayed_total", "Events handed over", ["road"])


class Sink(Protocol):
    """Takes envelopes; raises Unavailable when it cannot vouch for them."""

    road: str

    async def send(self, envelopes: Sequence[dict[str, Any]]) -> None: ...


class BusSink:
    """To the events exchange, one confirm each."""

    road = "bus"

    def __init__(self, publisher: rabbit.Publisher, *, exchange: str) -> None:
        self._publisher = publisher
        self._exchange = exchange

    async def send(self, envelopes: Sequence[dict[str, Any]]) -> None:
        sent = await asyncio.gather(*map(self._send_one, envelopes), return_exceptions=True)
        for outcome in sent:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send_one(self, envelope: dict[str, Any]) -> None:
        await self._publisher.publish(
            postgres.dumps(envelope).encode(),
            exchange=self._exchange,
            routing_key=envelope["type"],
            message_id=envelope["id"],
            headers={"traceparent": envelope.get("traceparent") or ""},
            content_type="application/cloudevents+json",
        )


class HttpSink:
    """Straight to a subscriber, while there is no bus."""

    road = "http"

    def __init__(self, client: ServiceClient, *, path: str) -> None:
        self._client = client
        self._path = path

    async def send(self, envelopes: Sequence[dict[str, Any]]) -> None:
        answer = await self._client.request("POST", self._path, json={"events": list(envelopes)})
        answer.checked()


@asynccontextmanager
async def gateway_sink(url: str, *, minter: crypto.Minter) -> AsyncIterator[HttpSink]:
    """The gateway at `url`, on a connection of the outbox's own."""
    session = open_session()
    client = ServiceClient(name="gateway", base_url=url, session=session, minter=minter)
    try:
        yield HttpSink(client, path=GATEWAY_PATH)
    finally:
        await session.close()


class Relay(lifecycle.Loop):
    """Hands the oldest events to the first sink that takes them."""

    name = "outbox_relay"
    interval_s = 0.5

    def __init__(self, *, database: postgres.Database, sinks: Sequence[Sink]) -> None:
        super().__init__()
        self._database = database
        self._sinks = sinks
        self._leader = Leader(database, self.name, lease_s=LEASE_S)

    async def run_once(self) -> bool:
        if not await self._leader.leads():
            return False
        rows = await self._database.fetch(SQL.oldest, CHUNK)
        OUTBOX_AGE_S.set(rows[0]["age_s"] if rows else 0.0)
        if not rows:
            return False
        await self._send([row["envelope"] for row in rows])
        await self._database.execute(SQL.delete_sent, [row["id"] for row in rows])
        return len(rows) == CHUNK

    async def _send(self, envelopes: list[dict[str, Any]]) -> None:
        for sink in self._sinks:
            try:
                await sink.send(envelopes)
            except errors.Unavailable:
                continue
            OUTBOX_SENT.labels(sink.road).inc(len(envelopes))
            return
        raise errors.Unavailable("no road for events is open")


async def put(
    connection: postgres.Connection, envelopes: Sequence[tuple[UUID, str, dict[str, Any]]]
) -> None:
    """Write (event id, type, envelope) rows inside the caller's transaction."""
    if not envelopes:
        return
    event_ids, types, bodies = zip(*envelopes, strict=True)
    await connection.execute(SQL.put, list(event_ids), list(types), list(bodies))
