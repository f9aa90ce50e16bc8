"""Wrong places in a document, as people read them."""

from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Flaw:
    """`pointer` is an RFC 6901 JSON pointer, "" for the whole document."""

    pointer: str
    detail: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.detail}" if self.pointer else self.detail


def flaws_of(error: ValidationError) -> tuple[Flaw, ...]:
    """Pydantic's errors without their input values."""
    return tuple(
        Flaw(_pointer(one["loc"]), one["msg"].removeprefix("Value error, "))
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in steps)
