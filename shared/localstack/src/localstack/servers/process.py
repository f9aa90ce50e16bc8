"""One server process and its descendants: start, freeze, thaw, kill, wait.

A server lives in a session of its own, so Ctrl-C at our terminal does not reach it, and ends when
we end, even by kill -9. On Linux the kernel watches the *thread* that started it: start servers
from a thread that lives as long as they should.
"""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from localstack.servers.errors import ServerError

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_MAX_BYTES = 16 * 1024 * 1024
POLL_S = 0.01


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: str | None = None,
    at_our_death: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start `argv`, as `account` if given; what it prints goes to `log`, kept over restarts."""
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        log.replace(log.with_suffix(".old"))
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
    how = [str(os.getpid()), str(int(at_our_death)), account or "-"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*launcher, *how, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env or os.environ),
            cwd=cwd,
            start_new_session=True,
        )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return _stat_fields(pid)[0] == "Z"
    except (OSError, IndexError):
        return False


def _stat_fields(pid: int) -> list[str]:
    """State, parent and so on from /proc; the command before them may hold any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def command_line(pid: int) -> str:
    """What `pid` was started with; empty if it is gone."""
    if sys.platform != "linux":
        return _ps("-o", "command=", "-p", str(pid))
    try:
        told = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return told.replace(b"\0", b" ").decode(errors="replace").strip()


def _ps(*options: str) -> str:
    return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout


def tree(pid: int) -> list[int]:
    """`pid` and every descendant, parents first. Postgres gives each child a session of its own,
    so a process group is not enough."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def _parents() -> list[tuple[int, int]]:
    if sys.platform != "linux":
        listed = map(str.split, _ps("-axo", "pid=,ppid=").splitlines())
        return [(int(child), int(parent)) for child, parent in listed]
    pairs = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                pairs.append((int(entry.name), int(_stat_fields(int(entry.name))[1])))
            except (OSError, IndexError):
                continue
    return pairs


def signal_tree(pid: int, sent: signal.Signals) -> None:
    """Send to the parent first, so that it starts no more children while we go through them."""
    _send(pid, sent)
    for each in tree(pid)[1:]:
        _send(each, sent)


def freeze(pid: int) -> None:
    signal_tree(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    signal_tree(pid, signal.SIGCONT)


def kill_tree(pid: int) -> None:
    """Stop first: once the parent is dead its children are nobody's, and cannot be found."""
    freeze(pid)
    for each in tree(pid):
        _send(each, signal.SIGKILL)


def _send(pid: int, sent: signal.Signals) -> None:
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], bool], *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(pid: int, *signals: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn, with the seconds it is given to work; at last kill the tree."""
    for sent, within_s in signals:
        _send(pid, sent)
        if wait_until(lambda: not is_alive(pid), within_s=within_s):
            return
    kill_tree(pid)
    if not wait_until(lambda: not is_alive(pid), within_s=5):
        raise ServerError(f"process {pid} does not end")


def account_for(*names: str) -> str | None:
    """Root does not run servers as root: the first of these accounts that exists. Else nobody
    needs to change: None."""
    if os.getuid() != 0:
        return None
    for name in names:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerError(f"root needs one of these accounts to run a server: {', '.join(names)}")


def tail(log: Path, lines: int = 8) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
