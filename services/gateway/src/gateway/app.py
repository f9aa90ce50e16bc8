"""The gateway, put together: each resource is opened here, in this order, closed in reverse."""

import asyncio
import base64
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib import resources
from importlib.metadata import version
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from chassis import http_client, postgres, rabbit, redis
from chassis import settings as environment
from chassis.consumer import Consumer
from chassis.crypto import Keyring, Minter, Verifier
from chassis.http_client import ServiceClient
from chassis.kernel import breaker
from chassis.kernel.clock import SystemClock
from chassis.web import app as web_app
from chassis.web import auth, health, openapi
from contracts import topology
from gateway import metrics
from gateway.api import door, keys, offers, routes
from gateway.broker.commands import CommandBus
from gateway.cache.responses import MemoryShelf, RedisShelf
from gateway.clients import upstream
from gateway.clients.ears import OwnersEars
from gateway.clients.health import look_at
from gateway.clients.queue_service import QueueService
from gateway.clients.ratelimit_service import RatelimitService
from gateway.clients.session_service import SessionService
from gateway.consumers import events as event_consumer
from gateway.core import auth as core_auth
from gateway.core import circuits, in_motion, notices, ports, system, webhooks
from gateway.core import offers as core_offers
from gateway.core.admission import Admission
from gateway.core.api_keys import ApiKeys
from gateway.core.authenticate import Authenticate
from gateway.core.caching import Cached
from gateway.core.enqueue import Enqueue
from gateway.core.forward import Forward
from gateway.core.gcra import Buckets
from gateway.core.in_motion import FindJob, InMotion
from gateway.core.keys import KeyTable
from gateway.core.queues import Queues
from gateway.loops.circuits import CircuitSync
from gateway.loops.deliveries import Deliveries, Waiting
from gateway.loops.limits import LeaseSweep, LimiterReturn, PolicySync
from gateway.loops.notices import NoticesLoop
from gateway.loops.probes import Circuited, Probes
from gateway.loops.retention import Retention
from gateway.loops.snapshots import KeySync, QueueSync
from gateway.settings import GatewaySettings
from gateway.store import api_keys as key_store
from gateway.store import circuits as circuit_store
from gateway.store.accepted import Accepted
from gateway.store.events import Events
from gateway.store.notices import Notices
from gateway.store.queue_names import KnownQueues

SERVICE = "gateway"
VERSION = version("mainstay-gateway")
OWNERS = ("queue-service", "session-service", "ratelimit-service")
CLOCK = SystemClock()
# Of each owner: one that is slow takes none from the others.
UPSTREAM_CONNECTIONS = 200
# Each asks the log twice a second.
EVENT_STREAMS = 50
TOLERATED = 0.2
CALM_S = 60.0
CIRCUITS = {
    "queue-service": breaker.Policy(failures_to_open=3, tolerated=TOLERATED, calm_s=CALM_S),
    "session-service": breaker.Policy(tolerated=TOLERATED, calm_s=CALM_S),
    "ratelimit-service": breaker.Policy(
        failures_to_open=3, hold_base_s=0.25, hold_max_s=5.0, ramp_s=1.0, first_share=0.25,
        tolerated=TOLERATED, calm_s=CALM_S,
    ),
}  # fmt: skip

Documents = Mapping[str, Mapping[str, Any]]

SETTINGS = web.AppKey("SETTINGS", GatewaySettings)
DATABASE = web.AppKey("DATABASE", postgres.Database)
ACCELERATOR = web.AppKey("ACCELERATOR", redis.Accelerator)
SESSIONS = web.AppKey("SESSIONS", upstream.Sessions)
UPSTREAMS = web.AppKey("UPSTREAMS", Mapping[str, upstream.Upstream])
QUEUE_SERVICE = web.AppKey("QUEUE_SERVICE", QueueService)
RATELIMIT_SERVICE = web.AppKey("RATELIMIT_SERVICE", RatelimitService)
BUS = web.AppKey("BUS", CommandBus)
KEY_TABLE = web.AppKey("KEY_TABLE", KeyTable)
KEY_STORE = web.AppKey("KEY_STORE", key_store.ApiKeys)
FORWARD = web.AppKey("FORWARD", Forward)
RETELL = web.AppKey("RETELL", notices.Retell)


