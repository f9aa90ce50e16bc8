"""What a push handler's answer means, and what a delivery is signed with."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from contracts import handlers as wire
from mainstay import handler
from mainstay.testing import FakeContext
from queue_service.api.handlers import new_secret
from queue_service.core import push
from queue_service.core.handlers import PushHandler
from queue_service.core.push import Answered, Push, PushFailed
from testkit.clock import FakeClock
from testkit.signals import eventually

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TO = PushHandler(
    kind="k", url="https://shop.example/hook", timeout_s=5.0, max_in_flight=2, sealed="",
    disabled_at=None, created_at=NOW, updated_at=NOW,
)  # fmt: skip


def test_a_delivery_is_signed_as_the_standard_says() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = push.signature(key, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330,
                          body=body)  # fmt: skip
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    told = base64.b64decode(made.removeprefix("v1,"))
    assert told == hmac.digest(
        key, b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body, hashlib.sha256
    )


def test_a_secret_of_ours_is_one_that_we_take() -> None:
    assert len(wire.secret_bytes(new_secret())) == 32
    for wrong in ("whsec_", "whsec_c2hvcnQ=", "abc", "whsec_" + "A" * 400, "whsec_%%%%"):
        with pytest.raises(ValueError, match="must be"):
            wire.secret_bytes(wrong)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_good_answer_completes_the_job(status: int) -> None:
    assert push.outcome(Answered(status, None, {"a": 1}), NOW) == handler.Completed({"a": 1})


@pytest.mark.parametrize("status", [301, 307, 400, 404, 409, 429, 500, 502, 503])
def test_any_other_answer_is_a_failed_attempt(status: int) -> None:
    with pytest.raises(PushFailed, match=str(status)):
        push.outcome(Answered(status, None, None), NOW)


@pytest.mark.parametrize(
    ("said", "delay_s"),
    [("7", 7.0), ("0", 1.0), ("999999999", 86400.0),
     (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
     (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 1.0)],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_later_is_later_without_spending_an_attempt(status: int, said: str, delay_s: float) -> None:
    assert push.outcome(Answered(status, said, None), NOW) == handler.Snooze(delay_s)


@pytest.mark.parametrize("said", ["soon", "-1", "", "1e3", "Fri, 99 May 2026 99:00:00 GMT"])
def test_a_later_that_cannot_be_read_is_none(said: str) -> None:
    with pytest.raises(PushFailed):
        push.outcome(Answered(503, said, None), NOW)


class Site:
    """A Deliver that counts and waits."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.inside = self.most = self.calls = 0
        self.open = asyncio.Event()
        self.disabled: list[str] = []

    async def __call__(
        self, to: PushHandler, secret: bytes, args: Mapping[str, Any], ctx: handler.Context
    ) -> Answered:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.open.wait()
        self.inside -= 1
        return Answered(self.status, None, None)

    async def disable(self, to: PushHandler) -> None:
        self.disabled.append(to.kind)


def made(site: Site, to: PushHandler = TO, secret: bytes | None = b"s") -> Push:
    return Push(to, secret, deliver=site, disable=site.disable, clock=FakeClock(NOW))


async def test_no_more_are_in_flight_than_the_handler_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "PLACE_WAIT_S", 0.05)
    site = Site()
    run = made(site)
    running = [asyncio.create_task(run({}, FakeContext())) for _ in range(4)]
    await eventually(lambda: sum(task.done() for task in running) == 2)
    site.open.set()
    ended = await asyncio.gather(*running)
    assert site.most == 2
    assert [type(one).__name__ for one in ended].count("Completed") == 2
    assert [type(one).__name__ for one in ended].count("Snooze") == 2


async def test_a_job_that_is_cancelled_is_not_waited_for() -> None:
    site, ctx = Site(), FakeContext()
    running = asyncio.create_task(made(site)({}, ctx))
    await eventually(lambda: site.inside == 1)
    ctx.cancelled.set()
    assert isinstance(await running, handler.Snooze)


async def test_one_that_is_gone_is_disabled_and_called_no_more() -> None:
    site = Site(410)
    site.open.set()
    run = made(site)
    for _ in range(3):
        assert isinstance(await run({}, FakeContext()), handler.Snooze)
    assert (site.calls, site.disabled) == (1, ["k"])


async def test_without_a_secret_or_disabled_its_jobs_wait() -> None:
    site = Site()
    for run in (made(site, secret=None), made(site, replace(TO, disabled_at=NOW))):
        assert isinstance(await run({}, FakeContext()), handler.Snooze)
    assert site.calls == 0


def test_python_handlers_come_first_and_what_has_not_changed_stays() -> None:
    site = Site()
    installed = push.handler_of(TO, made(site))
    registry = push.Registry(
        {"own": installed}, make=lambda to: push.handler_of(to, made(site, to))
    )
    assert registry.get("k") is None
    registry.learn([TO, replace(TO, kind="own")])
    first = registry["k"]
    assert registry["own"] is installed
    registry.learn([TO])
    assert registry["k"] is first
    registry.learn([replace(TO, updated_at=NOW + timedelta(seconds=1))])
    assert registry["k"] is not first
    registry.learn([])
    assert (registry.get("k"), sorted(registry)) == (None, ["own"])
