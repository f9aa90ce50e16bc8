"""A shop that is to be forgotten: what of it is kept here goes, and the other owners are told.

They hear of it by the bus as well, where there is one; twice is once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic

from chassis.kernel import clock, ids
from contracts.commands import ShopVerb
from contracts.events import SHOP_REDACT, ShopRedact
from gateway.core.notices import Notice

OWNERS = ("queue-service", "ratelimit-service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Of what came by `before`."""

    event_id: UUID
    shop: str
    before: datetime

    def notices(self) -> list[Notice]:
        said = {"before": clock.rfc3339(self.before), "event_id": str(self.event_id)}
        return [
            Notice(
                id=ids.derived_id("notice", owner, ShopVerb.REDACT, str(self.event_id)),
                owner=owner,
                shop=self.shop,
                verb=ShopVerb.REDACT,
                said=said,
            )
            for owner in OWNERS
        ]


def redactions(envelopes: Iterable[Mapping[str, Any]]) -> list[Redaction]:
    """Those that these events ask for."""
    return [
        Redaction(event_id=UUID(each["id"]), shop=asked.shop.lower(), before=asked.before)
        for each in envelopes
        if each["type"] == SHOP_REDACT and (asked := _asked(each["data"])) is not None
    ]


def _asked(data: Any) -> ShopRedact | None:
    try:
        return ShopRedact.model_validate(data)
    except pydantic.ValidationError:
        return None
