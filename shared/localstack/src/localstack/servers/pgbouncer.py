"""A private PgBouncer before a PostgreSQL: transactions take turns on a few sessions.

It gives each transaction the session that has rested longest, so that whoever leans on a session
meets another one at once.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

from localstack.servers import process
from localstack.servers.errors import ServerError
from localstack.servers.postgres import ACCOUNTS, SSL_REQUEST
from localstack.servers.server import Server

SESSIONS = 4


def find() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if found := shutil.which("pgbouncer", path=path):
        return found
    raise ServerError("no pgbouncer found: apt-get install pgbouncer, or brew install pgbouncer")


class PgBouncerServer(Server):
    name: ClassVar[str] = "pgbouncer"

    def __init__(self, home: Path, *, port: int | None = None, before: str) -> None:
        """`before`: a DSN of the server behind it, whose role and password everybody gets."""
        super().__init__(home, port=port)
        self._before = urlsplit(before)

    @property
    def url(self) -> str:
        return self.database_url(urlunsplit(self._before))

    def database_url(self, dsn: str) -> str:
        """The same database, by way of us."""
        parts = urlsplit(dsn)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{self.bind}:{self.port}"))

    def answers(self) -> bool:
        return self._exchange(SSL_REQUEST) in {b"N", b"S"}

    def _spawn(self) -> subprocess.Popen[bytes]:
        account = process.account_for(*ACCOUNTS)
        config = self.home / "pgbouncer.ini"
        config.touch(mode=0o600)
        config.write_text(self._config())
        if account is not None:
            shutil.chown(config, account)
        return process.spawn([find(), str(config)], log=self.log, account=account)

    def _config(self) -> str:
        known = self._before
        who = f"user={known.username} password='{unquote(known.password or '')}'"
        return "\n".join(
            [
                "[databases]",
                f"* = host={known.hostname} port={known.port} {who}",
                "[pgbouncer]",
                f"listen_addr = {self.bind}",
                f"listen_port = {self.port}",
                "unix_socket_dir =",
                "auth_type = any",
                "pool_mode = transaction",
                f"default_pool_size = {SESSIONS}",
                "server_round_robin = 1",
                "server_idle_timeout = 5",
                "max_client_conn = 500",
                "",
            ]
        )
