"""SQL lives in files: `queries(__file__)` reads the `.sql` with the module's own stem.

A file holds named blocks, each opened by `-- name: insert_jobs`, further comment lines saying why.
"""

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """Statements by attribute: `sql.insert_jobs`. A missing name fails when it is first used."""

    def __init__(self, source: Path, blocks: dict[str, str]) -> None:
        self.source = source
        self._blocks = blocks

    def __getattr__(self, name: str) -> str:
        try:
            return self._blocks[name]
        except KeyError:
            raise AttributeError(f"{self.source.name} has no block {name!r}") from None

    def names(self) -> list[str]:
        return list(self._blocks)


@cache
def _read(path: Path) -> Queries:
    pieces = _NAME.split(path.read_text())
    blocks = dict(zip(pieces[1::2], (text.strip() for text in pieces[2::2]), strict=True))
    if not blocks:
        raise ValueError(f"{path.name} holds no named statement")
    if len(blocks) != len(pieces) // 2:
        raise ValueError(f"{path.name} gives two statements one name")
    return Queries(path, blocks)


def queries(module_file: str) -> Queries:
    return _read(Path(module_file).with_suffix(".sql"))
