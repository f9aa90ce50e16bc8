"""An app that runs its jobs behind a URL of its own, and has some of them by the clock."""

import base64
import hashlib
import hmac
import json

from aiohttp import web
from aiohttp.test_utils import TestServer

from mainstay.client import new_id
from testkit.signals import eventually
from testkit.stack import StackProcess


async def test_an_app_runs_jobs_behind_its_own_url(stack: StackProcess) -> None:
    kind, delivered = f"order/paid-{new_id()}", []

    async def hook(request: web.Request) -> web.Response:
        raw = await request.read()
        delivered.append((request.headers, raw))
        return web.json_response({"seen": json.loads(raw)["args"]})

    app = web.Application()
    app.router.add_post("/hook", hook)
    path = f"/v1/handlers/{kind.replace('/', '%2F')}"
    async with TestServer(app, host="127.0.0.1") as server, stack.session() as session:
        async with session.put(path, json={"url": str(server.make_url("/hook"))}) as answer:
            assert answer.status == 201
            secret = base64.b64decode((await answer.json())["secret"].removeprefix("whsec_"))
        async with session.post("/v1/jobs", json={"kind": kind, "args": {"n": 7}}) as answer:
            job = await answer.json()

        async def completed() -> bool:
            async with session.get(f"/v1/jobs/{job['id']}") as found:
                read = await found.json()
            return bool(read["state"] == "completed" and read["result"] == {"seen": {"n": 7}})

        await eventually(completed, 15.0)
        async with session.delete(path) as answer:
            assert answer.status == 204
    ((headers, raw),) = delivered
    signed = f"{job['id']}.{headers['webhook-timestamp']}.".encode() + raw
    wanted = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


async def test_a_schedule_is_kept_and_tells_when_it_fires(stack: StackProcess) -> None:
    body = {"cron": "0 9 1 1 *", "timezone": "Europe/Athens", "job": {"kind": "campaign.report"}}
    async with stack.session() as session:
        async with session.put("/v1/schedules/new-year", json=body) as answer:
            assert answer.status == 201
            assert (await answer.json())["next_fire_at"].endswith("-01-01T07:00:00Z")
        async with session.put("/v1/schedules/x", json={**body, "cron": "0 0 30 2 *"}) as answer:
            assert answer.status == 422
            assert (await answer.json())["errors"][0]["pointer"] == "/cron"
        async with session.delete("/v1/schedules/new-year") as answer:
            assert answer.status == 204
