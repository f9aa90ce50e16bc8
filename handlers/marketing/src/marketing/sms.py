"""`sms.send`: one text message to one person, at most once.

Pace first, then the durable mark, then the provider: a refusal costs nothing, and what was
interrupted after the mark is never sent a second time but ends as "ambiguous".
"""

import asyncio
from typing import Annotated, Any, assert_never

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from mainstay.handler import (
    Ambiguous,
    Cancel,
    Completed,
    Context,
    Discard,
    Outcome,
    Reservation,
    Retry,
    Snooze,
    Unavailable,
    handler,
)
from marketing import phone, provider, segments, senders, templates
from marketing import settings as sms_settings

POLICY = "sms-sender"
MAX_SEGMENTS = 10
MAX_WAIT_MS = 5_000
SEND_TIMEOUT_S = 15.0
SETTLE_MARGIN_S = 2.0
BUSY_SNOOZE_S = 5.0
MAX_SNOOZE_S = 3600.0
SYNONYMS = (("body", "template"), ("from", "sender"))


def _template(source: str) -> str:
    templates.check(source)
    return source


class SmsArgs(BaseModel):
    """Who, what, from whom; every further arg is a variable of the template.

    `body` (or `template`) is Liquid. `from` (or `sender`) falls back to the worker's `SMS_FROM`;
    an empty one is none, as in an empty cell of a CSV.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    to: Annotated[str, AfterValidator(phone.to_e164)]
    body: Annotated[str, Field(min_length=1), AfterValidator(_template)] = Field(
        validation_alias=AliasChoices(*SYNONYMS[0])
    )
    sender: Annotated[str, AfterValidator(senders.checked)] | None = Field(
        None, validation_alias=AliasChoices(*SYNONYMS[1])
    )

    @model_validator(mode="before")
    @classmethod
    def _one_of_each(cls, said: Any) -> Any:
        if not isinstance(said, dict):
            return said
        kept = {name: value for name, value in said.items() if not _is_blank(name, value)}
        for name, synonym in SYNONYMS:
            if name in kept and synonym in kept:
                raise ValueError(f"give {name} or {synonym}, not both")
        return kept

    def render(self) -> str:
        """Raises ValueError."""
        return templates.render(self.body, {"to": self.to, **(self.model_extra or {})})


def _is_blank(name: str, value: object) -> bool:
    optional = name in ("from", "sender", "template", "body")
    return optional and (value is None or (isinstance(value, str) and not value.strip()))


@handler(
    "sms.send",
    args=SmsArgs,
    queue="sms",
    timeout_s=30,
    delivery="at_most_once",
    check_settings=sms_settings.check_settings,
)
async def send(args: SmsArgs, ctx: Context) -> Outcome:
    settings = sms_settings.read(ctx.environ)
    try:
        text = args.render()
    except ValueError as error:
        return Discard(str(error))
    size = segments.measure(text)
    if not 0 < size.segments <= MAX_SEGMENTS:
        return Discard(_wrong_size(size))
    message = provider.Message(ctx.job.id, args.to, args.sender or settings.sender, text)
    slot = await _slot(ctx, settings, message.sender, size.segments)
    if not isinstance(slot, Reservation):
        return slot
    spared = size.segments
    try:
        if (cancelled := await _waited(ctx, slot)) is not None:
            return cancelled
        timeout_s = min(SEND_TIMEOUT_S, ctx.remaining_s() - SETTLE_MARGIN_S)
        if timeout_s < 1:
            return Snooze(1.0)
        await ctx.once("send")
        spared = 0  # from here on it may be on its way
        verdict = await provider.send(ctx.http, settings, message, timeout_s=timeout_s)
        spared = _spared(verdict, size.segments)
    finally:
        if spared:
            await ctx.refund(slot, spared)
    return _outcome(
        verdict,
        {"to": args.to, "segments": size.segments, "provider": settings.provider.value},
    )


def _wrong_size(size: segments.Size) -> str:
    if size.segments == 0:
        return "the rendered text is empty"
    return (
        f"the text needs {size.segments} segments ({size.units} units of {size.encoding.value}),"
        f" {MAX_SEGMENTS} are allowed"
    )


async def _slot(
    ctx: Context, settings: sms_settings.Settings, sender: str, cost: int
) -> Reservation | Snooze | Discard:
    """The sender's turn, under all limits or none."""
    policies = (POLICY, *settings.limits) if settings.limits else POLICY
    try:
        slot = await ctx.reserve(
            policies, sender=sender, user=settings.campaign, cost=cost, max_wait_ms=MAX_WAIT_MS
        )
    except Unavailable:
        return Snooze(1.0)
    if slot.unsatisfiable:
        return Discard(f"{cost} segments at once are more than the limits ever allow")
    if not slot.allowed:
        return Snooze(min(MAX_SNOOZE_S, max(0.25, slot.wait_ms / 1000)))
    return slot


async def _waited(ctx: Context, slot: Reservation) -> Cancel | None:
    """None when the turn has come."""
    try:
        async with asyncio.timeout(slot.wait_ms / 1000):
            await ctx.cancelled.wait()
    except TimeoutError:
        return None
    return Cancel("cancelled before it was sent")


def _spared(verdict: provider.Verdict, reserved: int) -> int:
    """Segments that no carrier got. A provider that is too busy was reached too fast: that pace is
    not given back."""
    match verdict:
        case provider.Sent(segments=int() as counted):
            return max(0, reserved - counted)
        case provider.Refused() | provider.NotSent():
            return reserved
        case _:
            return 0


def _outcome(verdict: provider.Verdict, facts: dict[str, Any]) -> Outcome:
    match verdict:
        case provider.Sent(sid, status):
            return Completed({"sid": sid, "status": status, **facts})
        case provider.Busy(_, float() as retry_after_s):
            return Snooze(min(MAX_SNOOZE_S, max(0.25, retry_after_s)))
        case provider.Busy(429):
            return Snooze(BUSY_SNOOZE_S)
        case provider.Busy(status):
            return Retry(error=f"the provider answered {status}")
        case provider.Refused(detail):
            return Discard(detail)
        case provider.NotSent(detail):
            return Retry(error=detail)
        case provider.Unknown(detail):
            raise Ambiguous(f"it may have been sent: {detail}")
        case _:
            assert_never(verdict)