def create_app(settings: GatewaySettings, documents: Documents | None = None) -> web.Application:
    """`documents`: owner → OpenAPI document; those that the owners have committed if not given."""
    documents = committed_documents() if documents is None else documents
    app = web_app.base_app(service=SERVICE, version=VERSION)
    app[SETTINGS] = settings
    app[keys.TRUSTED_HOPS] = settings.trusted_hops
    app[keys.DOCUMENT] = core_offers.merge([own_document(), *documents.values()], version=VERSION)
    app.on_response_prepare.append(door.tell)
    app.cleanup_ctx.extend(
        [
            postgres_ctx,
            redis_ctx,
            upstreams_ctx,
            bus_ctx,
            keys_ctx,
            jobs_ctx,
            webhooks_ctx,
            auth_ctx,
            limits_ctx,
            cache_ctx,
            health_ctx,
            loops_ctx,
            consumer_ctx,
        ]
    )
    offered = [each for name in OWNERS for each in core_offers.read(name, documents.get(name, {}))]
    web_app.add_operations(
        app, [*routes.PUBLIC, *offers.operations(offered)], authenticate=door.authenticate
    )
    web_app.add_operations(app, routes.INTERNAL, authenticate=_service_token(settings))
    return app


def committed_documents() -> dict[str, Any]:
    folder = resources.files("contracts") / "openapi"
    return {name: orjson.loads((folder / f"{name}.json").read_bytes()) for name in OWNERS}


def own_document() -> dict[str, Any]:
    return openapi.document(title=SERVICE, version=VERSION, operations=routes.OPERATIONS)


def _service_token(settings: GatewaySettings) -> web_app.Authenticate:
    return auth.by_service_token(
        Verifier.from_directory(service=SERVICE, directory=settings.service_keys_dir)
    )


async def postgres_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[DATABASE] = database = await postgres.open_database(
        settings.database_url.get_secret_value(),
        size=settings.postgres_pool_size,
        application=SERVICE,
    )
    try:
        yield
    finally:
        await database.close()


async def redis_ctx(app: web.Application) -> AsyncIterator[None]:
    url = environment.secret(app[SETTINGS].redis_url)
    app[ACCELERATOR] = accelerator = redis.Accelerator(redis.connect(url) if url else None)
    try:
        yield
    finally:
        await accelerator.close()


async def upstreams_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    minter = Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    app[SESSIONS] = sessions = upstream.Sessions(
        kept=http_client.open_session(connections=0, per_host=UPSTREAM_CONNECTIONS),
        fresh=upstream.open_fresh_session(),
    )
    urls = {
        "queue-service": settings.queue_service_url,
        "session-service": settings.session_service_url,
        "ratelimit-service": settings.ratelimit_service_url,
    }
    app[keys.CIRCUITS] = told = circuits.Circuits(
        store=circuit_store.Circuits(app[DATABASE]),
        log=Events(app[DATABASE]),
        gateway=f"{socket.gethostname()}-{secrets.token_hex(2)}",
        clock=CLOCK,
    )
    app[UPSTREAMS] = found = {
        name: _upstream(name, url, sessions, minter, told) for name, url in urls.items()
    }
    app[keys.OWNERS] = found
    app[QUEUE_SERVICE] = queue_service = QueueService(found["queue-service"])
    app[RATELIMIT_SERVICE] = ratelimit_service = RatelimitService(found["ratelimit-service"])
    try:
        yield
    finally:
        await queue_service.close()
        await ratelimit_service.close()
        await sessions.kept.close()
        await sessions.fresh.close()


def _upstream(
    name: str, url: str, sessions: upstream.Sessions, minter: Minter, told: circuits.Circuits
) -> upstream.Upstream:
    def changed(_name: str, state: breaker.State) -> None:
        metrics.circuit_changed(circuit, state)
        told.changed(name, state)

    circuit = breaker.Breaker(
        name, monotonic=time.monotonic, policy=CIRCUITS[name], on_change=changed
    )
    told.watch(circuit)
    metrics.show_circuit(name, circuit.state)
    client = ServiceClient(name=name, base_url=url, session=sessions.kept, minter=minter)
    return upstream.Upstream(client=client, sessions=sessions, circuit=circuit)


