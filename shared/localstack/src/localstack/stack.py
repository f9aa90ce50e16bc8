"""The whole stack as one thing: start it in order, keep it alive, drain it in order.

Works from one thread, the main one: the kernel ends a child together with the thread that started
it. Between any two steps it asks whether somebody wants it to stop.
"""

import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from signal import SIGTERM, Signals
from typing import Any, ClassVar

from localstack import children, databases, plan
from localstack.home import Home
from localstack.plan import Plan, Process
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer

Say = Callable[[str], None]

LOOK_S = 0.1
READY_WITHIN_S = 60.0
MIGRATE_WITHIN_S = 120.0
PROBE_TIMEOUT_S = 1.0
# A stop of 15 s drains ends within 30 s: each stage gets its drain from its own signal on, and
# waits for the one before it at most this long.
STAGE_S = 4.0
DRAIN_GRACE_S = 1.0
OTHERS_S = 3.0
START_ORDER = (
    (plan.SANDBOX, "ratelimit-service", "session-service", "queue-service"),
    ("queue-worker",),
    ("gateway",),
)
DRAIN_ORDER = ("gateway", "queue-service", "queue-worker")


class StackError(Exception):
    """The stack cannot run; the text says why, and where to read more."""


class Stopped(Exception):
    """Somebody wants us to stop before we had started."""


class StackPostgres(PostgresServer):
    """If we are killed, the processes still settle what they had begun: SIGTERM lets the sessions
    that are open end by themselves, and takes no new ones."""

    at_our_death: ClassVar[Signals] = SIGTERM


