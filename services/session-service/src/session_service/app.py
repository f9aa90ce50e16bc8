"""The only place of session-service where things are built."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from chassis import crypto, http_client, outbox, postgres, rabbit
from chassis import redis as accelerators
from chassis.consumer import Consumer
from chassis.kernel import breaker
from chassis.kernel.clock import Clock, SystemClock
from chassis.settings import secret
from chassis.web import auth, health
from chassis.web.app import add_operations, base_app
from contracts import topology
from session_service import metrics
from session_service.api import routes
from session_service.api.keys import CLEANUP, HISTORY, INSTALLATIONS, REKEYING, SESSIONS
from session_service.cache.copies import RedisCopies
from session_service.consumers.tell import HearShops
from session_service.core.cleanup import Cleanup
from session_service.core.copying import Copying
from session_service.core.reading import Reader
from session_service.core.recent import Recent
from session_service.core.rekeying import Rekeying
from session_service.core.sealing import Vault
from session_service.core.sessions import Sessions
from session_service.core.uninstall import Installations
from session_service.loops.census import CensusLoop
from session_service.loops.cleanup import CleanupLoop
from session_service.loops.copies import CopiesLoop
from session_service.settings import SessionSettings
from session_service.store.audit import PostgresHistory
from session_service.store.census import PostgresCensus
from session_service.store.keys import PostgresKeys
from session_service.store.runs import PostgresRuns
from session_service.store.sessions import PostgresSessions
from session_service.store.uninstall import PostgresInstallations

SERVICE = "session-service"
VERSION = "0.1.0"

SETTINGS = web.AppKey("SETTINGS", SessionSettings)
CLOCK = web.AppKey("CLOCK", Clock)
DATABASE = web.AppKey("DATABASE", postgres.Database)
REDIS = web.AppKey("REDIS", accelerators.Accelerator)
COPIES = web.AppKey("COPIES", RedisCopies)
VAULT = web.AppKey("VAULT", Vault)
PUBLISHER = web.AppKey("PUBLISHER", rabbit.Publisher)
SINKS = web.AppKey("SINKS", list[outbox.Sink])
EVENTS_PATH = "/internal/v1/events"


def create_app(settings: SessionSettings, *, clock: Clock | None = None) -> web.Application:
    app = base_app(service=SERVICE, version=VERSION)
    app[SETTINGS] = settings
    app[CLOCK] = clock or SystemClock()
    verifier = crypto.Verifier.from_directory(service=SERVICE, directory=settings.service_keys_dir)
    add_operations(app, routes.ROUTES, authenticate=auth.by_service_token(verifier))
    app.cleanup_ctx.extend(
        [postgres_ctx, redis_ctx, use_cases_ctx, bus_ctx, gateway_ctx, loops_ctx]
    )
    return app


async def postgres_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[DATABASE] = await postgres.open_database(
        settings.database_url.get_secret_value(),
        size=settings.postgres_pool_size,
        application=SERVICE,
    )
    try:
        yield
    finally:
        await app[DATABASE].close()


async def redis_ctx(app: web.Application) -> AsyncIterator[None]:
    url = secret(app[SETTINGS].redis_url)
    app[REDIS] = accelerators.Accelerator(accelerators.connect(url) if url else None)
    try:
        yield
    finally:
        await app[REDIS].close()


async def use_cases_ctx(app: web.Application) -> AsyncIterator[None]:
    settings, clock = app[SETTINGS], app[CLOCK]
    vault = app[VAULT] = Vault(
        crypto.Keyring(settings.session_keys.get_secret_value()),
        on_unreadable=metrics.UNREADABLE.inc,
    )
    store = PostgresSessions(app[DATABASE])
    app[COPIES] = RedisCopies(app[REDIS])
    copies = Copying(copies=app[COPIES], vault=vault, clock=clock)
    reader = Reader(find=store.find, seen=copies.seen, clock=clock)
    app[SESSIONS] = Sessions(
        store=store, reader=reader, copies=copies, recent=Recent(clock), vault=vault, clock=clock
    )
    app[INSTALLATIONS] = Installations(
        store=PostgresInstallations(app[DATABASE]), forget=app[SESSIONS].forget, clock=clock
    )
    app[HISTORY] = PostgresHistory(app[DATABASE])
    app[CLEANUP] = Cleanup(
        store=store,
        history=app[HISTORY],
        runs=PostgresRuns(app[DATABASE]),
        copies=copies,
        grace_s=settings.session_cleanup_grace_s,
    )
    app[REKEYING] = Rekeying(store=PostgresKeys(app[DATABASE]), vault=vault, clock=clock)
    _tell_health(app, reader.circuit)
    try:
        yield
    finally:
        await reader.close()


async def bus_ctx(app: web.Application) -> AsyncIterator[None]:
    """Without AMQP_URL there is no bus, and nothing is missing."""
    app[SINKS] = []
    url = secret(app[SETTINGS].amqp_url)
    if url is not None:
        declared = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)
        publisher = rabbit.Publisher(url, purpose=f"{SERVICE}:outbox", topology=declared)
        app[health.SUPERVISOR].spawn("bus:outbox", publisher.run())
        app[PUBLISHER] = publisher
        app[SINKS].append(outbox.BusSink(publisher, exchange=topology.EVENTS))
        told = Consumer(
            url,
            queue=topology.TELL_SESSIONS.name,
            handle=HearShops(app[INSTALLATIONS]),
            topology=declared,
        )
        app[health.SUPERVISOR].spawn("bus:tell", told.run())
    yield


async def gateway_ctx(app: web.Application) -> AsyncIterator[None]:
    """The gateway takes events while there is no bus."""
    settings = app[SETTINGS]
    if settings.gateway_url is None:
        yield
        return
    minter = crypto.Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    session = http_client.open_session()
    client = http_client.ServiceClient(
        name="gateway", base_url=settings.gateway_url, session=session, minter=minter
    )
    app[SINKS].append(outbox.HttpSink(client, path=EVENTS_PATH))
    try:
        yield
    finally:
        await session.close()


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    supervisor = app[health.SUPERVISOR]
    supervisor.start(health.HealthSampler(app[health.HEALTH]))
    supervisor.start(CleanupLoop(app[CLEANUP]))
    supervisor.start(CensusLoop(PostgresCensus(app[DATABASE]), key_id=app[VAULT].key_id))
    if app[COPIES].is_present:
        supervisor.start(CopiesLoop(app[COPIES]))
    sinks = app[SINKS]
    if sinks:
        supervisor.start(outbox.Relay(database=app[DATABASE], sinks=sinks))
    try:
        yield
    finally:
        await supervisor.stop()


@dataclass(frozen=True, slots=True)
class Road:
    """How sessions are read now: `direct` from the record, from a `cache`, or not at all."""

    told: health.Health
    redis: accelerators.Accelerator
    circuit: breaker.Breaker

    def __str__(self) -> str:
        is_away = self.told.seen.get("postgres") == "down"
        if not is_away and self.circuit.state is not breaker.State.OPEN:
            return "direct"
        return "cache" if self.redis.presence() is accelerators.Presence.UP else "shut"


def _tell_health(app: web.Application, circuit: breaker.Breaker) -> None:
    """Nothing is `needed`: without the database we still answer from copies, and say so."""
    told, database, redis = app[health.HEALTH], app[DATABASE], app[REDIS]
    road = Road(told, redis, circuit)

    async def postgres_state() -> str:
        return "up" if await database.answers() else "down"

    async def redis_state() -> str:
        return await redis.probe()

    async def rabbitmq_state() -> str:
        if PUBLISHER not in app:
            return "absent"
        return "up" if app[PUBLISHER].up.is_set() else "down"

    told.checks = {
        "postgres": postgres_state,
        "redis": redis_state,
        "rabbitmq": rabbitmq_state,
    }
    told.facts = lambda: {"sessions": str(road)}
