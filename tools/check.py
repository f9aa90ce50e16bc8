"""The steps of `make test`, in order, each timed; stops at the first that fails. Besides, when they
are asked for: `long` is `make chaos`, `postgres` is `make verify`."""

import subprocess
import sys
import time
from pathlib import Path

from localstack.servers import postgres_binaries

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = (
    "chassis", "contracts", "localstack", "testkit", "mainstay", "marketing",
    "gateway", "queue_service", "session_service", "ratelimit_service", "bench",
)  # fmt: skip

ASKED_FOR = frozenset({"long", "postgres"})


def folders(*kinds: str) -> list[str]:
    """Every `tests/<kind>` folder of the workspace that exists."""
    patterns = ("shared/*", "services/*", "handlers/*", "sdk/*")
    found = [
        path
        for pattern in patterns
        for kind in kinds
        for path in sorted(ROOT.glob(f"{pattern}/tests/{kind}"))
    ]
    return [str(path.relative_to(ROOT)) for path in found]


def pytest(*paths: str, workers: int = 0, marked: str = "not long") -> list[list[str]]:
    """The command for those of the paths that exist: none at all when none does."""
    there = (ROOT / path for path in paths)
    found = [
        str(path.relative_to(ROOT))
        for path in there
        if path.is_file() or any(path.glob("**/test_*.py"))
    ]
    options = ["-m", marked, "--durations=20", "--durations-min=0.5"]
    options += [f"-n{workers}"] if workers else []
    return [[str(BIN / "python"), "-m", "pytest", *options, *found]] if found else []


def steps() -> dict[str, list[list[str]]]:
    return {
        "lint": [
            [str(BIN / "ruff"), "check", "."],
            [str(BIN / "ruff"), "format", "--check", "."],
        ],
        "types": [[str(BIN / "mypy"), *(f"-p{name}" for name in PACKAGES)]],
        "imports": [[str(BIN / "lint-imports")]],
        "unit": pytest(*folders("unit"), workers=2),
        "integration": pytest(
            *folders("integration", "conformance", "contract"), "tests/contract", workers=2
        ),
        "e2e": pytest("tests/e2e"),
        "chaos": pytest("tests/chaos"),
        "long": pytest(*folders("integration", "conformance"), "tests/chaos", marked="long"),
        "postgres": on_every_other_postgres(
            pytest(
                *folders("integration", "conformance", "contract"),
                "tests/contract/test_sql.py",
                workers=2,
            )
        ),
    }


def on_every_other_postgres(commands: list[list[str]]) -> list[list[str]]:
    """Functions are understood when they run, so all that use them run on each version."""
    return [
        ["/usr/bin/env", f"PG_BINDIR={one.bindir}", *command]
        for one in postgres_binaries.installed()[1:]
        for command in commands
    ]


def main(wanted: list[str]) -> int:
    known = steps()
    unknown = set(wanted) - set(known)
    if unknown:
        print(f"no such step: {', '.join(sorted(unknown))}; steps are {', '.join(known)}")
        return 2
    took: list[str] = []
    for name in wanted or [name for name in known if name not in ASKED_FOR]:
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        for command in known[name]:
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            if code:
                print(f"\n{name} failed (exit {code}): {' '.join(command[1:])[:300]}")
                return code
        took.append(f"{name} {time.monotonic() - started:.0f} s")
    print(f"\nall green: {', '.join(took)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
