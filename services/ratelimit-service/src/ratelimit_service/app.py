"""ratelimit-service, wired: one context per resource, top to bottom."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

from aiohttp import web

from chassis import logs, outbox, postgres, rabbit, redis
from chassis import settings as environment
from chassis.consumer import Consumer
from chassis.crypto import Minter, Verifier
from chassis.kernel import errors
from chassis.kernel.clock import SystemClock
from chassis.web import auth, health
from chassis.web.app import add_operations, base_app
from contracts import topology
from contracts.ratelimits import Backend
from ratelimit_service import metrics
from ratelimit_service.api import keys, routes
from ratelimit_service.cache.buckets import RedisBuckets
from ratelimit_service.consumers.redact import RedactShops
from ratelimit_service.core.adjustments import Adjustments
from ratelimit_service.core.batcher import Batcher
from ratelimit_service.core.checks import Checks, State
from ratelimit_service.core.configuration import Configuration
from ratelimit_service.core.denials import Denials
from ratelimit_service.core.leases import Leases
from ratelimit_service.core.ledger import Ledger
from ratelimit_service.core.observing import Lessons, Observing
from ratelimit_service.core.permits import Permits
from ratelimit_service.core.pinned import Pinned
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.reading import Reading
from ratelimit_service.core.redaction import Redaction
from ratelimit_service.core.refunds import Refunds
from ratelimit_service.core.reports import Reports
from ratelimit_service.core.rules import Lists, Overrides, Plans, Policies
from ratelimit_service.core.switch import Switch
from ratelimit_service.core.tokens import Tokens
from ratelimit_service.core.usage import Usage
from ratelimit_service.loops.handover import HandOver
from ratelimit_service.loops.heartbeat import Heartbeat
from ratelimit_service.loops.learned import LearnedRefresh
from ratelimit_service.loops.policies import PolicyRefresh, say_unreadable
from ratelimit_service.loops.sweeper import Sweeper
from ratelimit_service.loops.usage import UsageExpiry, UsageFlush
from ratelimit_service.settings import ApiSettings
from ratelimit_service.store import configuration, epoch, learned, policies
from ratelimit_service.store.buckets import PostgresBuckets
from ratelimit_service.store.configuration import PostgresConfiguration
from ratelimit_service.store.epoch import PostgresEpochs
from ratelimit_service.store.lane import Lane
from ratelimit_service.store.learned import PostgresLessons
from ratelimit_service.store.permits import PostgresPermits
from ratelimit_service.store.redaction import PostgresRedactions
from ratelimit_service.store.refunds import PostgresNonces
from ratelimit_service.store.resets import PostgresResets
from ratelimit_service.store.usage import PostgresUsage

log = logs.get(__name__)

SERVICE = "ratelimit-service"
VERSION = "0.1.0"

SETTINGS = web.AppKey("SETTINGS", ApiSettings)
DATABASE = web.AppKey("DATABASE", postgres.Database)
BUCKETS = web.AppKey("BUCKETS", PostgresBuckets)
PINNED = web.AppKey("PINNED", PostgresBuckets)
DURABLE = web.AppKey("DURABLE", PostgresBuckets)
EPOCHS = web.AppKey("EPOCHS", PostgresEpochs)
REDIS = web.AppKey("REDIS", redis.Accelerator)
REDIS_BUCKETS = web.AppKey("REDIS_BUCKETS", RedisBuckets)
LEDGER = web.AppKey("LEDGER", Ledger)
SWITCH = web.AppKey("SWITCH", Switch)
TABLE = web.AppKey("TABLE", PolicyTable)
READING = web.AppKey("READING", Reading)
CONFIGURATION = web.AppKey("CONFIGURATION", PostgresConfiguration)
LESSONS = web.AppKey("LESSONS", Lessons)
NONCES = web.AppKey("NONCES", PostgresNonces)
PERMITS = web.AppKey("PERMITS", PostgresPermits)
HEARTBEAT = web.AppKey("HEARTBEAT", Heartbeat)
HANDOVER = web.AppKey("HANDOVER", HandOver)
USAGE_STORE = web.AppKey("USAGE_STORE", PostgresUsage)
PUBLISHER = web.AppKey("PUBLISHER", rabbit.Publisher)
SINKS = web.AppKey("SINKS", list[outbox.Sink])


def create_app(settings: ApiSettings) -> web.Application:
    app = base_app(service=SERVICE, version=VERSION)
    app[SETTINGS] = settings
    app.cleanup_ctx.extend([postgres_ctx, redis_ctx, switch_ctx, configuration_ctx])
    app.cleanup_ctx.extend([use_cases_ctx, seen_ctx, bus_ctx, gateway_ctx, loops_ctx])
    verifier = Verifier.from_directory(service=SERVICE, directory=settings.service_keys_dir)
    add_operations(app, routes.OPERATIONS, authenticate=auth.by_service_token(verifier))
    return app


async def postgres_ctx(app: web.Application) -> AsyncIterator[None]:
    """Callers wait for decisions and changes of the decider; nobody waits for the bookkeeping."""
    dsn = app[SETTINGS].database_url.get_secret_value()
    budget_s = app[SETTINGS].ratelimit_decision_s

    def cut() -> None:
        if SWITCH in app:
            app[SWITCH].doubt_postgres()

    opened = partial(Lane, dsn, on_cut=cut)
    decisions, pinned, epochs, bookkeeping = (opened(budget_s=budget_s * n) for n in (1, 1, 2, 4))
    durable = opened(budget_s=budget_s * 2, is_durable=True)
    buckets = partial(
        PostgresBuckets,
        bookkeeping=bookkeeping,
        counted=partial(metrics.count_call, Backend.POSTGRES),
    )
    app[BUCKETS] = buckets(decisions=decisions)
    app[PINNED] = buckets(decisions=pinned)
    app[DURABLE] = buckets(decisions=durable)
    app[EPOCHS] = PostgresEpochs(epochs, replica=uuid.uuid4())
    app[DATABASE] = await postgres.open_database(
        dsn, size=app[SETTINGS].postgres_pool_size, application=SERVICE
    )
    app[NONCES] = PostgresNonces(app[DATABASE])
    app[PERMITS] = PostgresPermits(app[DATABASE])
    try:
        yield
    finally:
        await app[DATABASE].close()
        for lane in (decisions, pinned, durable, epochs, bookkeeping):
            lane.close()


async def redis_ctx(app: web.Application) -> AsyncIterator[None]:
    url = environment.secret(app[SETTINGS].redis_url)
    app[REDIS] = redis.Accelerator(redis.connect(url) if url else None)
    if url:
        app[REDIS_BUCKETS] = RedisBuckets(
            app[REDIS], counted=partial(metrics.count_call, Backend.REDIS)
        )
    try:
        yield
    finally:
        if url:
            await app[REDIS_BUCKETS].close()
        await app[REDIS].close()


async def switch_ctx(app: web.Application) -> AsyncIterator[None]:
    """Whoever ends in order leaves nothing untold, and nobody waits for it."""
    app[LEDGER] = Ledger(time.monotonic)

    # Both loops need the switch that wakes them.
    def wake_hand_over() -> None:
        app[HANDOVER].wake()

    def wake_heartbeat() -> None:
        app[HEARTBEAT].wake()

    app[SWITCH] = switch = Switch(
        redis=app.get(REDIS_BUCKETS),
        postgres=app[BUCKETS],
        pinned=app[PINNED],
        durable=app[DURABLE],
        epochs=app[EPOCHS],
        ledger=app[LEDGER],
        monotonic=time.monotonic,
        on_switch=_switched,
        on_due=wake_hand_over,
        on_away=wake_heartbeat,
    )
    app[HANDOVER] = HandOver(switch, app[LEDGER])
    app[HEARTBEAT] = Heartbeat(switch, with_redis=REDIS_BUCKETS in app)
    metrics.show_backend(switch.road)
    try:
        yield
    finally:
        with suppress(errors.Unavailable):
            await switch.hand_over(everything=True)
            await app[EPOCHS].leave()


async def configuration_ctx(app: web.Application) -> AsyncIterator[None]:
    app[TABLE] = table = PolicyTable(policies.seed_policies())
    app[CONFIGURATION] = store = PostgresConfiguration(app[DATABASE])
    app[READING] = Reading(store=store, table=table, unreadable=say_unreadable)
    settings = Configuration(store=store, apply=table.apply, clock=SystemClock())
    app[keys.POLICIES] = Policies(settings)
    app[keys.OVERRIDES] = Overrides(settings)
    app[keys.PLANS] = Plans(settings)
    app[keys.LISTS] = Lists(settings)
    app[keys.REDACTION] = Redaction(store=PostgresRedactions(app[DATABASE]), apply=table.apply)
    yield


async def use_cases_ctx(app: web.Application) -> AsyncIterator[None]:
    switch = app[SWITCH]
    batcher = Batcher(switch.decide)
    small = Batcher(partial(switch.decide_pinned, is_strict=False))
    strict = Batcher(partial(switch.decide_pinned, is_strict=True))

    def state() -> State:
        return State(switch.degraded, switch.postgres_away_s)

    denials = Denials(
        Pinned(others=batcher, small=small, strict=strict),
        monotonic=time.monotonic,
        era=lambda: switch.era,
        replicas=lambda: switch.replicas,
        counted=metrics.DENIALS_CACHED.inc,
    )
    tokens = Tokens(app[SETTINGS].service_key.get_secret_value())
    app[keys.CHECKS] = Checks(policies=app[TABLE], rule=denials, state=state, tokens=tokens)
    _add_adjustments(app, denials, state, tokens)
    try:
        yield
    finally:
        for each in (batcher, small, strict):
            await each.close()


def _add_adjustments(
    app: web.Application, rule: Denials, state: Callable[[], State], tokens: Tokens
) -> None:
    """What moves limits beside checks, and permits, which are no limits of the decider's."""
    policies, database = app[TABLE], app[DATABASE]
    app[keys.REFUNDS] = refunds = Refunds(
        policies=policies, rule=rule, tokens=tokens, nonces=app[NONCES]
    )
    app[keys.LEASES] = Leases(
        policies=policies,
        check=app[keys.CHECKS].check,
        refunds=refunds,
        tokens=tokens,
        clock=SystemClock(),
    )
    app[keys.ADJUSTMENTS] = Adjustments(
        policies=policies, rule=rule, state=state, resets=PostgresResets(database)
    )
    lessons = PostgresLessons(database)
    app[keys.OBSERVING] = Observing(policies=policies, rule=rule, state=state, lessons=lessons)
    app[LESSONS] = Lessons(store=lessons, policies=policies)
    app[keys.PERMITS] = Permits(policies=policies, store=app[PERMITS])


