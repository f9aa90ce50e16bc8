"""`automation.run`: wait, send, decide, for one person; months may pass between two steps.

Waiting is a snooze: the job lies in its table until the time has come, and nothing runs. Where it
stands, and until when it waits, is its progress. What it sends are jobs named by their step, so a
step that is run again after a crash sends nothing again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from mainstay.handler import (
    Cancel,
    Completed,
    Context,
    Outcome,
    Permanent,
    Retry,
    Snooze,
    Unavailable,
    handler,
)
from marketing import conditions

MAX_STEPS = 200
YEAR_S = 366 * 86400.0
MAX_AHEAD = timedelta(seconds=10 * YEAR_S)


class StepsChanged(Permanent):
    """The steps are not those that were begun, so nobody knows what is done of them."""

    type = "steps_changed"


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wait(_Said):
    """`for_s` from when the step is reached, or `until` a time, which may be past."""

    do: Literal["wait"]
    for_s: float | None = Field(None, ge=0, le=YEAR_S)
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.for_s is None) == (self.until is None):
            raise ValueError("give for_s or until, one of them")
        if self.until is not None and self.until - datetime.now(UTC) > MAX_AHEAD:
            raise ValueError("until: more than ten years ahead")
        return self


class Send(_Said):
    """A job whose args are the automation's data with `args` laid over them: for `sms.send` the
    data are variables of its template."""

    do: Literal["send"]
    kind: str = Field("sms.send", min_length=1, max_length=128)
    queue: str = "sms"
    args: dict[str, Any] = Field(default_factory=dict)


class Decide(_Said):
    do: Literal["condition"]
    when: Annotated[conditions.Condition, AfterValidator(conditions.check)] = Field(alias="if")
    then: Sequence["Step"] = ()
    otherwise: Sequence["Step"] = Field((), alias="else")


Step = Annotated[Wait | Send | Decide, Field(discriminator="do")]


@dataclass(frozen=True, slots=True)
class Unless:
    """Go on behind it when the condition holds, else at `to`."""

    condition: conditions.Condition
    to: int


@dataclass(frozen=True, slots=True)
class Jump:
    to: int


Instruction = Wait | Send | Unless | Jump


class AutomationArgs(_Said):
    """`data` is what is known of the event and the person."""

    steps: Sequence[Step] = Field(min_length=1)
    data: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _few(self) -> Self:
        if len(self.plan()) > MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS} steps, all branches counted")
        return self

    def plan(self) -> list[Instruction]:
        """The steps in a row, so that a number says where one stands."""
        return _in_a_row(self.steps, 0)

    def digest(self) -> str:
        """Of what was said alone: a member that steps may have one day must not change it."""
        steps = self.model_dump(mode="json", include={"steps"}, exclude_unset=True)
        said = json.dumps(steps, sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def _in_a_row(steps: Sequence[Wait | Send | Decide], start: int) -> list[Instruction]:
    plan: list[Instruction] = []
    for step in steps:
        at = start + len(plan)
        if not isinstance(step, Decide):
            plan.append(step)
            continue
        then = _in_a_row(step.then, at + 1)
        otherwise = at + 2 + len(then)
        rest = _in_a_row(step.otherwise, otherwise)
        plan += [Unless(step.when, otherwise), *then, Jump(otherwise + len(rest)), *rest]
    return plan


@handler("automation.run", args=AutomationArgs, queue="automation", timeout_s=60)
async def run(args: AutomationArgs, ctx: Context) -> Outcome:
    try:
        return await _Running.resumed(args, ctx, await ctx.checkpoint()).run()
    except Unavailable as error:
        return Retry(error=str(error))


@dataclass(slots=True)
class _Running:
    """`at` is the instruction to be done next; `until` when it is a wait that has begun."""

    args: AutomationArgs
    ctx: Context
    digest: str
    at: int = 0
    until: datetime | None = None
    sent: list[str] = field(default_factory=list)

    @classmethod
    def resumed(cls, args: AutomationArgs, ctx: Context, left: Mapping[str, Any] | None) -> Self:
        digest = args.digest()
        if left is None:
            return cls(args, ctx, digest)
        if left["steps"] != digest:
            raise StepsChanged("the steps were changed while it waited")
        until = datetime.fromisoformat(left["until"]) if left["until"] else None
        return cls(args, ctx, digest, left["at"], until, list(left["sent"]))

    async def run(self) -> Outcome:
        plan = self.args.plan()
        while self.at < len(plan):
            if self.ctx.cancelled.is_set():
                return Cancel(f"cancelled before step {self.at}")
            match plan[self.at]:
                case Wait() as wait:
                    if (left_s := self._left_s(wait)) > 0:
                        await self.ctx.progress(self._document())
                        # No job is put off for longer.
                        return Snooze(min(left_s, YEAR_S))
                    self.at, self.until = self.at + 1, None
                case Send() as send:
                    await self._send(send)
                    self.at += 1
                case Unless(condition, to):
                    self.at = self.at + 1 if conditions.holds(condition, self.args.data) else to
                case Jump(to):
                    self.at = to
        return Completed({"sent": self.sent})

    def _left_s(self, wait: Wait) -> float:
        if self.until is None:
            after = timedelta(seconds=wait.for_s or 0.0)
            self.until = wait.until or self.ctx.now() + after
        return (self.until - self.ctx.now()).total_seconds()

    async def _send(self, send: Send) -> None:
        made = await self.ctx.enqueue(
            send.kind,
            {**self.args.data, **send.args},
            name=f"step:{self.at}",
            queue=send.queue,
            tags=[f"automation:{self.ctx.job.id}"],
        )
        self.sent.append(str(made))

    def _document(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "until": self.until.isoformat() if self.until else None,
            "sent": self.sent,
            "steps": self.digest,
        }
