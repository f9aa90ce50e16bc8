"""The fields of draft-ietf-httpapi-ratelimit-headers, in the one place that writes them."""

from ratelimit_service.core.checks import Decision, Met


def of(decision: Decision) -> dict[str, str]:
    """`RateLimit-Policy` names each limit, `RateLimit` how much of it is left."""
    counted = [met for met in decision.met if not met.limit.shadow]
    if not counted:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(met) for met in counted),
        "RateLimit": ", ".join(_left(met) for met in counted),
    }


def _policy(met: Met) -> str:
    return f'"{met.policy.id}";q={met.pace.burst};w={met.window_s}'


def _left(met: Met) -> str:
    return f'"{met.policy.id}";r={met.remaining};t={-(-met.reset_us // 1_000_000)}'
