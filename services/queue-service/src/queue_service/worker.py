"""Wiring of the worker process: everything is built here, top to bottom, and closed in reverse."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web

from chassis import crypto, egress, http_client, logs, postgres
from chassis import redis as accelerators
from chassis.crypto import Minter
from chassis.kernel.clock import SystemClock
from chassis.leader import Leader
from chassis.settings import secret
from chassis.web import health
from chassis.web.app import base_app
from mainstay import handler
from mainstay.threads import THREADS
from queue_service import metrics
from queue_service.cache.offers import RedisOffers, circuit_of, watched
from queue_service.clients.push import PushClient
from queue_service.clients.ratelimits import RateLimits
from queue_service.core import handlers as push_handlers
from queue_service.core import push, queues
from queue_service.core.attempts import Claimed
from queue_service.core.children import Children
from queue_service.core.context import IsMine, JobContext, Limiter, Surroundings
from queue_service.core.dispatch import Switch
from queue_service.core.handlers import PushHandler
from queue_service.core.leasing import WorkerQueue
from queue_service.loops.attempts import Attempts
from queue_service.loops.chores import Chores
from queue_service.loops.handoff import HandOffs
from queue_service.loops.heartbeat import Heartbeat
from queue_service.loops.historian import Historian
from queue_service.loops.offers import Hands, OfferLoop, show_switch
from queue_service.loops.producer import Producer
from queue_service.loops.push_roster import PushRoster
from queue_service.loops.reconciler import Reconciler
from queue_service.loops.recycler import Recycler
from queue_service.loops.rescuer import Rescuer
from queue_service.loops.roster import Roster
from queue_service.loops.scheduler import Scheduler
from queue_service.loops.seeder import Seeder
from queue_service.loops.stager import Stager
from queue_service.settings import WorkerSettings, concurrency
from queue_service.store.credit import PostgresCredit
from queue_service.store.engine import SETTINGS as PINNED
from queue_service.store.engine import EngineStore, HistoryStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.handlers import PostgresHandlers
from queue_service.store.offers import PostgresOffers
from queue_service.store.pulse import PostgresPulse
from queue_service.store.queues import PostgresQueues
from queue_service.store.running import PostgresLookups
from queue_service.store.schedules import PostgresFires
from queue_service.store.sealing import Seals

PROCESS = "queue-worker"
SERVICE = "queue-service"
VERSION = "0.1.0"
CLOCK = SystemClock()
log = logs.get(__name__)
HANDLER_LOG = logging.getLogger(logs.HANDLERS)
# Of the time to drain; the rest is for those that have to be interrupted.
GRACE_SHARE = 0.85
# For what was handed over while the rest was drained.
GIVE_BACK_S = 1.0

SETTINGS = web.AppKey("SETTINGS", WorkerSettings)
Handlers = Mapping[str, handler.Handler[Any]]
HANDLERS = web.AppKey("HANDLERS", Handlers)
PUSH_ROSTER = web.AppKey("PUSH_ROSTER", PushRoster)
DATABASE = web.AppKey("DATABASE", postgres.Database)
ENGINE = web.AppKey("ENGINE", EngineStore)
SEALS = web.AppKey("SEALS", Seals)
HTTP = web.AppKey("HTTP", aiohttp.ClientSession)
OUTSIDE = web.AppKey("OUTSIDE", aiohttp.ClientSession)
SWITCH = web.AppKey("SWITCH", Switch)
REDIS = web.AppKey("REDIS", accelerators.Accelerator)
LISTS = web.AppKey("LISTS", RedisOffers)
OFFERS = web.AppKey("OFFERS", OfferLoop)
HANDOFFS = web.AppKey("HANDOFFS", HandOffs)
LIMITER = web.AppKey("LIMITER", Limiter)
ROSTER = web.AppKey("ROSTER", Roster)


def create_app(settings: WorkerSettings, *, handlers: Handlers | None = None) -> web.Application:
    """`handlers`: by kind; those of the installed packages if not given."""
    app = base_app(service=SERVICE, version=VERSION, public=False)
    app[SETTINGS] = settings
    app[HANDLERS] = known = handler.installed() if handlers is None else handlers
    for one in known.values():
        if one.check_settings is not None:
            one.check_settings(os.environ)
    app.cleanup_ctx.extend(
        [postgres_ctx, redis_ctx, http_ctx, push_ctx, health_ctx, loops_ctx, work_ctx]
    )
    return app


async def postgres_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[DATABASE] = database = await postgres.open_database(
        settings.database_url.get_secret_value(),
        size=settings.postgres_pool_size,
        application=PROCESS,
        settings=PINNED,
        pooled=settings.is_pooled,
    )
    app[SEALS] = seals = Seals.of(secret(settings.queue_keys))
    app[ENGINE] = EngineStore(database, seals)
    try:
        yield
    finally:
        await database.close()


async def redis_ctx(app: web.Application) -> AsyncIterator[None]:
    app[SWITCH] = switch = Switch(on_switch=show_switch)
    url = secret(app[SETTINGS].redis_url)
    app[REDIS] = redis = accelerators.Accelerator(
        accelerators.connect(url) if url else None, on_change=circuit_of(switch)
    )
    if url is None:
        yield
        return
    app[LISTS] = lists = RedisOffers(redis, partial(accelerators.connect, url, max_connections=1))
    try:
        yield
    finally:
        await lists.close()
        await redis.close()


async def http_ctx(app: web.Application) -> AsyncIterator[None]:
    """One session for our own services, one for the handlers, one for URLs that others gave us."""
    settings = app[SETTINGS]
    minter = Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    inward = http_client.open_session()
    app[LIMITER] = RateLimits(
        http_client.ServiceClient(
            name="ratelimit-service",
            base_url=settings.ratelimit_service_url,
            session=inward,
            minter=minter,
        )
    )
    app[HTTP] = outward = aiohttp.ClientSession(trust_env=False)
    guard = egress.Guard(egress.networks(settings.egress_allowed_networks))
    app[OUTSIDE] = guarded = egress.open_session(guard)
    try:
        yield
    finally:
        await guarded.close()
        await outward.close()
        await inward.close()


async def push_ctx(app: web.Application) -> AsyncIterator[None]:
    """Kinds without a handler here may have one behind a URL; without QUEUE_KEYS none has."""
    store, spec = PostgresHandlers(app[DATABASE]), secret(app[SETTINGS].queue_keys)
    if spec is None:
        yield
        return
    deliver, keyring = PushClient(app[OUTSIDE], clock=CLOCK), crypto.Keyring(spec)

    def make(to: PushHandler) -> handler.Handler[Any]:
        run = push.Push(
            to, _signing_key(keyring, to), deliver=deliver, disable=store.disable, clock=CLOCK
        )
        return push.handler_of(to, run)

    registry = push.Registry(app[HANDLERS], make=make)
    app[HANDLERS], app[PUSH_ROSTER] = registry, PushRoster(store, registry)
    await app[PUSH_ROSTER].guarded_pass()
    app[health.SUPERVISOR].start(app[PUSH_ROSTER])
    yield


def _signing_key(keyring: crypto.Keyring, to: PushHandler) -> bytes | None:
    try:
        return push_handlers.opened(keyring, to)
    except crypto.SealBroken:
        log.error("push_secret_unreadable", kind=to.kind)
        return None


async def health_ctx(app: web.Application) -> AsyncIterator[None]:
    told, database, redis = app[health.HEALTH], app[DATABASE], app[REDIS]

    async def postgres_check() -> str:
        return "up" if await database.answers() else "down"

    async def redis_check() -> str:
        return await watched(redis, app[SWITCH])

    told.checks = {"postgres": postgres_check, "redis": redis_check}
    told.needed = frozenset({"postgres"})
    known: Handlers = app[HANDLERS]
    told.facts = lambda: {"dispatch": app[SWITCH].backend, "kinds": sorted(known)}
    app[health.SUPERVISOR].start(health.HealthSampler(told))
    yield


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    """What any process may do, whoever runs the jobs."""
    settings, engine = app[SETTINGS], app[ENGINE]
    supervisor = app[health.SUPERVISOR]
    seeds = queues.seeds(concurrency(settings.queue_concurrency))
    supervisor.start(Seeder(PostgresQueues(app[DATABASE]), seeds))
    supervisor.start(Stager(engine, interval_s=settings.queue_poll_interval_s))
    chores = [
        Rescuer(engine, clock=CLOCK),
        Reconciler(engine),
        Historian(
            HistoryStore(app[DATABASE]),
            completed_d=settings.queue_retention_completed_d,
            failed_d=settings.queue_retention_failed_d,
        ),
        Scheduler(
            PostgresFires(database=app[DATABASE], writer=EnqueueWriter(app[DATABASE], app[SEALS]))
        ),
    ]
    supervisor.start(Chores(Leader(app[DATABASE], "worker-chores"), chores))
    try:
        yield
    finally:
        await supervisor.stop()


async def work_ctx(app: web.Application) -> AsyncIterator[None]:
    """The jobs themselves. A stop takes no new ones, lets running ones end, gives back the rest."""
    settings, engine, supervisor = app[SETTINGS], app[ENGINE], app[health.SUPERVISOR]
    dsn = settings.database_url.get_secret_value()
    heart = Heartbeat(
        connect=partial(PostgresPulse, dsn, pooled=settings.is_pooled),
        name=f"{socket.gethostname()}:{os.getpid()}",
    )
    attempts = Attempts(
        handlers=app[HANDLERS],
        store=engine,
        context_of=partial(_context, _surroundings(app)),
        is_believed=lambda: heart.is_believed,
        clock=CLOCK,
    )

    def produce(queue: WorkerQueue) -> Producer:
        return Producer(
            queue,
            claims=engine,
            attempts=attempts,
            worker=lambda: heart.worker,
            poll_interval_s=settings.queue_poll_interval_s,
            on_idle=partial(_on_idle, app),
        )

    app[ROSTER] = roster = Roster(engine, supervisor=supervisor, make=produce)
    if LISTS in app:
        app[OFFERS] = _offers(app, roster, worker=lambda: heart.worker)
        supervisor.start(app[OFFERS])
    metrics.DISPATCH_BACKEND.labels(app[SWITCH].backend).set(1)
    heart.start(on_beat=attempts.on_beat, on_death=attempts.on_death)
    supervisor.start(roster)
    supervisor.start(
        Recycler(
            attempts,
            THREADS,
            limit=settings.queue_abandoned_max,
            stop=supervisor.failed.set,
        )
    )
    if settings.listen_dsn is not None:
        credit = PostgresCredit(app[DATABASE], app[SEALS])
        listener = _listener(app, settings.listen_dsn, roster, credit.channel)
        app[HANDOFFS] = HandOffs(
            credit,
            producers=roster.producer,
            attempts=attempts,
            worker=lambda: heart.worker,
            is_listening=listener.connected.is_set,
        )
        supervisor.start(app[HANDOFFS])
        supervisor.spawn("listen", listener.run())
    try:
        yield
    finally:
        grace_s = settings.drain_timeout_s * GRACE_SHARE
        closing = asyncio.create_task(_handed_nothing_more(app))
        await roster.drain(grace_s=grace_s, interrupt_s=settings.drain_timeout_s - grace_s)
        await closing
        await roster.drain(grace_s=0.0, interrupt_s=GIVE_BACK_S)
        await heart.stop()


def _offers(app: web.Application, roster: Roster, *, worker: Callable[[], UUID]) -> OfferLoop:
    """Jobs over Redis for those who are idle."""
    claims = PostgresOffers(app[DATABASE], app[SEALS])
    hands = Hands(roster, claims=claims, offers=app[LISTS], worker=worker)
    return OfferLoop(
        app[LISTS], rooms=roster.rooms, deliver=hands.deliver, missed=partial(roster.hint, "")
    )


async def _handed_nothing_more(app: web.Application) -> None:
    if OFFERS in app:
        await app[OFFERS].close()
    if HANDOFFS in app:
        await app[HANDOFFS].close()


def _on_idle(app: web.Application, queue: str) -> None:
    if OFFERS in app:
        app[OFFERS].has_room(queue)
    if HANDOFFS in app:
        app[HANDOFFS].is_idle(queue)


def _heard(app: web.Application, told: str) -> None:
    app[HANDOFFS].heard(told)


def _listener(app: web.Application, dsn: str, roster: Roster, channel: str) -> postgres.Listener:
    return postgres.Listener(
        dsn,
        channels={
            "queue_ready": roster.hint,
            "queue_changed": lambda _queue: roster.wake(),
            "handler_changed": lambda _: app[PUSH_ROSTER].wake() if PUSH_ROSTER in app else None,
            channel: partial(_heard, app),
        },
        application=f"{PROCESS}-listen",
    )


def _surroundings(app: web.Application) -> Surroundings:
    database = app[DATABASE]
    return Surroundings(
        http=app[HTTP],
        outside=app[OUTSIDE],
        environ=os.environ,
        leases=app[ENGINE],
        lookups=PostgresLookups(database),
        offspring=Children(intake=EnqueueWriter(database, app[SEALS]), clock=CLOCK),
        limiter=app[LIMITER],
        clock=CLOCK,
        log=HANDLER_LOG,
    )


def _context(
    around: Surroundings, job: Claimed, of: handler.Handler[Any] | None, is_mine: IsMine
) -> JobContext:
    return JobContext(job, of, around, is_mine)
