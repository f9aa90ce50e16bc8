"""A private Redis (or Valkey). With `keeps_data`, what it answered survives a kill -9."""

import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from localstack.servers import process
from localstack.servers.errors import ServerError
from localstack.servers.server import Server

DATABASES = 128
PROGRAMS = ("redis-server", "valkey-server")


def find() -> str:
    for program in PROGRAMS:
        if found := shutil.which(program):
            return found
    raise ServerError("no redis-server found: apt-get install redis-server, or brew install redis")


class RedisServer(Server):
    name: ClassVar[str] = "redis"

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        bind: str = "127.0.0.1",
        keeps_data: bool = True,
    ) -> None:
        super().__init__(home, port=port, bind=bind)
        self.keeps_data = keeps_data

    @property
    def url(self) -> str:
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        return f"redis://{self.bind}:{self.port}/{number}"

    def answers(self) -> bool:
        return self._exchange(b"PING\r\n").startswith(b"+PONG")

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "bind": self.bind,
            "port": str(self.port),
            "dir": str(self.home),
            "databases": str(DATABASES),
            "save": "",
            "appendonly": "yes" if self.keeps_data else "no",
            "daemonize": "no",
            "protected-mode": "yes",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return process.spawn([find(), *options], log=self.log)
