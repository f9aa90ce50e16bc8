"""The README's handlers, and its tests of them, as they stand there."""

import re
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[2] / "README.md"


def block_with(what: str) -> str:
    (found,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if what in block
    ]
    return str(found)


async def test_the_work_in_steps_passes_its_test() -> None:
    known: dict[str, Any] = {}
    for what in ("def greet_all", "def test_greeting_all"):
        exec(compile(block_with(what), str(README), "exec"), known)
    await known["test_greeting_all"]()
