"""Args and results that are sealed at rest, each for its job and its place.

Sealed args are a text, which no args of a caller's are; a job with sealed args has a sealed result.
"""

from typing import Any
from uuid import UUID

from chassis import crypto, postgres
from chassis.kernel import errors

ARGS = "args"
RESULT = "result"


class Seals:
    """Without a key ring nothing can be sealed or opened."""

    def __init__(self, keyring: crypto.Keyring | None = None) -> None:
        self._keyring = keyring

    @classmethod
    def of(cls, spec: str | None) -> "Seals":
        return cls(crypto.Keyring(spec) if spec is not None else None)

    @property
    def can_seal(self) -> bool:
        return self._keyring is not None

    def seal(self, value: Any, job_id: UUID, field: str) -> str:
        if self._keyring is None:
            raise errors.Unavailable("the queue is sealed, and there are no keys to seal with")
        return self._keyring.seal(postgres.dumps(value), str(job_id), field)

    def open(self, value: Any, job_id: UUID, field: str) -> Any:
        """What was sealed; null as it is. Raises SealBroken."""
        if value is None:
            return None
        if self._keyring is None or not isinstance(value, str):
            raise crypto.SealBroken
        return postgres.loads(self._keyring.open(value, str(job_id), field))

    def opened_args(self, args: Any, job_id: UUID) -> tuple[Any, bool, bool]:
        """(args, were sealed, cannot be opened). A job that cannot be run is leased all the same,
        so that somebody must end it."""
        if not isinstance(args, str):
            return args, False, False
        try:
            return self.open(args, job_id, ARGS), True, False
        except crypto.SealBroken:
            return {}, True, True


NONE = Seals()
