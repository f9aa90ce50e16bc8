"""The harness runs: its figures are for people, that it has any is for us."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURE = r"^\| (mainstay|bare loop) \| ([\d,]+) \| ([\d,]+)†? \|"


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *args],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def test_a_real_worker_is_measured_beside_the_bare_loop() -> None:
    done = bench("queue", "--only", "w1", "w3", "--scale", "0.02")
    assert (done.returncode, done.stderr) == (0, "")
    assert "failed" not in done.stdout
    figures = {name: rates for name, *rates in re.findall(FIGURE, done.stdout, re.MULTILINE)}
    mine, limit = (int(figures[name][0].replace(",", "")) for name in ("mainstay", "bare loop"))
    assert f"| bare loop | {mine / limit:.2f} |" in done.stdout


def test_the_engine_is_measured_without_a_worker() -> None:
    done = bench("engine", "--jobs", "1000")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^claim and settle +[\d,]+/s +[\d,]+/s +\d+\.\d\d +ours \d+ \+ \d+",
        done.stdout,
        re.MULTILINE,
    )


def test_an_unknown_part_is_refused() -> None:
    done = bench("sleep")
    assert done.returncode == 2
    assert "no such part: sleep" in done.stderr
