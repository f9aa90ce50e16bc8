"""The kinds of failure every service speaks of.

    Fault
    ├── Malformed        the bytes are not what they claim to be            400
    ├── Unauthenticated  nobody we know                                     401
    ├── Denied           known, but not allowed                             403
    ├── NotFound         no such thing                                      404
    ├── Conflict         the thing is in another state                      409
    ├── Outdated         a precondition names an older version              412
    ├── TooLarge         more than we take                                  413
    ├── Unsupported      another content type or encoding                   415
    ├── Invalid          well-formed, but wrong                             422
    ├── Limited          too many for now                                   429
    ├── Broken           our own mistake                                    500
    ├── Upstream         whom we asked for the caller gave nothing usable   502
    ├── Unavailable      a dependency does not answer; a repeat is safe     503
    │   └── Ambiguous    it may or may not have happened; repeat with the same id
    └── Late             the caller's deadline has passed                   504

`code` is a stable slug from the problem registry; `detail` is for people and never holds a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flaw:
    """One wrong place in a document. `pointer` is an RFC 6901 JSON pointer, "" for the whole."""

    pointer: str
    detail: str


class Fault(Exception):
    """A failure with a name. Expected endings are return values, not faults."""

    code = "internal_error"
    retryable = False

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        flaws: Sequence[Flaw] = (),
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
        members: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        self.flaws = tuple(flaws)
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        # What programs may want to know besides; stands in the problem document.
        self.members = members or {}


class Malformed(Fault):
    code = "malformed"


class Unauthenticated(Fault):
    code = "unauthenticated"


class Denied(Fault):
    code = "denied"


class NotFound(Fault):
    code = "not_found"


class Conflict(Fault):
    code = "conflict"


class Outdated(Fault):
    code = "version_conflict"


class TooLarge(Fault):
    code = "too_large"


class Unsupported(Fault):
    code = "unsupported_media_type"


class Invalid(Fault):
    code = "invalid"


class Limited(Fault):
    code = "rate_limited"
    retryable = True


class Broken(Fault):
    code = "internal_error"


class Upstream(Fault):
    """It may have acted, so this kind is not retryable by itself."""

    code = "shopify_outcome_unknown"


class Unavailable(Fault):
    code = "unavailable"
    retryable = True


class Ambiguous(Unavailable):
    code = "outcome_unknown"


class Late(Fault):
    code = "deadline_exceeded"
    retryable = True
