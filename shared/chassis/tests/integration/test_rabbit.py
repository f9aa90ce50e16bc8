"""The bus: what was confirmed is kept, what was not says so, and links come back by themselves."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aio_pika
import pytest
import pytest_asyncio

from chassis import consumer, lifecycle, outbox, rabbit
from chassis.consumer import Consumer, Verdict
from chassis.kernel import errors
from contracts import topology
from contracts.topology import Exchange, Queue
from localstack.servers.rabbit import RabbitServer
from testkit.faults import TcpProxy
from testkit.signals import eventually

QUORUM = {"x-queue-type": "quorum"}
EXCHANGES = (Exchange("things", "direct"), Exchange("dead", "topic"))
THINGS = Queue(
    "things.v1", "things", ("made",),
    {**QUORUM, "x-dead-letter-exchange": "dead", "x-delivery-limit": 20},
)  # fmt: skip
DEAD = Queue("dead.v1", "dead", ("#",), QUORUM)
FULL = Queue("full.v1", "things", ("full",), {"x-max-length": 1, "x-overflow": "reject-publish"})
TOPOLOGY = rabbit.Topology(EXCHANGES, (DEAD, THINGS, FULL))
SOON_S = 15.0


@pytest_asyncio.fixture
async def proxy(amqp_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(amqp_url) as made:
        yield made


@pytest.fixture
def url(amqp_url: str, proxy: TcpProxy) -> str:
    return proxy.url(amqp_url)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit, "RECONNECT_BASE_S", 0.05)
    monkeypatch.setattr(rabbit, "RECONNECT_MAX_S", 0.3)


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[lifecycle.Supervisor]:
    """No link may ever end by itself."""
    made = lifecycle.Supervisor()
    yield made
    failed = made.failed.is_set()
    await made.stop()
    assert not failed


Start = Callable[[rabbit.Link], Awaitable[None]]


@pytest.fixture
def start(supervisor: lifecycle.Supervisor) -> Start:
    async def started(link: rabbit.Link) -> None:
        supervisor.spawn(link.purpose, link.run())
        await eventually(link.up.is_set, within_s=SOON_S)

    return started


@pytest_asyncio.fixture
async def publisher(url: str, start: Start) -> rabbit.Publisher:
    made = rabbit.Publisher(url, purpose="publish", topology=TOPOLOGY)
    await start(made)
    return made


async def publish(publisher: rabbit.Publisher, body: bytes = b"{}", **said: Any) -> None:
    options = {"exchange": "things", "routing_key": "made", "message_id": "1", **said}
    await publisher.publish(body, **options)


async def take(amqp_url: str, queue: str, count: int) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """The next messages, taken for good."""
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        source = await channel.get_queue(queue, ensure=False)
        taken: list[aio_pika.abc.AbstractIncomingMessage] = []
        async with asyncio.timeout(SOON_S):
            while len(taken) < count:
                message = await source.get(no_ack=True, fail=False)
                if message is None:
                    await asyncio.sleep(0.02)
                else:
                    taken.append(message)
        assert await source.get(no_ack=True, fail=False) is None
        return taken


async def test_what_is_confirmed_is_there_with_its_id_and_kind(
    publisher: rabbit.Publisher, amqp_url: str
) -> None:
    await publish(publisher, b'{"a":1}', message_id="m1", headers={"traceparent": "t"})
    (message,) = await take(amqp_url, "things.v1", 1)
    assert message.body == b'{"a":1}'
    assert (message.message_id, message.type) == ("m1", "made")
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert message.headers["traceparent"] == "t"


async def test_what_nobody_would_get_is_refused(publisher: rabbit.Publisher) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        await publish(publisher, routing_key="nobody")
    assert type(caught.value) is errors.Unavailable
    await publish(publisher)


async def test_what_a_full_queue_refuses_is_not_kept(publisher: rabbit.Publisher) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        for _ in range(20):
            await publish(publisher, routing_key="full")
    assert type(caught.value) is errors.Unavailable


async def test_a_missing_exchange_costs_the_connection_and_not_the_link(
    publisher: rabbit.Publisher,
) -> None:
    with pytest.raises(errors.Unavailable):
        await publish(publisher, exchange="nothing")

    async def works() -> bool:
        with contextlib.suppress(errors.Unavailable):
            await publish(publisher)
            return True
        return False

    await eventually(works, within_s=SOON_S)


async def test_nothing_is_promised_while_the_bus_is_away(
    publisher: rabbit.Publisher, proxy: TcpProxy
) -> None:
    await proxy.refuses()
    await eventually(lambda: not publisher.up.is_set())
    with pytest.raises(errors.Unavailable) as caught:
        await publish(publisher)
    assert type(caught.value) is errors.Unavailable
    await proxy.passes()
    await eventually(publisher.up.is_set, within_s=SOON_S)
    await publish(publisher)


async def test_a_silent_broker_is_noticed_by_its_confirms_and_left(
    publisher: rabbit.Publisher, proxy: TcpProxy
) -> None:
    await publish(publisher)
    proxy.hangs()
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(rabbit.LOST_CONFIRMS):
        with pytest.raises(errors.Ambiguous):
            await publish(publisher, timeout_s=0.2)
    assert loop.time() - started < 1
    await eventually(lambda: not publisher.up.is_set())
    await proxy.passes()
    await eventually(publisher.up.is_set, within_s=SOON_S)
    await publish(publisher)


async def test_a_connection_cut_under_load_leaves_every_caller_with_a_plain_answer(
    publisher: rabbit.Publisher, proxy: TcpProxy, amqp_url: str
) -> None:
    proxy.delays(0.01)
    sent = [
        asyncio.create_task(publish(publisher, b"%d" % n, message_id=str(n))) for n in range(40)
    ]
    await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
    proxy.cut()
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    assert {type(one) for one in outcomes} <= {type(None), errors.Ambiguous, errors.Unavailable}
    assert errors.Ambiguous in {type(one) for one in outcomes}
    await proxy.passes()
    await eventually(publisher.up.is_set, within_s=SOON_S)
    await publish(publisher, b"last")
    confirmed = {b"%d" % n for n, outcome in enumerate(outcomes) if outcome is None}
    found = set()
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        source = await channel.get_queue("things.v1", ensure=False)
        async with asyncio.timeout(SOON_S):
            while b"last" not in found:
                message = await source.get(no_ack=True, fail=False)
                found.add(message.body if message else b"")
    assert confirmed <= found


async def test_a_link_outlives_a_bus_that_is_away_at_its_start(
    url: str, proxy: TcpProxy, supervisor: lifecycle.Supervisor
) -> None:
    await proxy.refuses()
    link = rabbit.Publisher(url, purpose="early")
    supervisor.spawn("early", link.run())
    with pytest.raises(errors.Unavailable):
        await publish(link)
    await proxy.passes()
    await eventually(link.up.is_set, within_s=SOON_S)


async def test_a_wrong_password_is_no_end_either(
    url: str, supervisor: lifecycle.Supervisor
) -> None:
    head, _, tail = url.rpartition("@")
    link = rabbit.Publisher(f"{head}x@{tail}", purpose="stranger")
    supervisor.spawn("stranger", link.run())
    done, _ = await asyncio.wait(supervisor._tasks.values(), timeout=0.5)
    assert not done
    assert not link.up.is_set()


async def test_other_arguments_on_the_broker_are_a_fact_and_no_reason_to_stop(
    url: str, start: Start, amqp_url: str
) -> None:
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue("full.v1", durable=True)
    publisher = rabbit.Publisher(url, purpose="drifted", topology=TOPOLOGY)
    await start(publisher)
    await publish(publisher)
    assert rabbit.BUS_DRIFT.labels("full.v1")._value.get() == 1
    assert rabbit.BUS_DRIFT.labels("things.v1")._value.get() == 0


async def test_the_products_own_topology_can_be_declared_again_and_again(
    url: str, start: Start
) -> None:
    ours = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)
    for purpose in ("first", "second"):
        await start(rabbit.Publisher(url, purpose=purpose, topology=ours))
    for queue in topology.QUEUES:
        assert rabbit.BUS_DRIFT.labels(queue.name)._value.get() == 0


class Told:
    """Handles as it is told, and remembers."""

    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self.seen: list[bytes] = []
        self._verdicts = list(verdicts)

    async def __call__(self, body: bytes) -> Verdict:
        self.seen.append(body)
        verdict = self._verdicts.pop(0) if self._verdicts else Verdict.DONE
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


async def consume(url: str, start: Start, told: Told, **options: Any) -> Consumer:
    made = Consumer(url, queue="things.v1", handle=told, topology=TOPOLOGY, pause_s=0.05, **options)
    await start(made)
    return made


async def test_done_is_taken_away(
    publisher: rabbit.Publisher, url: str, start: Start, amqp_url: str
) -> None:
    told = Told()
    await consume(url, start, told)
    for n in range(3):
        await publish(publisher, b"%d" % n)
    await eventually(lambda: sorted(told.seen) == [b"0", b"1", b"2"])
    await eventually(lambda: rabbit.BUS_CONSUMED.labels("things.v1", "done")._value.get() >= 3)


async def test_invalid_goes_to_the_dead_letters(
    publisher: rabbit.Publisher, url: str, start: Start, amqp_url: str
) -> None:
    await consume(url, start, Told(Verdict.INVALID))
    await publish(publisher, b"not json", message_id="m1")
    (dead,) = await take(amqp_url, "dead.v1", 1)
    assert (dead.body, dead.message_id) == (b"not json", "m1")


@pytest.mark.parametrize(
    "trouble", [Verdict.AGAIN, errors.Unavailable("database"), RuntimeError("a bug")]
)
async def test_trouble_of_ours_brings_the_message_back_after_a_pause(
    publisher: rabbit.Publisher, url: str, start: Start, trouble: Verdict | Exception
) -> None:
    told = Told(trouble, trouble)
    await consume(url, start, told)
    await publish(publisher, b"x")
    await eventually(lambda: told.seen == [b"x", b"x", b"x"], within_s=SOON_S)


async def test_what_was_in_hand_when_the_connection_broke_comes_again(
    publisher: rabbit.Publisher, amqp_url: str, start: Start
) -> None:
    async with TcpProxy.before(amqp_url) as own:
        free = asyncio.Event()
        seen: list[bytes] = []

        async def slow(body: bytes) -> Verdict:
            seen.append(body)
            await free.wait()
            return Verdict.DONE

        made = Consumer(own.url(amqp_url), queue="things.v1", handle=slow, pause_s=0.05)
        await start(made)
        await publish(publisher, b"x")
        await eventually(lambda: seen == [b"x"])
        own.cut()
        free.set()
        await eventually(lambda: seen == [b"x", b"x"], within_s=SOON_S)
        await eventually(made.up.is_set, within_s=SOON_S)


async def test_a_consumer_whose_queue_is_deleted_finds_the_new_one(
    publisher: rabbit.Publisher, url: str, start: Start, amqp_url: str
) -> None:
    told = Told()
    await consume(url, start, told)
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.queue_delete("things.v1")

    async def arrives() -> bool:
        with contextlib.suppress(errors.Unavailable):
            await publish(publisher, b"after")
        return b"after" in told.seen

    await eventually(arrives, within_s=SOON_S)


async def test_the_canary_notices_a_silent_broker_and_its_return(
    url: str, start: Start, proxy: TcpProxy
) -> None:
    ours = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)
    link = rabbit.Publisher(url, purpose="canary", topology=ours)
    await start(link)
    canary = rabbit.Canary(link, exchange=topology.COMMANDS, routing_key=topology.CANARY.keys[0])
    assert not canary.up, "not known to be up"
    await canary.run_once()
    assert canary.up
    proxy.hangs()
    await canary.run_once()
    assert canary.up, "one miss is none"
    await canary.run_once()
    assert not canary.up
    await proxy.passes()
    await eventually(link.up.is_set, within_s=SOON_S)
    await canary.run_once()
    assert canary.up


async def test_through_a_freeze_and_a_kill_of_the_broker(
    private_rabbit: RabbitServer, start: Start
) -> None:
    publisher = rabbit.Publisher(private_rabbit.url, purpose="publish", topology=TOPOLOGY)
    told = Told()
    await start(publisher)
    await start(Consumer(private_rabbit.url, queue="things.v1", handle=told, pause_s=0.05))
    private_rabbit.settle_declarations()
    await publish(publisher, b"before")
    await eventually(lambda: told.seen == [b"before"])
    private_rabbit.pause()
    for _ in range(rabbit.LOST_CONFIRMS):
        with pytest.raises(errors.Ambiguous):
            await publish(publisher, b"frozen", timeout_s=0.3)
    private_rabbit.resume()
    await eventually(publisher.up.is_set, within_s=SOON_S)
    await publish(publisher, b"thawed", timeout_s=5)
    private_rabbit.kill()
    await eventually(lambda: not publisher.up.is_set(), within_s=SOON_S)
    private_rabbit.start()
    await eventually(publisher.up.is_set, within_s=SOON_S)
    await publish(publisher, b"after", timeout_s=5)
    await eventually(lambda: b"after" in told.seen, within_s=SOON_S)
    assert {b"before", b"thawed", b"after"} <= set(told.seen)


async def test_events_leave_by_the_bus_each_under_its_own_id(
    publisher: rabbit.Publisher, amqp_url: str
) -> None:
    sink = outbox.BusSink(publisher, exchange="things")
    events = [{"id": f"e{n}", "type": "made", "traceparent": None, "name": "ω"} for n in range(3)]
    await sink.send(events)
    taken = await take(amqp_url, "things.v1", 3)
    assert sorted(str(one.message_id) for one in taken) == ["e0", "e1", "e2"]
    assert json.loads(taken[0].body)["name"] == "ω"
    assert taken[0].content_type == "application/cloudevents+json"
    with pytest.raises(errors.Unavailable):
        await sink.send([{"id": "e3", "type": "nobody", "name": ""}])


def test_verdicts_are_the_words_of_the_metric() -> None:
    assert [str(verdict) for verdict in consumer.Verdict] == ["done", "invalid", "again"]
