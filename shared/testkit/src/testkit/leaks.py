"""No test prints a token: a plugin that searches what every one of them has written.

What pytest captured of a test (output, logs) is searched when the test ends, and so are the logs
in its `tmp_path`: the test fails, whatever it was about. When a run ends, every log that the run's
processes left is searched, and the run fails. Test code that shows a token of its own is no better.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.plugin import RUN

TOKEN = re.compile(
    r"shp(?:at|ca|pa|ua|rt|ss)_[0-9A-Za-z]\w{3,}"
    r"|eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}"
)
# Servers' own files, searched by the tests that put tokens there.
DATA = frozenset({"data", "mnesia"})
SHOWN = 6
FAILED = 1


def found_in(text: str) -> Iterator[str]:
    """The line of each token, with the token made unusable."""
    for match in TOKEN.finditer(text):
        start = text.rfind("\n", 0, match.start()) + 1
        yield f"{text[start : match.start()][-200:]}{match[0][:SHOWN]}…"


def logs_under(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each not in DATA]
        for name in names:
            if name == "log" or name.endswith((".log", ".out")):
                yield Path(place, name)


def leaks_of(folder: Path) -> list[str]:
    return [
        f"{path.name}: {line}"
        for path in logs_under(folder)
        for line in found_in(path.read_text(errors="replace"))
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.when == "teardown":
        leaks = [f"{title}: {line}" for title, text in report.sections for line in found_in(text)]
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        leaks += leaks_of(folder) if isinstance(folder, Path) else []
        if leaks and not report.failed:
            report.outcome = "failed"
            report.longrepr = "tokens in what this test wrote:\n" + "\n".join(leaks[:10])
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    leaks = leaks_of(session.config.stash[RUN].folder)
    if leaks:
        session.exitstatus = FAILED
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.write_line("tokens in the logs of this run:", red=True)
            for leak in leaks[:20]:
                terminal.write_line(leak)
