"""Text that is never shown by accident, by its type."""

SHOWN = "****"


class Secret(str):
    """A token or the like. What shows a value shows `****`: `repr`, `str`, `format`, f-strings, log
    lines. What works on a value works on the text itself: comparing, sealing, encoding as JSON for
    those it belongs to."""

    __slots__ = ()

    def __new__(cls, text: str) -> "Secret":
        return text if isinstance(text, Secret) else super().__new__(cls, text)

    def __repr__(self) -> str:
        return SHOWN

    def __str__(self) -> str:
        return SHOWN

    def __format__(self, _spec: str, /) -> str:
        return SHOWN


def reveal(text: str) -> str:
    """The text itself, for a place that is meant to have it."""
    return str.__str__(text)
