"""What is not known of Shopify, or changes: each is a switch, and ours must pass either way."""

from dataclasses import dataclass, field
from enum import StrEnum

HOUR_S = 3600.0
DAY_S = 86_400.0


class Era(StrEnum):
    """How long a refresh token that was used may be used again."""

    SIXTY_MINUTES = "sixty_minutes"
    """For an hour; before 2026-08-28."""
    UNTIL_USED = "until_used"
    """Until its replacement is used, for 30 days at most."""


class Retry(StrEnum):
    """What a refresh token that is used again brings."""

    SAME_PAIR = "same_pair"
    NEW_PAIR = "new_pair"


class Dead(StrEnum):
    """What is said of a refresh token that is dead."""

    INVALID_REQUEST = "invalid_request"
    INVALID_GRANT = "invalid_grant"


@dataclass(slots=True, kw_only=True)
class Rules:
    """May be changed while the server runs."""

    era: Era = Era.UNTIL_USED
    retry: Retry = Retry.SAME_PAIR
    access_ttl_s: float = HOUR_S
    refresh_ttl_s: float = 90 * DAY_S
    online_ttl_s: float = DAY_S - 1
    client_credentials_ttl_s: float = DAY_S - 1
    code_ttl_s: float = 600.0
    retry_of_used_s: float = 30 * DAY_S
    retry_of_migrated_s: float = 7 * DAY_S
    leeway_s: float = 10.0
    """Of a session token's times."""
    refresh_ends_access: bool = True
    """A refresh revokes the access token before it; else that lives out its hour."""
    dead_refresh: Dead = Dead.INVALID_REQUEST
    dead_refresh_status: int = 401
    invalid_client_status: int = 401
    uninstalled_is_invalid_client: bool = False
    """A refresh for a shop without the app is `invalid_client`; else its token is dead."""
    refuses_non_expiring: bool = False
    """The Admin API answers 403 to tokens that never expire."""
    pads_host: bool = False
    """`host` comes with the `=` of base64."""
    max_cost: float = 1000.0
    """Points that one query may cost."""
    bulk_queries_at_once: int = 5
    bulk_takes_s: float = 0.2
    versions: list[str] = field(
        default_factory=lambda: ["2026-01", "2026-04", "2026-07", "2026-10", "2027-01", "unstable"]
    )
    """Older quarters fall forward to the oldest; others do not exist."""
    webhook_timeout_s: float = 5.0
    webhooks_signed_with_old: bool = False
    """As for up to an hour after `rotate_secret`."""
    removes_subscriptions: bool = False
    """A topic that failed eight times is sent no more; so with those that the API has made."""
    redacts_reinstalled: bool = False
    """`shop/redact` comes 48 h after an uninstall even when the app is back."""