async def bus_ctx(app: web.Application) -> AsyncIterator[None]:
    url = environment.secret(app[SETTINGS].amqp_url)
    if url is not None:
        declared = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)
        publisher = rabbit.Publisher(url, purpose="gateway-commands", topology=declared)
        watched = rabbit.Publisher(url, purpose="gateway-canary", topology=declared)
        canary = rabbit.Canary(watched, exchange=topology.COMMANDS, routing_key="canary")
        app[BUS] = CommandBus(publisher=publisher, canary=canary)
        supervisor = app[health.SUPERVISOR]
        supervisor.spawn("bus:commands", publisher.run())
        supervisor.spawn("bus:canary", watched.run())
        supervisor.start(canary)
    yield


async def keys_ctx(app: web.Application) -> AsyncIterator[None]:
    app[KEY_TABLE] = table = KeyTable()
    app[KEY_STORE] = store = key_store.ApiKeys(app[DATABASE])
    app[keys.API_KEYS] = ApiKeys(store=store, table=table, clock=CLOCK)
    app[keys.AUTHENTICATE] = Authenticate(
        table=table,
        store=store,
        failures=Buckets(time.monotonic),
        admin_key=environment.secret(app[SETTINGS].mainstay_admin_key),
        clock=CLOCK,
    )
    yield


async def jobs_ctx(app: web.Application) -> AsyncIterator[None]:
    database, direct = app[DATABASE], app[QUEUE_SERVICE]
    spool = Accepted(database)
    app[keys.IN_MOTION] = motion = InMotion(
        spool,
        circuit=breaker.Breaker("accepted", monotonic=time.monotonic, policy=in_motion.CIRCUIT),
    )
    app[keys.QUEUES] = queues = Queues(snapshot=KnownQueues(database), ask=direct.queue_names)
    app[keys.ENQUEUE] = Enqueue(
        direct=direct,
        bus=app.get(BUS),
        motion=motion,
        queues=queues,
        fell_back=partial(metrics.fell_back, "enqueue"),
    )
    app[keys.FIND_JOB] = FindJob(motion=motion)
    app[FORWARD] = Forward(direct=direct, spool=spool, motion=motion)
    app[keys.EVENT_LOG] = Events(database)
    app[keys.STREAMS] = asyncio.Semaphore(EVENT_STREAMS)
    yield


async def webhooks_ctx(app: web.Application) -> AsyncIterator[None]:
    settings, ears = app[SETTINGS], OwnersEars(app[UPSTREAMS])
    app[keys.SHOPIFY_APP] = webhooks.ShopifyApp(
        secrets=settings.shopify_secrets, shops=settings.shops()
    )
    table = Notices(app[DATABASE])
    app[keys.TELL] = notices.Tell(
        ears=ears, bus=app.get(BUS), table=table, fell_back=partial(metrics.fell_back, "notice")
    )
    app[RETELL] = notices.Retell(ears=ears, table=table)
    try:
        yield
    finally:
        await app[keys.TELL].close()


async def auth_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[keys.AUTHORIZATIONS] = SessionService(app[UPSTREAMS]["session-service"])
    if settings.shopify_api_key and settings.shopify_secrets and settings.shopify_app_url:
        app[keys.AUTH_APP] = core_auth.AuthApp(
            key=settings.shopify_api_key, url=settings.shopify_app_url, shops=settings.shops()
        )
    yield


async def limits_ctx(app: web.Application) -> AsyncIterator[None]:
    app[keys.ADMISSION] = Admission(
        limiter=app[RATELIMIT_SERVICE],
        monotonic=time.monotonic,
        counted=metrics.admission_counted,
        moved=metrics.limit_tokens_moved,
        gateways=app[SETTINGS].gateway_replicas,
    )
    try:
        yield
    finally:
        await app[keys.ADMISSION].leases.close()


async def cache_ctx(app: web.Application) -> AsyncIterator[None]:
    settings, accelerator = app[SETTINGS], app[ACCELERATOR]
    shelves: list[ports.Shelf] = [MemoryShelf(settings.gateway_cache_bytes)]
    if accelerator.client is not None:
        shelves.insert(0, RedisShelf(accelerator, Keyring(_cache_keys(settings))))
    app[keys.CACHED] = Cached(shelves=shelves, clock=CLOCK, counted=metrics.cache_counted)
    yield


