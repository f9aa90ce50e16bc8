"""Becomes another program: `launch.py <parent pid> <signal> <account or -> <program> [argument…]`.

Runs by itself, with nothing of ours importable. Asks the kernel to be sent `signal` when the
parent dies (Linux), drops root to the account, then execs. The order matters: a change of
account clears the wish, so it comes second.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(account: str) -> None:
    user = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def die_with(parent: int, signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def main(parent: str, signal: str, account: str, *argv: str) -> None:
    if account != "-":
        become(account)
    die_with(int(parent), int(signal))
    os.execvp(argv[0], argv)  # noqa: S606 - to become it is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
