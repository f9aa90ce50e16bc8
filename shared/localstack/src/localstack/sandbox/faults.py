"""How the sandbox misbehaves when told to."""

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Mode(StrEnum):
    OK = "ok"
    SLOW = "slow"
    FAIL = "fail"
    DROP = "drop"
    THROTTLE = "throttle"


class Fault(BaseModel):
    """One misbehaviour, for `ratio` of the messages and at most `count` of them.

    With `before_record` the message was never sent; without it, it was sent and the caller cannot
    know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Mode.OK
    delay_ms: int = Field(0, ge=0, le=600_000)
    status: int = Field(500, ge=400, le=599)
    ratio: float = Field(1.0, ge=0, le=1)
    count: int | None = Field(None, ge=0)
    before_record: bool = True


class Faults:
    """The one that is set, and how often it has struck."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self.set = Fault()
        self.struck = 0
        self._draw = draw

    def put(self, fault: Fault) -> None:
        self.set = fault
        self.struck = 0

    def strike(self) -> Fault:
        """What befalls the message at hand; mode ok if nothing does."""
        fault = self.set
        is_spent = fault.count is not None and self.struck >= fault.count
        if fault.mode is Mode.OK or is_spent or self._draw() >= fault.ratio:
            return Fault()
        self.struck += 1
        return fault

    def document(self) -> dict[str, Any]:
        return {**self.set.model_dump(mode="json"), "struck": self.struck}
