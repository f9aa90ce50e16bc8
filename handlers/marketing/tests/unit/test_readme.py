"""The examples of the README are args that their handlers take."""

import json
import re
from pathlib import Path

from marketing.handlers import HANDLERS

README = Path(__file__).resolve().parents[2] / "README.md"


def test_every_example_is_taken() -> None:
    handlers = {one.kind: one for one in HANDLERS}
    examples = [
        json.loads(block)
        for block in re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    ]
    assert len(examples) == 3
    for example in examples:
        kind = example.get("kind", "sms.send")
        handlers[kind].parse(example.get("args", example))
