"""The messages that were accepted: in memory, and a line each in a file that outlives us."""

import json
from collections import Counter
from pathlib import Path
from typing import IO, Any

# A stop before the memory of a small machine is full: about 1 kB a message.
MESSAGES_MAX = 500_000
DUPLICATED_SHOWN = 20

Message = dict[str, Any]


class Full(Exception):
    """No more messages are kept until some are deleted."""


class Record:
    """A message counts as soon as `append` returns: its line has left the process."""

    def __init__(self, path: Path) -> None:
        self.messages: list[Message] = []
        self._by_to: Counter[str] = Counter()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._restore()
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def append(self, message: Message) -> None:
        if len(self.messages) >= MESSAGES_MAX:
            raise Full
        self._file.write(json.dumps(message, ensure_ascii=False) + "\n")
        self._file.flush()
        self._remember(message)

    def to(self, number: str) -> list[Message]:
        return [message for message in self.messages if message["to"] == number]

    def clear(self) -> int:
        """Forget everything; how many there were."""
        count = len(self.messages)
        self._file.truncate(0)
        self.messages.clear()
        self._by_to.clear()
        return count

    def stats(self) -> dict[str, Any]:
        """`duplicates`: messages beyond the first to the same number."""
        several = [number for number, count in self._by_to.items() if count > 1]
        return {
            "total": len(self.messages),
            "distinct": len(self._by_to),
            "duplicates": len(self.messages) - len(self._by_to),
            "duplicated": several[:DUPLICATED_SHOWN],
        }

    def close(self) -> None:
        self._file.close()

    def _remember(self, message: Message) -> None:
        self.messages.append(message)
        self._by_to[message["to"]] += 1

    def _restore(self) -> None:
        """A last line that a crash tore is cut off: nobody was told of it."""
        if not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._remember(json.loads(line))
                whole += len(line)
        with self._path.open("r+b") as file:
            file.truncate(whole)
