"""What is done about an answer that is no pair: who is told what, and when it is tried again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis.kernel import errors
from session_service.core import credentials
from session_service.core.answers import Answer, Verdict
from session_service.core.grants import Grant, Held, Way

# Three refusals over a day are no accident.
REFUSALS = 3
REFUSED_FOR = timedelta(hours=8)
AWAY_FOR = timedelta(hours=1)
LONGEST_S = 300.0
# With no token left every second counts.
LONGEST_ENDED_S = 30.0
# App Bridge takes it as: come again with a fresh session token.
RETRY_HEADER = "X-Shopify-Retry-Invalid-Session-Request"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """`is_refusal`: Shopify said no, rather than nothing."""

    until: datetime
    is_refusal: bool


def put_off(answer: Answer, held: Held, now: datetime) -> PutOff | None:
    """When to renew next; None: never, the shop must authorize the app again."""
    match answer.verdict:
        case Verdict.AWAY:
            return PutOff(until=now + AWAY_FOR, is_refusal=False)
        case Verdict.GONE | Verdict.REFUSED:
            if held.state.refusals + 1 >= REFUSALS:
                return None
            return PutOff(until=now + REFUSED_FOR, is_refusal=True)
        case Verdict.DEAD | Verdict.SUBJECT:
            return None
        case Verdict.CLIENT:
            return PutOff(until=now + _seconds(LONGEST_S, held, now), is_refusal=False)
        case _:
            wait_s = max(2.0 ** min(held.state.failures, 16), answer.retry_after_s or 0.0)
            return PutOff(until=now + _seconds(wait_s, held, now), is_refusal=False)


def at_its_end(held: Held) -> PutOff | None:
    """Nothing renews it any more, but what is left of it is not taken away."""
    ends_ms = held.session.tokens.expires_ms
    if ends_ms is None:
        return None
    return PutOff(until=datetime.fromtimestamp(ends_ms / 1000, UTC), is_refusal=False)


def _seconds(wait_s: float, held: Held, now: datetime) -> timedelta:
    ends_ms = held.session.tokens.expires_ms
    left_s = LONGEST_S if ends_ms is None else ends_ms / 1000 - now.timestamp()
    return timedelta(seconds=min(wait_s, LONGEST_S, max(LONGEST_ENDED_S, left_s)))


def fault(answer: Answer, grant: Grant) -> errors.Fault:
    """What a caller is told who cannot be given a token."""
    match answer.verdict:
        case Verdict.TRANSIENT:
            return unavailable(answer.retry_after_s)
        case Verdict.CLIENT:
            return credentials.refused()
        case Verdict.AWAY:
            return shop_unavailable("Shopify says that the shop is frozen or locked")
        case Verdict.GONE:
            return shop_unavailable("Shopify says that the shop is gone or forbidden")
    if grant.way is Way.EXCHANGE and answer.verdict in (Verdict.SUBJECT, Verdict.DEAD):
        return errors.Unauthenticated(
            "Shopify does not take the session token",
            code="invalid_session_token",
            headers={RETRY_HEADER: "1"},
        )
    return reauth("Shopify refused to grant a token", reason="refused")


def unavailable(retry_after_s: float | None = None) -> errors.Unavailable:
    return errors.Unavailable(
        "Shopify does not answer, or answers with errors",
        code="upstream_unavailable",
        retry_after_s=retry_after_s,
    )


def shop_unavailable(detail: str) -> errors.Conflict:
    return errors.Conflict(detail, code="shop_unavailable")


def reauth(detail: str, *, reason: str) -> errors.Conflict:
    """`reason`: a word of ours, for programs."""
    return errors.Conflict(detail, code="reauth_required", members={"reason": reason})
