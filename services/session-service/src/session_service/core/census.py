"""Counting what needs somebody's attention."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Offline sessions by what is wrong with them; rows that another key than the current opens;
    when a cleanup last came to its end, in epoch seconds."""

    non_expiring: int
    refreshless: int
    reauth_required: int
    revoked: int
    old_key: int
    cleaned_up_at: float | None


class CensusStore(Protocol):
    async def take(self, key_id: str) -> Census: ...