async def seen_ctx(app: web.Application) -> AsyncIterator[None]:
    """What was counted since the last flush is told at an orderly end."""
    app[USAGE_STORE] = store = PostgresUsage(app[DATABASE])
    app[keys.USAGE] = usage = Usage(
        store=store, replica=uuid.uuid4(), on_lost=metrics.USAGE_LOST.inc
    )
    app[keys.REPORTS] = Reports(store=store, policies=app[TABLE], checks=app[keys.CHECKS])
    try:
        yield
    finally:
        with suppress(errors.Unavailable):
            await usage.flush()


async def bus_ctx(app: web.Application) -> AsyncIterator[None]:
    """Without AMQP_URL there is no bus, and nothing is missing."""
    app[SINKS] = []
    url = environment.secret(app[SETTINGS].amqp_url)
    if url is not None:
        declared = rabbit.Topology(topology.EXCHANGES, topology.QUEUES)
        publisher = rabbit.Publisher(url, purpose=f"{SERVICE}:outbox", topology=declared)
        app[health.SUPERVISOR].spawn("bus:outbox", publisher.run())
        app[PUBLISHER] = publisher
        app[SINKS].append(outbox.BusSink(publisher, exchange=topology.EVENTS))
        redacts = Consumer(
            url,
            queue=topology.LIMIT_REDACTS.name,
            handle=RedactShops(app[keys.REDACTION]),
            topology=declared,
        )
        app[health.SUPERVISOR].spawn("bus:redact", redacts.run())
    yield