def _cache_keys(settings: GatewaySettings) -> str:
    """Replicas share the service key, so what one has sealed another can open."""
    given = environment.secret(settings.gateway_cache_keys)
    if given is not None:
        return given
    made = hashlib.sha256(b"gateway cache\0" + settings.service_key.get_secret_value().encode())
    return f"own:{base64.b64encode(made.digest()).decode()}"


async def health_ctx(app: web.Application) -> AsyncIterator[None]:
    own, database, accelerator = app[health.HEALTH], app[DATABASE], app[ACCELERATOR]
    bus, table = app.get(BUS), app[KEY_TABLE]
    has_admin = app[SETTINGS].mainstay_admin_key is not None

    async def postgres_check() -> str:
        return "up" if await database.answers() else "down"

    async def redis_check() -> str:
        return str(await accelerator.probe())

    async def rabbit_check() -> str:
        return "absent" if bus is None else "up" if bus.is_up else "down"

    own.checks = {"postgres": postgres_check, "redis": redis_check, "rabbitmq": rabbit_check}
    own.unready_because = lambda: (
        None if table.loaded or has_admin else "the API keys have not been read yet"
    )
    app[keys.SYSTEM] = system.System(
        circuits={name: each.circuit for name, each in app[UPSTREAMS].items()},
        own=own.report,
        bus_is_up=lambda: bus is not None and bus.is_up,
        cache=lambda: "redis" if accelerator.presence() is redis.Presence.UP else "memory",
        limits_alone=lambda: app[keys.ADMISSION].absence.is_on,
        clock=CLOCK,
    )
    yield


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    supervisor, settings = app[health.SUPERVISOR], app[SETTINGS]
    found: Mapping[str, Circuited] = dict(app[UPSTREAMS].items())
    key_sync = KeySync(store=app[KEY_STORE], table=app[KEY_TABLE])
    circuit_sync = CircuitSync(app[keys.CIRCUITS])
    listener = postgres.Listener(
        settings.database_url.get_secret_value(),
        channels={
            key_store.CHANNEL: lambda _payload: key_sync.wake(),
            circuit_store.CHANNEL: lambda _payload: circuit_sync.wake(),
        },
        application="gateway-listen",
    )
    supervisor.spawn("listen", listener.run())
    for loop in (
        key_sync,
        circuit_sync,
        health.HealthSampler(app[health.HEALTH]),
        QueueSync(app[keys.QUEUES]),
        Deliveries(app[FORWARD]),
        NoticesLoop(app[RETELL]),
        Waiting(app[keys.IN_MOTION], direct=app[QUEUE_SERVICE]),
        PolicySync(app[keys.ADMISSION]),
        LeaseSweep(app[keys.ADMISSION]),
        LimiterReturn(app[keys.ADMISSION]),
        Retention(app[keys.EVENT_LOG], kept_d=settings.gateway_events_kept_d),
        Probes(
            looks=_looks(settings, app[SESSIONS].kept),
            upstreams=found,
            seen=app[keys.SYSTEM],
            clock=CLOCK,
        ),
    ):
        supervisor.start(loop)
    try:
        yield
    finally:
        await supervisor.stop()


def _looks(settings: GatewaySettings, session: aiohttp.ClientSession) -> dict[str, Any]:
    urls = {
        system.QUEUE: settings.queue_service_ops_url or settings.queue_service_url,
        system.SESSION: settings.session_service_ops_url or settings.session_service_url,
        system.RATELIMIT: settings.ratelimit_service_ops_url or settings.ratelimit_service_url,
        system.WORKER: settings.queue_worker_ops_url,
    }
    return {name: look_at(session, url) for name, url in urls.items() if url}


async def consumer_ctx(app: web.Application) -> AsyncIterator[None]:
    url = environment.secret(app[SETTINGS].amqp_url)
    if url is not None:
        consumer = Consumer(
            url,
            queue=topology.GATEWAY_EVENTS.name,
            handle=event_consumer.into(app[keys.EVENT_LOG]),
            topology=rabbit.Topology(topology.EXCHANGES, topology.QUEUES),
        )
        app[health.SUPERVISOR].spawn("bus:events", consumer.run())
    yield
