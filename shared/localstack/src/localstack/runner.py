"""From the verb to the exit code: the stack in the main thread, the campaign in one beside it."""

import asyncio
import shlex
import signal
import sys
import threading
import time
from enum import StrEnum
from types import FrameType

import aiohttp

from localstack import report
from localstack.campaign import Campaign, CampaignError, Outcome
from localstack.databases import DatabaseError
from localstack.home import HomeError
from localstack.plan import Plan
from localstack.servers.errors import ServerError
from localstack.stack import Stack, StackError, Stopped
from mainstay.client import Client

LOOK_S = 0.1
# `make` passes on a signal that the terminal has already sent us: that is no second wish.
SECOND_AFTER_S = 1.0

EXIT_OK = 0
EXIT_STACK = 1
EXIT_CAMPAIGN = 3
EXIT_INTERRUPTED = 130


class Verb(StrEnum):
    RUN = "run"
    SERVE = "serve"
    DEMO = "demo"


class Stops:
    """SIGTERM and SIGINT: the first asks to drain, a later one to hurry."""

    def __init__(self) -> None:
        self._first_at: float | None = None
        self._hurry = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._heard)

    def wanted(self) -> bool:
        return self._first_at is not None

    def hurry(self) -> bool:
        return self._hurry

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
        elif now - self._first_at > SECOND_AFTER_S:
            self._hurry = True


class CampaignThread:
    """The campaign with an event loop of its own. `is_over` tells; then `outcome` or `error`."""

    def __init__(self, campaign: Campaign, client: Client) -> None:
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self._campaign = campaign
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="campaign", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Leave it where it is; returns when it has let go."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(5)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as loop:
            try:
                loop.run(self._run())
            except asyncio.CancelledError:
                self.error = "stopped before its end"

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        try:
            async with self._client:
                self.outcome = await self._campaign.run()
        except (CampaignError, aiohttp.ClientError, TimeoutError, OSError) as error:
            self.error = str(error) or type(error).__name__


class Runner:
    def __init__(self, plan: Plan, verb: Verb, *, screen: report.Screen) -> None:
        self._plan = plan
        self._verb = verb
        self._screen = screen
        self._stops = Stops()
        self._stack = Stack(plan, say=screen.say, stopping=self._stops.wanted)

    def run(self) -> int:
        self._stops.install()
        try:
            self._stack.start()
            return self._serve()
        except Stopped:
            return EXIT_INTERRUPTED if self._verb is Verb.DEMO else EXIT_OK
        except (StackError, HomeError, ServerError, DatabaseError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_STACK
        finally:
            self._stack.stop(hurry=self._stops.hurry)

    def _serve(self) -> int:
        campaign = self._start_campaign()
        if campaign is None:
            self._invite()
        code = EXIT_OK
        while not self._stops.wanted():
            self._stack.run_once()
            if campaign is not None and campaign.is_over:
                code = self._conclude(campaign)
                if self._verb is Verb.DEMO:
                    return code
                campaign = None
                self._invite()
            time.sleep(LOOK_S)
        if campaign is not None:
            campaign.cancel()
            self._screen.end_progress()
        self._screen.say("stopping; once more to hurry")
        return EXIT_INTERRUPTED if self._verb is Verb.DEMO else EXIT_OK

    def _start_campaign(self) -> CampaignThread | None:
        if self._verb is Verb.SERVE:
            return None
        if not self._plan.with_sandbox:
            provider = self._plan.settings.sms_provider
            self._screen.say(f"no sample campaign: it never goes to a real provider ({provider})")
            return None
        client = Client(self._plan.gateway_url, self._stack.admin_key)
        campaign = Campaign(
            client, sandbox_url=self._plan.sandbox_url, progress=self._screen.progress
        )
        thread = CampaignThread(campaign, client)
        thread.start()
        return thread

    def _conclude(self, campaign: CampaignThread) -> int:
        self._screen.end_progress()
        outcome = campaign.outcome
        if outcome is None:
            self._screen.line(f"the campaign failed: {campaign.error or 'for no known reason'}")
            return EXIT_CAMPAIGN
        for line in report.outcome_lines(outcome):
            self._screen.line(line)
        for name, times in self._stack.restarts.items():
            self._screen.line(f"{name} was restarted {times} times")
        if self._verb is Verb.DEMO:
            self._tell_how_to_go_on()
        return EXIT_CAMPAIGN if outcome.faults else EXIT_OK

    def _invite(self) -> None:
        self._screen.line()
        self._tell_how_to_go_on()
        self._screen.line(f"serving on {self._plan.gateway_url}; Ctrl-C stops")

    def _tell_how_to_go_on(self) -> None:
        """Which accelerators there are, the key, and one line to try it with."""
        settings, key_file = self._plan.settings, self._plan.home.admin_key_file
        seen = self._stack.dependencies()
        for name, url in (("redis", settings.redis_url), ("rabbitmq", settings.amqp_url)):
            self._screen.line(f"{name}: {'absent' if url is None else seen.get(name, 'unknown')}")
        self._screen.line(f"admin key: {key_file}")
        self._screen.line(
            f'try: curl -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})"'
            f" {self._plan.gateway_url}/v1/system"
        )