class Stack:
    """`start()`, then `run_once()` again and again, then `stop()`; `say` tells the person."""

    def __init__(self, wanted: Plan, *, say: Say, stopping: Callable[[], bool]) -> None:
        self.plan = wanted
        self.home: Home = wanted.home
        self.admin_key = ""
        self._say = say
        self._stopping = stopping
        self._children: dict[str, children.Child] = {}
        self._programs: dict[str, children.Program] = {}
        self._postgres: children.Child | None = None
        self._closing = ExitStack()

    @property
    def restarts(self) -> dict[str, int]:
        return {name: child.restarts for name, child in self._children.items() if child.restarts}

    def start(self) -> None:
        """Raises StackError, HomeError, ServerError or DatabaseError; `stop()` cleans up after."""
        self.home.open()
        self._closing.callback(self.home.close)
        for name in self.home.end_left_over(self.plan.commands()):
            self._say(f"{name} was left over by a run that was killed; it has ended")
        given = self.plan.settings.mainstay_admin_key
        self.admin_key = self.home.admin_key(given.get_secret_value() if given else None)
        self.home.ensure_keys(plan.SERVICES)
        self._refuse_taken_ports()
        self._start_postgres()
        known = self._prepare_databases()
        for names in START_ORDER:
            self._start_children(names, known)

    def run_once(self) -> None:
        """One look at everything that should be alive."""
        if self._postgres is not None:
            self._postgres.run_once()
        for child in self._children.values():
            child.run_once()

    def dependencies(self) -> dict[str, str]:
        """What the gateway knows of Postgres, Redis and RabbitMQ: up, down or absent."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.plan.gateway_url}/v1/system",
            headers={"Authorization": f"Bearer {self.admin_key}"},
        )
        try:
            with _open(request) as answer:
                return dict(json.load(answer)["dependencies"])
        except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
            return {}

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Gateway, api, worker, others, Postgres. `hurry` cuts every wait short."""
        drain_s = self.plan.settings.drain_timeout_s + DRAIN_GRACE_S
        alive = {name: self._children[name] for name in DRAIN_ORDER if name in self._children}
        overdue: dict[str, float] = {}
        for name, child in alive.items():
            child.stop()
            overdue[name] = time.monotonic() + drain_s
            self._wait([child], within_s=STAGE_S, hurry=hurry)
        for name, child in alive.items():
            self._wait([child], within_s=overdue[name] - time.monotonic(), hurry=hurry)
            self._end(child)
        others = [child for name, child in self._children.items() if name not in alive]
        for child in others:
            child.stop()
        self._wait(others, within_s=OTHERS_S, hurry=hurry)
        for child in others:
            self._end(child)
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres.forget()
        self._closing.close()

    def _wait(
        self, these: list[children.Child], *, within_s: float, hurry: Callable[[], bool]
    ) -> None:
        process.wait_until(
            lambda: hurry() or not any(child.is_running for child in these),
            within_s=max(within_s, 0.0),
        )

    def _end(self, child: children.Child) -> None:
        if child.is_running:
            self._say(f"{child.name} did not drain in time and is ended")
            child.kill()
        child.forget()

    def _refuse_taken_ports(self) -> None:
        bind = self.plan.settings.mainstay_bind
        taken = [
            f"{port} ({name})"
            for port, name in self.plan.ports().items()
            if not ports.is_free(port, bind)
        ]
        if taken:
            raise StackError(
                f"these ports on {bind} are taken: {', '.join(taken)}."
                " Stop what listens there, or set MAINSTAY_PORT_BASE"
            )

    def _start_postgres(self) -> None:
        if self.plan.settings.database_url is not None:
            return
        server = StackPostgres(
            self.home.postgres,
            port=self.plan.port(plan.POSTGRES_OFFSET),
            bind=self.plan.settings.mainstay_bind,
        )
        server.log = self.home.log_file("postgres")
        child = self._child("postgres", server)
        self._step("PostgreSQL", child.start)
        self._postgres = child

    def _prepare_databases(self) -> plan.Secrets:
        server = self._postgres.server if self._postgres is not None else None
        given = self.plan.settings.database_url
        if isinstance(server, StackPostgres):
            admin_dsn = server.url
        else:
            assert given is not None
            admin_dsn = given.get_secret_value()
        names = [plan.database_of(service) for service in plan.SERVICES]
        version, found = databases.provision(admin_dsn, names)
        known = plan.Secrets(
            admin_key=self.admin_key,
            databases=found,
            sandbox_sid=f"AC{secrets.token_hex(16)}",
            sandbox_token=secrets.token_hex(16),
        )
        owners = [each for each in plan.PROCESSES if each.name in plan.SERVICES]
        self._step(
            f"databases and migrations, PostgreSQL {version}", lambda: self._migrate(owners, known)
        )
        return known

    def _migrate(self, owners: list[Process], known: plan.Secrets) -> None:
        """All at the same time: each has its own database."""
        with ThreadPoolExecutor(len(owners)) as threads:
            done = threads.map(lambda owner: self._migrate_one(owner, known), owners)
            faults = [fault for fault in done if fault]
        if faults:
            raise StackError("\n".join(faults))

    def _migrate_one(self, owner: Process, known: plan.Secrets) -> str | None:
        log = self.home.log_file(f"{owner.name}-migrate")
        try:
            with log.open("ab") as output:
                code = subprocess.run(
                    self.plan.argv(owner, "migrate"),
                    env=self.plan.environment(owner, known),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=MIGRATE_WITHIN_S,
                    start_new_session=True,
                    check=False,
                ).returncode
        except subprocess.TimeoutExpired:
            return f"the migration of {owner.name} did not end within {MIGRATE_WITHIN_S:.0f} s"
        if code == 0:
            return None
        return f"the migration of {owner.name} failed; the end of {log}:\n{process.tail(log)}"

    def _start_children(self, names: Iterable[str], known: plan.Secrets) -> None:
        started = [name for name in names if self._start_child(name, known)]
        self._step(", ".join(started), lambda: self._wait_until_ready(started))

    def _start_child(self, name: str, known: plan.Secrets) -> bool:
        if name == plan.SANDBOX:
            if not self.plan.with_sandbox:
                return False
            argv, env = self.plan.sandbox_argv(), self.plan.sandbox_environment(known)
        else:
            chosen = next(each for each in plan.PROCESSES if each.name == name)
            argv, env = self.plan.argv(chosen), self.plan.environment(chosen, known)
        program = children.Program(argv, env=env, log=self.home.log_file(name))
        self._programs[name] = program
        self._children[name] = self._child(name, program)
        self._children[name].start()
        return True

    def _child(self, name: str, server: children.Startable) -> children.Child:
        return children.Child(name, server, pid_file=self.home.pid_file(name), say=self._say)

    def _wait_until_ready(self, names: list[str]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        waiting = list(names)
        while waiting:
            if self._stopping():
                raise Stopped
            for name in waiting:
                self._refuse_dead(name)
            waiting = [name for name in waiting if not self._is_ready(name)]
            if waiting and time.monotonic() > deadline:
                logs = ", ".join(str(self.home.log_file(name)) for name in waiting)
                raise StackError(f"not ready within {READY_WITHIN_S:.0f} s; read {logs}")
            time.sleep(LOOK_S)

    def _refuse_dead(self, name: str) -> None:
        """Who dies before it was ever ready would die again."""
        code = self._programs[name].code
        if code is not None:
            log = self.home.log_file(name)
            raise StackError(
                f"{name} ended with {code} at its start; the end of {log}:\n{process.tail(log)}"
            )

    def _is_ready(self, name: str) -> bool:
        if name == plan.SANDBOX:
            return answers(f"{self.plan.sandbox_url}/healthz")
        chosen = next(each for each in plan.PROCESSES if each.name == name)
        return answers(f"{self.plan.url(chosen.ops_port)}/readyz")

    def _step(self, what: str, do: Callable[[], None]) -> None:
        if self._stopping():
            raise Stopped
        started = time.monotonic()
        do()
        self._say(f"{what} ({time.monotonic() - started:.1f} s)")


def answers(url: str) -> bool:
    """Does it say 200, soon?"""
    try:
        with _open(urllib.request.Request(url)) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _open(request: urllib.request.Request) -> Any:
    """Never through a proxy: it is next door."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=PROBE_TIMEOUT_S)
