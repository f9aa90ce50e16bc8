"""One stack for all stories that do not break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.shared_servers import Run
from testkit.stack import StackProcess


@pytest.fixture(scope="session")
def stack(run: Run) -> Iterator[StackProcess]:
    home: Path = run.folder / "stack"
    with StackProcess(home) as serving:
        yield serving
