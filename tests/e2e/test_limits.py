"""Limits as apps and proxies ask them, through the gateway."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay.limiter import Limiter
from testkit.stack import StackProcess

from .test_documents import ROOT, finished
from .test_pull import WITHIN_S, script

RECIPES = (ROOT / "docs" / "forward-auth.md").read_text()
PATH = "/v1/ratelimits/enforce"


async def test_the_readmes_limits_do_what_they_say(stack: StackProcess, tmp_path: Path) -> None:
    path, environ = script(stack, tmp_path, "limiter.check(")
    # Patient, so that a busy machine is not taken for a limiter that is away.
    path.write_text(path.read_text().replace("Limiter(mainstay)", "Limiter(mainstay, budget_s=9)"))
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(path)], env=environ, capture_output=True, text=True,
        check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["[True, True, False] True", "True", "1 2"], done.stderr


async def test_a_limiter_asks_the_gateway_for_many_at_once(stack: StackProcess) -> None:
    async with stack.client() as client, Limiter(client, budget_s=9.0) as limits:
        await client.put_policy("e2e-many", key="user", rate="1/h", burst=20)
        asked = [limits.check("e2e-many", user="k") for _ in range(50)]
        decided = await asyncio.gather(*asked)
    assert sum(one.allowed for one in decided) == 20
    assert not any(one.degraded for one in decided)


async def test_what_a_refused_message_did_not_use_comes_back(stack: StackProcess) -> None:
    """From the handler, by the worker's own limiter, to the bucket."""
    sender = "+15005550042"
    args = {"to": "+306912345678", "body": "Γεια", "from": sender}
    async with stack.client() as client, stack.session() as session:
        before = await client.get_policy("sms-sender")
        slow = {"key": "sender", "unit": "segments", "rate": "1/h", "burst": 50}
        await client.put_policy("sms-sender", **slow)
        try:
            ends = []
            # Without a count: a message of another test might come first.
            for fault in ({"mode": "fail", "status": 400}, {"mode": "ok"}):
                async with session.put(f"{stack.sandbox_url}/sandbox/faults", json=fault) as answer:
                    assert answer.status == 200
                job = await client.enqueue("sms.send", args, queue="sms")
                done = await finished(stack, str(job.id))
                left = (await client.peek("sms-sender", sender=sender)).limits[0].remaining
                ends.append((done["state"], left))
            assert ends == [("failed", 50), ("completed", 49)]
        finally:
            spec = {"key": before.key, "unit": before.unit, "rate": str(before.rate)}
            await client.put_policy("sms-sender", **spec, burst=before.burst or 1)


def asked_by(pattern: str) -> str:
    """The one request that a recipe makes, its variables filled in."""
    (found,) = re.findall(pattern, RECIPES)
    return str(found).replace("$remote_addr", "203.0.113.7")


@pytest.mark.parametrize(
    ("proxy", "pattern", "refused"),
    [
        ("nginx", rf"proxy_pass http://mainstay({PATH}\?[^;]*);", 403),
        ("envoy", rf'replace\(":path", "({PATH}\?[^"]*)"\)', 429),
        ("traefik", rf'address: "http://127\.0\.0\.1:8082({PATH}\?[^"]*)"', 429),
    ],
    ids=["nginx", "envoy", "traefik"],
)
async def test_what_a_proxy_relies_on(
    stack: StackProcess, proxy: str, pattern: str, refused: int
) -> None:
    """Statuses and headers of what its recipe asks, under a policy of this test's own."""
    policy = f"e2e-{proxy}"
    path = re.sub(r"policy=[^&]*", f"policy={policy}", asked_by(pattern))
    async with stack.client() as client, stack.session() as session:
        await client.put_policy(policy, key="shop_or_ip", rate="1/h", burst=2)
        # The visitor's own headers do not matter, nor does what he says of himself.
        said = {"X-Forwarded-For": "6.6.6.6", "X-Shop": "flowers.myshopify.com"}
        answers = []
        for _ in range(3):
            async with session.get(path, headers=said) as answer:
                answers.append((answer.status, answer.headers, await answer.read()))
        assert [status for status, *_ in answers] == [204, 204, refused]
        _, headers, body = answers[0]
        assert (headers["RateLimit"], body) == (f'"{policy}";r=1;t=3600', b"")
        assert headers["RateLimit-Policy"] == f'"{policy}";q=2;w=7200'
        _, headers, body = answers[2]
        assert headers["Content-Type"].startswith("application/problem+json")
        assert 3590 <= int(headers["Retry-After"]) <= 3961
        assert headers["RateLimit"].startswith(f'"{policy}";r=0;t=')
        address = "203.0.113.7" if "ip=" in path else "127.0.0.1"
        assert (await client.peek(policy, ip=address)).limits[0].remaining == 0
