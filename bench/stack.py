"""The whole stack, as `make serve` runs it, for figures over HTTP and for its memory."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chassis.crypto import Minter
from localstack import plan, settings
from localstack.home import Home
from localstack.servers import ports
from localstack.stack import Stack

TRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    gateway_url: str
    queue_url: str
    admin_key: str
    home: Home

    def service_token(self) -> str:
        """What the gateway would show to queue-service."""
        pem = self.home.service_key("gateway").read_text()
        return Minter(service="gateway", private_key_pem=pem).mint("queue-service")

    def memory_mb(self) -> dict[str, float]:
        """Process → resident memory, its share of shared pages counted once."""
        return {each.name: _memory_mb(self._pid(each.name)) for each in plan.PROCESSES}

    def _pid(self, name: str) -> int:
        return int(self.home.pid_file(name).read_text())


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} does not tell its memory")


@contextmanager
def running(folder: Path, *, database_url: str) -> Iterator[Running]:
    """Everything but Redis and RabbitMQ: what the figures without accelerators are."""
    wanted = settings.load(
        {
            "DATABASE_URL": database_url,
            "MAINSTAY_PORT_BASE": str(_port_base()),
            "QUEUE_CONCURRENCY": "default=10",
            "LOG_LEVEL": "WARNING",
        }
    )
    home = Home(folder)
    environ = {"PATH": "/usr/bin:/bin", "QUEUE_CONCURRENCY": "default=10"}
    planned = plan.Plan(settings=wanted, home=home, environ=environ)
    stack = Stack(planned, say=lambda _line: None, stopping=lambda: False)
    try:
        stack.start()
        yield Running(
            gateway_url=planned.gateway_url,
            queue_url=planned.url(1),
            admin_key=stack.admin_key,
            home=home,
        )
    finally:
        stack.stop(hurry=lambda: False)


def _port_base() -> int:
    for _ in range(TRIES):
        base = random.randint(ports.FIRST, ports.LAST - settings.HIGHEST_OFFSET)
        wanted = [base, *(base + n for n in range(1, 4)), base + plan.SANDBOX_OFFSET]
        if all(map(ports.is_free, [*wanted, *(base + n for n in range(100, 105))])):
            return base
    raise OSError("no free range of ports")
