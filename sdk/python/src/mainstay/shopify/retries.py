"""When is a call repeated, and after how long. No input, no output.

What Shopify did not run (429, THROTTLED, no connection) is always repeated. What it may have run
is repeated only where that does no harm.
"""

from mainstay.shopify import errors

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
# Also after a refusal that says "at once": it may say so for ever.
SHORTEST_PAUSE_S = 0.1
HARMLESS = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_MIGRATE = "non-expiring access tokens"


def is_harmless(method: str) -> bool:
    """Does a repeat of it leave what the first left?"""
    return method in HARMLESS


def pause_s(error: errors.ShopifyError, failures: int, jitter: float) -> float | None:
    """Before the next try; None: there must be none. `jitter` lies in 0…1."""
    if not error.retryable or isinstance(error, errors.DeadlineExceeded):
        return None
    if error.retry_after_s is not None:
        return max(SHORTEST_PAUSE_S, error.retry_after_s)
    longest_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures)
    return longest_s * jitter


def refuses_token(status: int, text: str) -> bool:
    """401; and 403 to one that has no end, for that kind has to be exchanged as well."""
    return status == 401 or (status == 403 and _MIGRATE in text.lower())


def may_have_run(status: int) -> bool:
    return status >= 500
