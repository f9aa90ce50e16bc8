"""`python -m testkit.keeper <kind> <folder of the run>`: holds one shared server until the run
has ended, then stops it and cleans up."""

import fcntl
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from testkit.shared_servers import KINDS, Run


def main(kind: str, folder: str) -> None:
    run = Run(Path(folder))
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = KINDS[kind](run.folder / kind)
    announced = run.announced(kind)
    try:
        with server:
            scratch = announced.with_suffix(".new")
            scratch.touch(mode=0o600)
            scratch.write_bytes(pickle.dumps(server))
            scratch.rename(announced)
            _wait_for_the_end_of(run)
    finally:
        shutil.rmtree(server.home, ignore_errors=True)
        announced.unlink(missing_ok=True)
        if not any(run.announced(each).exists() for each in KINDS):
            shutil.rmtree(run.folder, ignore_errors=True)


def _wait_for_the_end_of(run: Run) -> None:
    with run.alive.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # shared: every keeper wakes


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
