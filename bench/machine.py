"""The machine a figure was taken on, and who else was using it."""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from localstack.home import ROOT
from localstack.servers import process

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
# Of /proc/N/stat, counted from the state: utime, stime, and those of children that have ended.
CPU = slice(11, 15)


def about() -> list[str]:
    """A line each: the machine, its system, our commit."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{os.cpu_count()} cores ({_processor()}), {memory_gb:.0f} GiB, {platform.platform()}",
        f"Python {platform.python_version()}; client, worker and servers share the cores",
        f"commit {_commit()}, {time.strftime('%Y-%m-%d')}",
    ]


def _processor() -> str:
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "unknown"
    return told.stdout.strip() or "unknown"


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds of CPU that everybody, and that our own processes, have used up to a time."""

    at: float
    everybody: float
    ours: float

    def foreign_cores(self, before: "Moment") -> float:
        theirs = (self.everybody - before.everybody) - (self.ours - before.ours)
        return max(0.0, theirs / (self.at - before.at))


def now() -> Moment | None:
    """None where the system does not tell."""
    try:
        spent = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    idle = int(spent[3]) + int(spent[4])
    everybody = (sum(map(int, spent)) - idle) / TICKS
    return Moment(time.monotonic(), everybody, cpu_s(os.getpid()))


def cpu_s(pid: int) -> float:
    """Of `pid` and everything it has started, also what has ended."""
    return sum(map(_ticks, process.tree(pid))) / TICKS


def peak_mb(pid: int) -> float:
    """The most memory it has had, of `pid` and what it has started and still runs; 0 if unknown."""
    return sum(map(_peak_kb, process.tree(pid))) / 1024


def _peak_kb(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _ticks(pid: int) -> int:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return sum(map(int, stat.rpartition(")")[2].split()[CPU]))
