"""Two attitudes of wire models: strict about what we are told, lenient about answers."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)


class Said(BaseModel):
    """What a caller sends: no coercion, unknown members refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """What a service answers: readers ignore members they do not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Query(BaseModel):
    """Query parameters: text, so coerced; unknown ones refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset, e.g. 2026-11-24T09:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time beyond the years 1 to 9999 in UTC") from None


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


Moment = Annotated[
    datetime, AfterValidator(_aware), PlainSerializer(_rfc3339, return_type=str, when_used="json")
]
Shop = Annotated[
    str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True, to_lower=True)
]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
# In a query: given several times, or once with commas.
Names = Annotated[
    list[str], BeforeValidator(lambda said: said.split(",") if isinstance(said, str) else said)
]
Document = dict[str, Any]
Limit = Annotated[int, Field(ge=1, le=200)]
