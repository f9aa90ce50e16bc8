"""Wiring of the api process: everything is built here, top to bottom, and closed in reverse."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from aiohttp import web

from chassis import crypto, egress, outbox, postgres, rabbit
from chassis import redis as accelerators
from chassis.consumer import Consumer
from chassis.kernel.clock import Clock, SystemClock
from chassis.leader import Leader
from chassis.settings import secret
from chassis.web import auth, health
from chassis.web.app import add_operations, base_app
from contracts import topology
from mainstay import handler
from queue_service import metrics
from queue_service.api import handlers as handlers_api
from queue_service.api import keys, routes
from queue_service.cache.offers import RedisAnnouncer, RedisOffers, circuit_of, watched
from queue_service.consumers.accept import AcceptJobs
from queue_service.consumers.redact import RedactShops
from queue_service.core import queues
from queue_service.core.batches import Batches
from queue_service.core.dispatch import Announced, Announcer, Switch
from queue_service.core.enqueue import Enqueue
from queue_service.core.handlers import Handlers as PushHandlers
from queue_service.core.leases import Leases, Tokens
from queue_service.core.parking import Parking
from queue_service.core.queues import Queues
from queue_service.core.reading import Jobs
from queue_service.core.schedules import Schedules
from queue_service.core.uploads import ArgsFlaw, Uploads
from queue_service.core.verbs import Verbs
from queue_service.loops.batches import BatchFinisher, BatchFolder, BatchSweeper
from queue_service.loops.chores import Chores
from queue_service.loops.horizon import HorizonGuard
from queue_service.loops.lease_reaper import LeaseCallSweeper, LeaseReaper
from queue_service.loops.offers import Callers, OfferLoop, show_switch
from queue_service.loops.reconciler import Reconciler
from queue_service.loops.sampler import DepthSampler
from queue_service.loops.scheduler import Scheduler
from queue_service.loops.seeder import Seeder
from queue_service.loops.stager import Stager
from queue_service.loops.sweeps import JobSweeper
from queue_service.settings import ApiSettings, concurrency
from queue_service.store.batch_chores import PostgresBatchChores
from queue_service.store.batches import PostgresBatches
from queue_service.store.engine import SETTINGS as PINNED
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.handlers import PostgresHandlers
from queue_service.store.horizon import PostgresHorizon
from queue_service.store.jobs import PostgresJobs
from queue_service.store.leases import PostgresLeases
from queue_service.store.queues import PostgresQueues
from queue_service.store.rows import PostgresRows
from queue_service.store.schedules import PostgresFires, PostgresSchedules
from queue_service.store.sealing import Seals
from queue_service.store.verbs import PostgresVerbs

SERVICE = "queue-service"
VERSION = "0.1.0"
# Claims and settles of pulled jobs; parked callers hold none.
ENGINE_POOL_SIZE = 4

Handlers = Mapping[str, handler.Handler[Any]]

SETTINGS = web.AppKey("SETTINGS", ApiSettings)
HANDLERS = web.AppKey("HANDLERS", Handlers)
DATABASE = web.AppKey("DATABASE", postgres.Database)
ENGINE = web.AppKey("ENGINE", EngineStore)
LEASE_STORE = web.AppKey("LEASE_STORE", PostgresLeases)
PARKING = web.AppKey("PARKING", Parking)
WRITER = web.AppKey("WRITER", EnqueueWriter)
QUEUE_STORE = web.AppKey("QUEUE_STORE", PostgresQueues)
CHORES = web.AppKey("CHORES", Chores)
SWEEPER = web.AppKey("SWEEPER", JobSweeper)
HORIZON = web.AppKey("HORIZON", HorizonGuard)
SWITCH = web.AppKey("SWITCH", Switch)
ANNOUNCERS = web.AppKey("ANNOUNCERS", list[Announcer])
REDIS = web.AppKey("REDIS", accelerators.Accelerator)
SINKS = web.AppKey("SINKS", list[outbox.Sink])
PUBLISHER = web.AppKey("PUBLISHER", rabbit.Publisher)
TOPOLOGY = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)


def create_app(
    settings: ApiSettings, *, clock: Clock | None = None, handlers: Handlers | None = None
) -> web.Application:
    """`handlers` judge the args of uploads; those of the installed packages if not given."""
    app = base_app(service=SERVICE, version=VERSION)
    app[SETTINGS] = settings
    app[keys.CLOCK] = clock or SystemClock()
    known = handler.installed() if handlers is None else handlers
    app[HANDLERS] = known
    verifier = crypto.Verifier.from_directory(service=SERVICE, directory=settings.service_keys_dir)
    add_operations(app, routes.ROUTES, authenticate=auth.by_service_token(verifier))
    app.on_shutdown.append(_leave_parking)
    app.cleanup_ctx.extend(
        [
            postgres_ctx,
            engine_ctx,
            dispatch_ctx,
            use_cases_ctx,
            leases_ctx,
            bus_ctx,
            gateway_ctx,
            health_ctx,
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
        pooled=settings.is_pooled,
    )
    try:
        yield
    finally:
        await app[DATABASE].close()


async def engine_ctx(app: web.Application) -> AsyncIterator[None]:
    """Connections whose planner is pinned, for jobs that are pulled."""
    database = await postgres.open_database(
        app[SETTINGS].database_url.get_secret_value(),
        size=ENGINE_POOL_SIZE,
        application=f"{SERVICE}-engine",
        settings=PINNED,
        pooled=app[SETTINGS].is_pooled,
    )
    seals = Seals.of(secret(app[SETTINGS].queue_keys))
    app[ENGINE] = EngineStore(database, seals)
    app[LEASE_STORE] = PostgresLeases(database, seals)
    try:
        yield
    finally:
        await database.close()


async def dispatch_ctx(app: web.Application) -> AsyncIterator[None]:
    """Whom to tell of fresh jobs: callers parked here, and over Redis whoever waits anywhere."""
    url, supervisor = secret(app[SETTINGS].redis_url), app[health.SUPERVISOR]
    app[SWITCH] = switch = Switch(on_switch=show_switch)
    app[REDIS] = redis = accelerators.Accelerator(
        accelerators.connect(url) if url else None, on_change=circuit_of(switch)
    )
    app[PARKING] = parking = Parking()
    metrics.PARKED_POLLS.set_function(parking.waiting)
    app[ANNOUNCERS] = announcers = list[Announcer]([parking])
    if url is None:
        yield
        return
    announcer, callers = RedisAnnouncer(redis), Callers(parking)
    offers = RedisOffers(redis, partial(accelerators.connect, url, max_connections=1))
    loop = OfferLoop(offers, rooms=callers.rooms, deliver=callers.deliver, missed=callers.missed)
    parking.on_wait = loop.has_room
    announcers.append(announcer)
    supervisor.spawn("announce", announcer.run())
    supervisor.start(loop)
    try:
        yield
    finally:
        await loop.close()
        await offers.close()
        await redis.close()


async def use_cases_ctx(app: web.Application) -> AsyncIterator[None]:
    settings, database = app[SETTINGS], app[DATABASE]
    seals = Seals.of(secret(settings.queue_keys))
    announcers = app[ANNOUNCERS]
    app[WRITER] = writer = EnqueueWriter(database, seals)
    app[QUEUE_STORE] = queue_store = PostgresQueues(database)
    jobs = PostgresJobs(database)
    chores = PostgresBatchChores(database=database, writer=writer)
    app[CHORES] = Chores(
        Leader(database, "batch-chores"),
        [
            BatchSweeper(chores),
            BatchFolder(chores),
            BatchFinisher(chores),
            Scheduler(PostgresFires(database=database, writer=writer)),
            LeaseCallSweeper(app[LEASE_STORE]),
        ],
    )
    app[keys.ENQUEUE] = Enqueue(
        intake=Announced(writer, announcers),
        jobs=jobs,
        clock=app[keys.CLOCK],
        remembered=_remembered(settings),
    )
    app[keys.JOBS] = Jobs(jobs, opened=PostgresJobs(database, seals=seals))
    app[keys.QUEUES] = Queues(
        queue_store,
        can_seal=seals.can_seal,
        kept_d={
            "completed_d": settings.queue_retention_completed_d,
            "failed_d": settings.queue_retention_failed_d,
        },
    )
    app[keys.BATCHES] = batches = Batches(
        batches=PostgresBatches(database), queues=queue_store, sweep_soon=app[CHORES].wake
    )
    verbs = PostgresVerbs(database)
    app[SWEEPER] = JobSweeper(verbs)
    app[keys.VERBS] = Verbs(jobs=jobs, verbs=verbs, batches=batches, sweep_soon=app[SWEEPER].wake)
    app[keys.SCHEDULES] = Schedules(schedules=PostgresSchedules(database), queues=queue_store)
    app[keys.HANDLERS] = _push_handlers(app)
    app[keys.UPLOADS] = Uploads(
        rows=PostgresRows(database=database, writer=writer), args_flaw=_args_flaw(app[HANDLERS])
    )
    yield


async def leases_ctx(app: web.Application) -> AsyncIterator[None]:
    settings, supervisor, clock = app[SETTINGS], app[health.SUPERVISOR], app[keys.CLOCK]
    parking = app[PARKING]
    app[keys.LEASES] = Leases(
        store=app[LEASE_STORE],
        engine=app[ENGINE],
        parking=parking,
        tokens=Tokens(settings.service_key.get_secret_value()),
        clock=clock,
    )
    if settings.listen_dsn is not None:
        listener = postgres.Listener(
            settings.listen_dsn,
            channels={"queue_ready": parking.hint},
            application=f"{SERVICE}-listen",
        )
        supervisor.spawn("listen", listener.run())
    supervisor.start(Stager(app[ENGINE]))
    supervisor.start(Reconciler(app[ENGINE]))
    supervisor.start(LeaseReaper(app[LEASE_STORE], app[ENGINE], clock=clock))
    yield


async def _leave_parking(app: web.Application) -> None:
    app[PARKING].close()


async def bus_ctx(app: web.Application) -> AsyncIterator[None]:
    """Without AMQP_URL there is no bus, and nothing is missing."""
    app[SINKS] = []
    url = secret(app[SETTINGS].amqp_url)
    if url is not None:
        supervisor = app[health.SUPERVISOR]
        app[PUBLISHER] = publisher = rabbit.Publisher(
            url, purpose=f"{SERVICE}:outbox", topology=TOPOLOGY
        )
        consumer = Consumer(
            url,
            queue=topology.JOB_ACCEPT.name,
            handle=AcceptJobs(app[keys.ENQUEUE]),
            topology=TOPOLOGY,
        )
        supervisor.spawn("bus:outbox", publisher.run())
        redacts = Consumer(
            url,
            queue=topology.SHOP_REDACTS.name,
            handle=RedactShops(app[keys.VERBS]),
            topology=TOPOLOGY,
        )
        supervisor.spawn("bus:accept", consumer.run())
        supervisor.spawn("bus:redact", redacts.run())
        app[SINKS].append(outbox.BusSink(publisher, exchange=topology.EVENTS))
    yield


async def gateway_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    if settings.gateway_url is None:
        yield
        return
    minter = crypto.Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    async with outbox.gateway_sink(settings.gateway_url, minter=minter) as sink:
        app[SINKS].append(sink)
        yield


async def health_ctx(app: web.Application) -> AsyncIterator[None]:
    told, database, redis = app[health.HEALTH], app[DATABASE], app[REDIS]

    async def postgres_check() -> str:
        return "up" if await database.answers() else "down"

    async def redis_check() -> str:
        return await watched(redis, app[SWITCH])

    async def rabbitmq_check() -> str:
        if PUBLISHER not in app:
            return "absent"
        return "up" if app[PUBLISHER].up.is_set() else "down"

    told.checks = {
        "postgres": postgres_check,
        "redis": redis_check,
        "rabbitmq": rabbitmq_check,
    }
    told.needed = frozenset({"postgres"})
    app[HORIZON] = horizon = HorizonGuard(PostgresHorizon(database))
    told.facts = lambda: {"dispatch": app[SWITCH].backend, "horizon": horizon.facts()}
    app[health.SUPERVISOR].start(health.HealthSampler(told))
    yield


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    supervisor, told, sinks = app[health.SUPERVISOR], app[health.HEALTH], app[SINKS]
    seeds = queues.seeds(concurrency(app[SETTINGS].queue_concurrency))
    seeder = Seeder(app[QUEUE_STORE], seeds)
    told.unready_because = lambda: None if seeder.is_done else "the database was not reached yet"
    supervisor.spawn("enqueue", app[WRITER].run())
    supervisor.start(seeder)
    supervisor.start(DepthSampler(app[QUEUE_STORE]))
    supervisor.start(app[HORIZON])
    supervisor.start(app[CHORES])
    supervisor.start(app[SWEEPER])
    if sinks:
        supervisor.start(outbox.Relay(database=app[DATABASE], sinks=sinks))
    try:
        yield
    finally:
        await supervisor.stop()


def _push_handlers(app: web.Application) -> PushHandlers:
    settings = app[SETTINGS]
    spec, known = secret(settings.queue_keys), app[HANDLERS]
    return PushHandlers(
        handlers=PostgresHandlers(app[DATABASE]),
        seal=crypto.Keyring(spec) if spec else None,
        judge=egress.Guard(egress.networks(settings.egress_allowed_networks)),
        installed=frozenset(known),
        new_secret=handlers_api.new_secret,
    )


def _remembered(settings: ApiSettings) -> timedelta:
    """How long a settled job is surely found under its id; a day is for clocks and time zones."""
    shortest_d = min(settings.queue_retention_completed_d, settings.queue_retention_failed_d)
    return timedelta(days=max(shortest_d - 1, 1))


def _args_flaw(handlers: Handlers) -> ArgsFlaw:
    def args_flaw(kind: str, args: Mapping[str, Any]) -> str | None:
        known = handlers.get(kind)
        if known is None:
            return None
        try:
            known.parse(args)
        except handler.InvalidArgs as error:
            return str(error)
        return None

    return args_flaw
