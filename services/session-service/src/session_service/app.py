"""The only place of session-service where things are built."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from chassis import crypto, http_client, logs, outbox, postgres, rabbit
from chassis import redis as accelerators
from chassis.consumer import Consumer
from chassis.kernel import breaker
from chassis.kernel.clock import Clock, SystemClock
from chassis.settings import secret
from chassis.web import auth, health
from chassis.web.app import add_operations, base_app
from contracts import topology
from mainstay.shopify.admin import Admin
from mainstay.shopify.shops import Origins
from session_service import metrics
from session_service.api import routes
from session_service.api.keys import (
    ADMIN,
    CLEANUP,
    EMBEDDED,
    HISTORY,
    INSTALLATIONS,
    OAUTH,
    REFRESHING,
    REKEYING,
    SESSIONS,
    SHOPS,
    TOLD,
)
from session_service.api.told import Told
from session_service.cache.admin import MemoryShelf, RedisShelf
from session_service.cache.copies import RedisCopies
from session_service.clients.ratelimit_service import RateLimits
from session_service.clients.shopify import ShopifyTokens
from session_service.clients.shopify_admin import OwnTokens, ShopifyAdmin
from session_service.consumers.tell import HearShops
from session_service.core.admin import MAX_CALLS, AdminProxy, OfflineTokens
from session_service.core.answers import Verdict
from session_service.core.asking import Asker
from session_service.core.cleanup import Cleanup
from session_service.core.copying import Copying
from session_service.core.credentials import Credentials
from session_service.core.embedded import Embedded
from session_service.core.granting import Grants
from session_service.core.grants import Way
from session_service.core.oauth import OAuth
from session_service.core.reading import Reader
from session_service.core.recent import Recent
from session_service.core.refreshing import Refreshing
from session_service.core.rekeying import Rekeying
from session_service.core.sealing import Vault
from session_service.core.sessions import Sessions
from session_service.core.shopify_app import ShopifyApp
from session_service.core.uninstall import Installations
from session_service.core.used import Used
from session_service.core.warming import Warming
from session_service.loops.census import CensusLoop
from session_service.loops.cleanup import CleanupLoop
from session_service.loops.copies import CopiesLoop
from session_service.loops.keep_warm import KeepWarmLoop
from session_service.loops.refresh import RefreshLoop
from session_service.settings import SessionSettings
from session_service.store.audit import PostgresHistory
from session_service.store.census import PostgresCensus
from session_service.store.grants import PostgresGrants
from session_service.store.keys import PostgresKeys
from session_service.store.leases import PostgresLeases
from session_service.store.oauth_states import PostgresStates
from session_service.store.runs import PostgresRuns
from session_service.store.sessions import PostgresSessions
from session_service.store.uninstall import PostgresInstallations

log = logs.get(__name__)

SERVICE = "session-service"
VERSION = "0.1.0"

SETTINGS = web.AppKey("SETTINGS", SessionSettings)
CLOCK = web.AppKey("CLOCK", Clock)
DATABASE = web.AppKey("DATABASE", postgres.Database)
REDIS = web.AppKey("REDIS", accelerators.Accelerator)
COPIES = web.AppKey("COPIES", RedisCopies)
VAULT = web.AppKey("VAULT", Vault)
# Absent while no app is configured.
SHOPIFY = web.AppKey("SHOPIFY", ShopifyApp)
SHOPIFY_HTTP = web.AppKey("SHOPIFY_HTTP", aiohttp.ClientSession)
GRANTS = web.AppKey("GRANTS", Grants)
USED = web.AppKey("USED", Used)
PUBLISHER = web.AppKey("PUBLISHER", rabbit.Publisher)
SINKS = web.AppKey("SINKS", list[outbox.Sink])


def create_app(settings: SessionSettings, *, clock: Clock | None = None) -> web.Application:
    app = base_app(service=SERVICE, version=VERSION)
    app[SETTINGS] = settings
    app[CLOCK] = clock or SystemClock()
    verifier = crypto.Verifier.from_directory(service=SERVICE, directory=settings.service_keys_dir)
    add_operations(app, routes.ROUTES, authenticate=auth.by_service_token(verifier))
    app.cleanup_ctx.extend(
        [
            postgres_ctx,
            redis_ctx,
            shopify_ctx,
            use_cases_ctx,
            authorizing_ctx,
            bus_ctx,
            gateway_ctx,
            admin_ctx,
            loops_ctx,
        ]
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


async def shopify_ctx(app: web.Application) -> AsyncIterator[None]:
    """Without an app at Shopify no tokens are asked for."""
    settings = app[SETTINGS]
    if not settings.shopify_api_key or not settings.shopify_secrets:
        yield
        return
    app[SHOPIFY] = ShopifyApp(
        key=settings.shopify_api_key,
        secrets=settings.shopify_secrets,
        scopes=settings.shopify_scopes,
        url=settings.shopify_app_url,
    )
    app[SHOPIFY_HTTP] = http_client.open_session()
    try:
        yield
    finally:
        await app[SHOPIFY_HTTP].close()


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
    recent = Recent(clock)
    app[SESSIONS] = Sessions(
        store=store, reader=reader, copies=copies, recent=recent, vault=vault, clock=clock
    )
    grants = _grants(app, vault=vault, recent=recent, copies=copies) if SHOPIFY in app else None
    app[USED] = Used(clock)
    app[REFRESHING] = Refreshing(
        sessions=app[SESSIONS],
        grants=grants,
        store=PostgresGrants(app[DATABASE]),
        shops=settings.shops(),
        used=app[USED],
        clock=clock,
        app_url=settings.shopify_app_url,
    )
    app[TOLD] = Told(recent=recent, clock=clock)
    if grants is not None:
        app[GRANTS] = grants
    app[INSTALLATIONS] = Installations(
        store=PostgresInstallations(app[DATABASE]), forget=app[SESSIONS].forget, clock=clock
    )
    app[HISTORY] = PostgresHistory(app[DATABASE])
    app[CLEANUP] = Cleanup(
        store=store,
        history=app[HISTORY],
        states=PostgresStates(app[DATABASE]),
        runs=PostgresRuns(app[DATABASE]),
        copies=copies,
        grace_s=settings.session_cleanup_grace_s,
    )
    app[REKEYING] = Rekeying(store=PostgresKeys(app[DATABASE]), vault=vault, clock=clock)
    _tell_health(app, reader.circuit)
    try:
        yield
    finally:
        if grants is not None:
            await grants.close()
        await reader.close()


def _grants(app: web.Application, *, vault: Vault, recent: Recent, copies: Copying) -> Grants:
    settings, clock = app[SETTINGS], app[CLOCK]
    credentials = Credentials(app[SHOPIFY], clock=clock, on_change=metrics.SHOPIFY_REFUSES.set)
    endpoint = ShopifyTokens(session=app[SHOPIFY_HTTP], shops=settings.shops())
    return Grants(
        store=PostgresGrants(app[DATABASE]),
        leases=PostgresLeases(app[DATABASE]),
        asker=Asker(endpoint=endpoint, credentials=credentials, clock=clock),
        vault=vault,
        recent=recent,
        copies=copies,
        clock=clock,
        on_end=_grant_ended,
    )


def _grant_ended(way: str, outcome: str, said: str) -> None:
    metrics.GRANTS.labels(way, outcome).inc()
    if way == Way.REFRESH:
        metrics.REFRESHES.labels(outcome).inc()
    if outcome != Verdict.GRANTED:
        log.warning("grant_failed", grant=way, outcome=outcome, said=said)


async def authorizing_ctx(app: web.Application) -> AsyncIterator[None]:
    """Redirects need an address to come back to, session tokens do not."""
    if SHOPIFY in app:
        shopify, shops, grants, clock = app[SHOPIFY], app[SETTINGS].shops(), app[GRANTS], app[CLOCK]
        app[EMBEDDED] = Embedded(app=shopify, shops=shops, grants=grants, clock=clock)
        if shopify.url is not None:
            states = PostgresStates(app[DATABASE])
            app[OAUTH] = OAuth(app=shopify, shops=shops, states=states, grants=grants, clock=clock)
    yield


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
    async with outbox.gateway_sink(settings.gateway_url, minter=minter) as sink:
        app[SINKS].append(sink)
        yield


async def admin_ctx(app: web.Application) -> AsyncIterator[None]:
    """Without an app at Shopify nobody can be called there."""
    settings = app[SETTINGS]
    app[SHOPS] = settings.shops()
    if SHOPIFY not in app:
        yield
        return
    inward = http_client.open_session()
    outward = http_client.open_session(connections=MAX_CALLS, decompress=True)
    keeper = OfflineTokens(app[REFRESHING])
    paced = _paced(settings, inward, app[CLOCK])
    shops = Origins(template=settings.shopify_shop_origin, suffixes=settings.shopify_suffixes)
    calls = Admin(OwnTokens(keeper), http=outward, origins=shops, user_agent=SERVICE)
    ring = crypto.Keyring(settings.session_keys.get_secret_value())
    app[ADMIN] = AdminProxy(
        shopify=ShopifyAdmin(calls, keeper=keeper, paced=paced),
        keeper=keeper,
        shelves=[RedisShelf(app[REDIS], ring), MemoryShelf()],
        clock=app[CLOCK],
    )
    try:
        yield
    finally:
        await outward.close()
        await inward.close()


def _paced(
    settings: SessionSettings, session: aiohttp.ClientSession, clock: Clock
) -> RateLimits | None:
    if settings.ratelimit_service_url is None:
        return None
    minter = crypto.Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    client = http_client.ServiceClient(
        name="ratelimit-service",
        base_url=settings.ratelimit_service_url,
        session=session,
        minter=minter,
    )
    return RateLimits(client, clock=clock)


def _warming(app: web.Application) -> Warming:
    return Warming(
        grants=app[GRANTS],
        store=PostgresGrants(app[DATABASE]),
        leases=PostgresLeases(app[DATABASE]),
        runs=PostgresRuns(app[DATABASE]),
        clock=app[CLOCK],
    )


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    supervisor = app[health.SUPERVISOR]
    supervisor.start(health.HealthSampler(app[health.HEALTH]))
    supervisor.start(CleanupLoop(app[CLEANUP]))
    supervisor.start(CensusLoop(PostgresCensus(app[DATABASE]), key_id=app[VAULT].key_id))
    if GRANTS in app:
        supervisor.start(RefreshLoop(app[GRANTS], app[USED]))
        supervisor.start(KeepWarmLoop(_warming(app)))
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