async def gateway_ctx(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    if settings.gateway_url is None:
        yield
        return
    minter = Minter(service=SERVICE, private_key_pem=settings.service_key.get_secret_value())
    async with outbox.gateway_sink(settings.gateway_url, minter=minter) as sink:
        app[SINKS].append(sink)
        yield


async def loops_ctx(app: web.Application) -> AsyncIterator[None]:
    supervisor = app[health.SUPERVISOR]
    heartbeat = app[HEARTBEAT]
    seed = partial(app[CONFIGURATION].seed, policies.seeds())
    refresh = PolicyRefresh(app[READING], app[TABLE], seed=seed)
    lessons = LearnedRefresh(app[LESSONS])
    listener = postgres.Listener(
        app[SETTINGS].database_url.get_secret_value(),
        channels={
            epoch.CHANNEL: lambda _seq: heartbeat.wake(),
            configuration.CHANNEL: refresh.hint,
            learned.CHANNEL: lambda _nothing: lessons.wake(),
        },
        application=f"{SERVICE} listener",
    )
    _describe_health(app)
    supervisor.spawn("listener", listener.run())
    sweeper = Sweeper(app[BUCKETS], app[PERMITS], app[NONCES])
    for loop in (heartbeat, refresh, lessons, app[HANDOVER], sweeper):
        supervisor.start(loop)
    hours, sinks = app[SETTINGS].ratelimit_usage_hours, app[SINKS]
    supervisor.start(UsageFlush(app[keys.USAGE]))
    supervisor.start(UsageExpiry(app[USAGE_STORE], hours=hours))
    if sinks:
        supervisor.start(outbox.Relay(database=app[DATABASE], sinks=sinks))
    supervisor.start(health.HealthSampler(app[health.HEALTH]))
    try:
        yield
    finally:
        await supervisor.stop()


def _describe_health(app: web.Application) -> None:
    switch, table = app[SWITCH], app[TABLE]

    async def postgres_state() -> str:
        return "down" if switch.postgres_away_s else "up"

    async def redis_state() -> str:
        return app[REDIS].presence()

    async def rabbitmq_state() -> str:
        if PUBLISHER not in app:
            return "absent"
        return "up" if app[PUBLISHER].up.is_set() else "down"

    checks = app[health.HEALTH]
    checks.checks = {
        "postgres": postgres_state,
        "redis": redis_state,
        "rabbitmq": rabbitmq_state,
    }
    checks.facts = lambda: {
        "limits": switch.road,
        "degraded": switch.degraded,
        "replicas": switch.replicas,
        "unsynced_keys": app[LEDGER].waiting,
    }
    checks.unready_because = lambda: None if table.loaded else "the policies are not loaded yet"


def _switched(old: Backend, new: Backend) -> None:
    log.warning("limits_switched", old=old, new=new)
    metrics.count_switch(old, new)
