"""The harness runs: its figures are for people, that it has any is for us."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *args],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def test_enqueue_and_drain_are_measured_beside_the_bare_limit() -> None:
    done = bench("enqueue", "drain", "--jobs", "500")
    assert (done.returncode, done.stderr) == (0, "")
    lines = re.findall(
        r"^(enqueue|drain).* ([\d,]+)/s +([\d,]+)/s +(\d+\.\d\d)$", done.stdout, re.MULTILINE
    )
    assert [name for name, *_ in lines] == ["enqueue", "drain"]
    for _, ours, bare, ratio in lines:
        mine, limit = int(ours.replace(",", "")), int(bare.replace(",", ""))
        assert abs(mine / limit - float(ratio)) < 0.02


def test_an_unknown_workload_is_refused() -> None:
    done = bench("sleep")
    assert done.returncode == 2
    assert "no such workload: sleep" in done.stderr
