"""Free loopback ports, outside the ranges from which systems number their own client sockets."""

import random
import socket

FIRST, LAST = 10_000, 32_000
TRIES = 200


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on now. Random, so that two test runs side by side seldom collide."""
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST - 1)
        if is_free(port, host):
            return port
    raise OSError(f"no free port between {FIRST} and {LAST} on {host}")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
