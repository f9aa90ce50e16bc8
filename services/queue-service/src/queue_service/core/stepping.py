"""Work that may be over before it waits for anything.

A coroutine's first step is a plain call: `work.send(None)`. Most handlers of small jobs end in it,
and need no timer and no other task. One that waits for something goes on by `resumed`, in the task
that took its first step.
"""

import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def resumed(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await the rest of `work`, whose last step ended in waiting for `waits_for`."""
    step: Callable[[], Any]
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - a cancellation is the work's to see
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
        try:
            waits_for = step()
        except StopIteration as done:
            result: T = done.value
            return result
