"""The gateway's owners for tests: real HTTP, real service tokens, everything else in memory.

`QueueOwner` keeps jobs as the real one promises: one per id and per key, repeats answered with what
is there. `freeze` is SIGSTOP: requests are taken and answered when it is over.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from chassis import crypto
from chassis.kernel import errors
from chassis.kernel.clock import SystemClock, rfc3339
from chassis.web import app as web_app
from chassis.web import auth, body, openapi, problems
from chassis.web.app import SERVICE, Operation
from contracts import ratelimits, sessions
from contracts.commands import AcceptedJob, AcceptJobs, ShopVerb
from gateway.core import gcra, ports

SEEDED = ("default", "sms", "campaign", "automation", "webhooks")
POLICIES = (
    ("api", "shop_or_ip", "10/s", 100),
    ("api-ip", "ip", "30/s", 300),
    ("api-key", "user", "5000/s", 50_000),
    ("webhook-in", "shop_or_ip", "50/s", 1_000),
)
SECRET, OLD_SECRET = "shpss_now", "shpss_before"
SPOKEN = {"algorithm": "gcra", "shadow": False, "on_failure": "local", "max_degraded_s": 0.0}
CLOCK = SystemClock()


class Keys:
    """A directory of service keys, and the private halves."""

    def __init__(self, folder: Path, *services: str) -> None:
        self.folder = folder
        self.private: dict[str, str] = {}
        for name in services:
            self.private[name], public = crypto.new_service_key()
            (folder / f"{name}.pub").write_text(public)


class OwnerServer:
    """A service that the gateway speaks to. `heard`: (shop, verb, body) of its internal API;
    `fails_every`: of its calls, but not of looks at its health, so many-th is a 500."""

    name: str

    def __init__(self, keys: Keys) -> None:
        self._running = asyncio.Event()
        self._running.set()
        self._keys = keys
        self._runner: web.AppRunner | None = None
        self.calls: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.paths: list[str] = []
        self.callers: list[crypto.Caller] = []
        self.port = self.entered = 0
        self.delay_s = 0.0
        self.fails_every = 0
        self.health = "pass"
        self.heard: list[tuple[str, str, dict[str, Any]]] = []

    def operations(self) -> list[Operation]:
        return []

    def facts(self) -> dict[str, Any]:
        return {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def document(self) -> dict[str, Any]:
        return openapi.document(title=self.name, version="1", operations=self.operations())

    async def start(self) -> None:
        """Listen; after a stop on the same port again."""
        app = web.Application(middlewares=[self._watch, web_app.edge])
        verifier = crypto.Verifier.from_directory(service=self.name, directory=self._keys.folder)
        app.router.add_get("/healthz", self._healthz)
        spoken = [*self.operations(), *self.hearing()]
        web_app.add_operations(app, spoken, authenticate=auth.by_service_token(verifier))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.thaw()
        if self._runner is not None:
            await self._runner.cleanup()

    def hearing(self) -> list[Operation]:
        return [
            Operation(
                method="POST", path=f"/internal/v1/shops/{{shop}}:{verb}", handler=self._hear(verb),
                summary=verb, scope=SERVICE, status=204,
            )
            for verb in ShopVerb
        ]  # fmt: skip

    def _hear(self, verb: str) -> web_app.Handler:
        async def hear(request: web.Request) -> web.Response:
            said = body.parse_value(await body.read_bytes(request))
            self.heard.append((request.match_info["shop"], verb, said))
            return web.Response(status=204)

        return hear

    async def _healthz(self, _request: web.Request) -> web.Response:
        report = {
            "status": self.health,
            "sampled_at": rfc3339(CLOCK.now()),
            "checks": {"postgres": "up", "redis": "absent", "rabbitmq": "absent"},
            **self.facts(),
        }
        return web.json_response(report, status=503 if self.health == "fail" else 200)

    @web.middleware
    async def _watch(self, request: web.Request, handler: web_app.Handler) -> web.StreamResponse:
        self.entered += 1
        await self._running.wait()
        await asyncio.sleep(self.delay_s)
        if request.path != "/healthz":
            self.calls.append((request.method, request.path))
            self.headers.append(request.headers)
            self.paths.append(request.raw_path)
            if self.fails_every and len(self.calls) % self.fails_every == 0:
                return web.Response(status=500)
        response = await handler(request)
        if web_app.CALLER in request:
            self.callers.append(request[web_app.CALLER])
        return response


class QueueOwner(OwnerServer):
    name = "queue-service"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.queues = set(SEEDED)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.prints: dict[str, str] = {}
        self.by_key: dict[tuple[str, str], str] = {}
        self.loads: list[int] = []
        self.uploaded = 0
        self.broken_uploads = 0
        self.parked = 0
        self.chokes_on = ""

    def operations(self) -> list[Operation]:
        def one(method: str, path: str, handler: web_app.Handler, scope: str, **more: Any) -> Any:
            return Operation(
                method=method, path=path, handler=handler, summary=path, scope=scope, **more
            )

        return [
            one("POST", "/internal/v1/jobs:accept", self._accept, SERVICE),
            one("POST", "/v1/jobs", self._not_here, "jobs:write"),
            one("POST", "/v1/jobs:batch", self._not_here, "jobs:write"),
            one("GET", "/v1/jobs", self._list, "jobs:read"),
            one("GET", "/v1/jobs/{id}", self._get, "jobs:read"),
            one("POST", "/v1/jobs/{id}:cancel", self._cancel, "jobs:write"),
            one("GET", "/v1/queues", self._queues, "jobs:read"),
            one("PUT", "/v1/queues/{queue}", self._put_queue, "queues:admin"),
            one("POST", "/v1/queues/{queue}:lease", self._park, "jobs:write", timeout_s=0),
            one(
                "POST", "/v1/batches/{batch}/items", self._upload, "jobs:write",
                timeout_s=0, request_types=("text/csv", "application/x-ndjson"),
            ),
        ]  # fmt: skip

    async def _accept(self, request: web.Request) -> web.Response:
        command = await body.read_json(request, AcceptJobs, limit=8 * body.MAX_BODY_BYTES)
        if any(item.job.kind == self.chokes_on for item in command.jobs):
            raise errors.Invalid("what is this?")
        self.loads.append(len(command.jobs))
        if command.atomic and any(map(self._collision, command.jobs)):
            return body.respond({"results": [self._refused(item) for item in command.jobs]})
        results = [self._judge(item, promised=command.promised) for item in command.jobs]
        return body.respond({"results": results})

    async def _park(self, request: web.Request) -> web.Response:
        """Until the caller hangs up."""
        self.parked += 1
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)
        self.parked -= 1
        return body.respond({"jobs": []})

    def _refused(self, item: AcceptedJob) -> dict[str, Any]:
        code = self._collision(item)
        problem = problems.document(status=422, code=code, detail=code) if code else None
        return {"id": str(item.id), "status": "rejected", "problem": problem}

    def _judge(self, item: AcceptedJob, *, promised: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"id": str(item.id)}
        code = self._collision(item)
        if code is not None:
            problem = problems.document(status=422, code=code, detail=code)
            if promised:
                self._store(item, "rejected")
            return {**said, "status": "rejected", "problem": problem}
        there = str(item.id)
        if item.key is not None:
            there = self.by_key.setdefault((item.scope, item.key), there)
        if there in self.jobs:
            return {**said, "status": "existing", "job": self.jobs[there]}
        self._store(item, "ready")
        return {**said, "status": "created", "job": self.jobs[there]}

    def _collision(self, item: AcceptedJob) -> str | None:
        if item.job.queue not in self.queues:
            return "unknown_queue"
        if item.key is not None and (item.scope, item.key) in self.by_key:
            there = self.by_key[item.scope, item.key]
            if self.prints[there] != item.fingerprint:
                return "idempotency_key_reused"
        if self.prints.get(str(item.id), item.fingerprint) != item.fingerprint:
            return "id_taken"
        return None

    def _store(self, item: AcceptedJob, state: str) -> None:
        spoken = item.job.model_dump(mode="json")
        self.prints[str(item.id)] = item.fingerprint
        self.jobs[str(item.id)] = {
            "id": str(item.id),
            "state": state,
            "created_at": rfc3339(item.accepted_at),
            **{name: spoken[name] for name in ("kind", "queue", "shop", "args", "run_at", "tags")},
        }

    async def _not_here(self, _request: web.Request) -> web.Response:
        raise AssertionError("the gateway asks by jobs:accept")

    async def _list(self, _request: web.Request) -> web.Response:
        return body.respond({"items": list(self.jobs.values()), "next_cursor": None})

    async def _get(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            document = problems.document(status=404, code="not_found", detail="no such job")
            return web.json_response(document, status=404, content_type=problems.CONTENT_TYPE)
        return body.respond(job, backend="postgres")

    async def _cancel(self, request: web.Request) -> web.Response:
        return await self._get(request)

    async def _queues(self, _request: web.Request) -> web.Response:
        return body.respond({"items": [{"name": name} for name in sorted(self.queues)]})

    async def _put_queue(self, request: web.Request) -> web.Response:
        await request.read()
        self.queues.add(request.match_info["queue"])
        return body.respond({"name": request.match_info["queue"]})

    async def _upload(self, request: web.Request) -> web.Response:
        try:
            async for piece in request.content.iter_any():
                self.uploaded += len(piece)
        except (web.RequestPayloadError, OSError):
            self.broken_uploads += 1
            raise
        return body.respond({"accepted": self.uploaded})


class SessionOwner(OwnerServer):
    """Begins and ends every authorization that it is asked to, unless `refuses` says why not."""

    name = "session-service"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.begun: list[sessions.OAuthBegin] = []
        self.completed: list[sessions.OAuthComplete] = []
        self.refuses: errors.Fault | None = None

    def operations(self) -> list[Operation]:
        def one(method: str, path: str, handler: web_app.Handler, scope: str) -> Operation:
            return Operation(method=method, path=path, handler=handler, summary=path, scope=scope)

        return [
            one("GET", "/v1/shops/{shop}/sessions", self._sessions, "sessions:read"),
            one("POST", "/v1/oauth/begin", self._begin, "sessions:write"),
            one("POST", "/v1/oauth/complete", self._complete, "sessions:write"),
        ]

    async def _sessions(self, request: web.Request) -> web.Response:
        return body.respond({"items": [{"shop": request.match_info["shop"]}]})

    async def _begin(self, request: web.Request) -> web.Response:
        self.begun.append(await body.read_json(request, sessions.OAuthBegin))
        address = f"https://{self.begun[-1].shop}/admin/oauth/authorize?state=s1"
        return body.respond({"authorize_url": address, "cookie": "mainstay_oauth_s1=b; HttpOnly"})

    async def _complete(self, request: web.Request) -> web.Response:
        self.completed.append(await body.read_json(request, sessions.OAuthComplete))
        if self.refuses is not None:
            raise self.refuses
        return body.respond({
            "session_id": "offline_s.myshopify.com", "shop": "s.myshopify.com", "user_id": None,
            "scope": "read_products", "version": 7, "redirect_to": "https://app.example/welcome",
            "clear_cookie": "mainstay_oauth_s1=; Max-Age=0",
        })  # fmt: skip


class RatelimitOwner(OwnerServer):
    """Lets everything pass but the policies that `refused` names; those of `paces` it counts as the
    real one does. `told`: (policy, tokens) given out without it."""

    name = "ratelimit-service"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.refused: set[str] = set()
        self.paces: dict[str, gcra.Pace] = {}
        self.buckets = gcra.Buckets(CLOCK.monotonic)
        self.asked: list[ratelimits.Check] = []
        self.leased: dict[str, int] = {}
        self.returned: dict[str, int] = {}
        self.told: list[tuple[str, int]] = []
        self.policies_read = 0
        self.burst = 100

    def facts(self) -> dict[str, Any]:
        return {"limits": "postgres"}

    def operations(self) -> list[Operation]:
        def one(method: str, path: str, handler: web_app.Handler, scope: str) -> Operation:
            return Operation(method=method, path=path, handler=handler, summary=path, scope=scope)

        return [
            one("POST", "/v1/ratelimits/check:batch", self._check, "ratelimits:check"),
            one("POST", "/v1/ratelimits/leases", self._lease, "ratelimits:check"),
            one("DELETE", "/v1/ratelimits/leases/{id}", self._give_back, "ratelimits:check"),
            one("POST", "/v1/ratelimits/penalize", self._penalize, "ratelimits:check"),
            one("GET", "/v1/ratelimits/policies", self._policies, "ratelimits:admin"),
            one("GET", "/v1/ratelimits/policies/{id}", self._policy, "ratelimits:admin"),
        ]

    @property
    def decisions(self) -> int:
        """Calls that decide something."""
        return sum(method in ("POST", "DELETE") for method, _path in self.calls)

    async def _check(self, request: web.Request) -> web.Response:
        asked = await body.read_json(request, ratelimits.CheckBatch)
        self.asked += [item for item in asked.items if item.mode == "consume"]
        return body.respond({"results": [self._decide(item) for item in asked.items]})

    def _decide(self, item: ratelimits.Check) -> dict[str, Any]:
        cost = int(item.mode == "consume")
        states = [self._state(name, item.subject, cost) for name in item.policies]
        waits = [state["reset_ms"] for state in states if state["violated"]]
        said = {"allowed": not waits, "retry_after_ms": max(waits, default=None)}
        return {**said, "wait_ms": 0, "limits": states, "backend": "postgres", "degraded": False}

    def _state(self, policy: str, subject: ratelimits.Subject, cost: int) -> dict[str, Any]:
        """Takes `cost` tokens if there are as many."""
        pace, key = self.paces.get(policy), (policy, _who(policy, subject))
        if pace is None:
            is_refused = policy in self.refused
            left, reset_s, burst, window_s = 0 if is_refused else 70, 1.5, self.burst, 10
        else:
            left = self.buckets.peek(key, pace).remaining
            is_refused = left < max(cost, 1)
            for _ in range(0 if is_refused else cost):
                left = self.buckets.take(key, pace).remaining
            reset_s = self.buckets.peek(key, pace).retry_after_s or pace.t_us / gcra.SECOND_US
            burst, window_s = pace.burst, pace.window_s
        return {
            "policy": policy, "limit": burst, "remaining": left, "reset_ms": int(reset_s * 1000),
            "window_s": window_s, "violated": is_refused, "shadow": False,
        }  # fmt: skip

    async def _lease(self, request: web.Request) -> web.Response:
        asked = await body.read_json(request, ratelimits.LeasePost)
        granted = min(asked.want, self._state(asked.policy, asked.subject, 0)["remaining"])
        state = self._state(asked.policy, asked.subject, granted)
        self.leased[name := f"l{len(self.leased)}"] = granted
        said = {"id": name, "granted": granted, "limits": [state]}
        return body.respond({**said, "expires_ms": 0, "backend": "postgres", "degraded": False})

    async def _give_back(self, request: web.Request) -> web.Response:
        self.returned[request.match_info["id"]] = int(request.query["unspent"])
        return body.respond({"refunded": self.returned[request.match_info["id"]]})

    async def _penalize(self, request: web.Request) -> web.Response:
        asked = await body.read_json(request, ratelimits.Penalize)
        self.told.append((asked.policy, asked.cost))
        bucket = self.buckets.get((asked.policy, _who(asked.policy, asked.subject)))
        if bucket is not None:
            now_us = gcra.now_us(CLOCK.monotonic)
            bucket.tat_us = max(bucket.tat_us, now_us) + asked.cost * bucket.t_us
        state = self._state(asked.policy, asked.subject, 0)
        return body.respond({"limits": [state], "backend": "postgres", "degraded": False})

    async def _policies(self, _request: web.Request) -> web.Response:
        items = [{"id": p, "key": k, "rate": r, "burst": b, **SPOKEN} for p, k, r, b in POLICIES]
        return body.respond({"items": items, "next_cursor": None})

    async def _policy(self, request: web.Request) -> web.Response:
        self.policies_read += 1
        return body.respond({"id": request.match_info["id"], "reads": self.policies_read})


def a_policy(name: str, **more: Any) -> ports.Policy:
    """A limit of addresses, but for what is said of it."""
    made: dict[str, Any] = {
        "id": name, "kind": "ip", "burst": 300, "t_us": 33_334, "shadow": False,
        "is_leasable": True, "on_failure": "local", "max_degraded_s": 0.0, **more,
    }  # fmt: skip
    return ports.Policy(**made)


def _who(policy: str, subject: ratelimits.Subject) -> str:
    return {"api-key": subject.user, "api": subject.shop}.get(policy) or subject.ip or ""


def sign(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def webhook(body: bytes, **other: str | None) -> list[tuple[str, str]]:
    """The headers that Shopify sends with it, but for what is said of them; None: not that one."""
    said: dict[str, str | None] = {
        "Topic": "orders/create",
        "Hmac-Sha256": sign(body),
        "Shop-Domain": "one.myshopify.com",
        "API-Version": "2026-10",
        "Webhook-Id": "w-1",
        "Triggered-At": "2026-11-25T09:59:58.123456789Z",
    }
    said |= {name.replace("_", "-"): value for name, value in other.items()}
    return [(f"X-Shopify-{name}", value) for name, value in said.items() if value is not None]


class Owners:
    """All three, and the keys that everybody knows everybody by."""

    def __init__(self, folder: Path) -> None:
        names = ("gateway", "queue-service", "session-service", "ratelimit-service")
        self.keys = Keys(folder, *names)
        self.queue = QueueOwner(self.keys)
        self.session = SessionOwner(self.keys)
        self.ratelimit = RatelimitOwner(self.keys)

    def each(self) -> tuple[OwnerServer, ...]:
        return (self.queue, self.session, self.ratelimit)

    def documents(self) -> dict[str, dict[str, Any]]:
        return {owner.name: owner.document() for owner in self.each()}


@asynccontextmanager
async def owners(folder: Path) -> AsyncIterator[Owners]:
    made = Owners(folder)
    for owner in made.each():
        await owner.start()
    try:
        yield made
    finally:
        for owner in made.each():
            await owner.stop()
