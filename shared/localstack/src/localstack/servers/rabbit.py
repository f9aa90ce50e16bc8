"""A private RabbitMQ node with its own epmd: nothing shared with any other on the machine."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from localstack.servers import ports, process
from localstack.servers.errors import ServerError
from localstack.servers.server import Server

USER = "mainstay"
CTL_TIMEOUT_S = 30
# Debian's /usr/sbin/rabbitmq-server changes accounts with su; the real one is next door.
BIN_DIRS = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


def find(program: str = "rabbitmq-server") -> str:
    for directory in BIN_DIRS:
        if os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    if found := shutil.which(program):
        return found
    raise ServerError(
        f"no {program} found: apt-get install rabbitmq-server, or brew install rabbitmq"
    )


class RabbitServer(Server):
    """Virtual host `/` and those of `add_vhosts`. Its pid is the Erlang machine itself."""

    name: ClassVar[str] = "rabbitmq"
    start_within_s: ClassVar[float] = 60.0

    def __init__(self, home: Path, *, port: int | None = None, bind: str = "127.0.0.1") -> None:
        super().__init__(home, port=port, bind=bind)
        self.password = secrets.token_urlsafe(24)
        self._distribution_port = ports.free_port(bind)
        self._epmd_port = ports.free_port(bind)
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.vhost_url("/")

    def vhost_url(self, vhost: str) -> str:
        path = "%2F" if vhost == "/" else vhost
        return f"amqp://{USER}:{self.password}@{self.bind}:{self.port}/{path}"

    def answers(self) -> bool:
        """Its greeting (Connection.Start, a method frame on channel 0): it listens only when it
        has booted."""
        return self._exchange(AMQP_HEADER).startswith(b"\x01\x00\x00")

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_epmd": None}

    def stop(self) -> None:
        super().stop()
        self._end_epmd()

    def kill(self) -> None:
        super().kill()
        self._end_epmd()

    def add_vhosts(self, names: Iterable[str]) -> None:
        """All in one call: each rabbitmqctl costs half a second of an Erlang start."""
        listed = ",".join(f'<<"{name}">>' for name in names)
        self.control(
            "eval",
            f'[begin rabbit_vhost:add(N, <<"{USER}">>),'
            f' rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, N, <<".*">>, <<".*">>,'
            f' <<".*">>, <<"{USER}">>) end || N <- [{listed}]].',
        )

    def remove_vhosts(self, names: Iterable[str]) -> None:
        listed = ",".join(f'<<"{name}">>' for name in names)
        self.control("eval", f'[rabbit_vhost:delete(N, <<"{USER}">>) || N <- [{listed}]].')

    def settle_declarations(self) -> None:
        """A quorum queue's registration reaches the disk up to a second after its declaration: a
        kill -9 before that forgets the queue's log, confirmed messages and all. Call this between
        declaring and killing."""
        self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def control(self, *arguments: str) -> str:
        """`rabbitmqctl …` against this node."""
        done = subprocess.run(
            [find("rabbitmqctl"), "-q", "-n", self._node, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=CTL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _prepare(self) -> None:
        self._write("rabbitmq.conf", self._settings())
        self._write("plugins", "[].\n")
        self._write("no-conf-env", "")
        if not (self.home / ".erlang.cookie").exists():
            self._write(".erlang.cookie", secrets.token_hex(16), mode=0o400)
        if self._epmd is None:
            self._start_epmd()

    def _write(self, name: str, text: str, *, mode: int = 0o600) -> None:
        path = self.home / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(mode)

    def _settings(self) -> str:
        return "\n".join((
            f"listeners.tcp.1 = {self.bind}:{self.port}",
            "loopback_users = none",
            f"default_user = {USER}",
            f"default_pass = {self.password}",
            "log.console = true",
            "log.console.level = warning",
            "log.file = false",
            "vm_memory_high_watermark.absolute = 512MB",
            "disk_free_limit.absolute = 50MB",
            "",
        ))  # fmt: skip

    def _spawn(self) -> subprocess.Popen[bytes]:
        return process.spawn([find()], log=self.log, env=self._environment(), cwd=self.home)

    @property
    def _node(self) -> str:
        return f"mainstay{self.port}@localhost"

    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        inherited = {key: value for key, value in os.environ.items() if "RABBITMQ" not in key}
        address = ",".join(self.bind.split("."))
        return {
            **inherited,
            "HOME": home,
            "RUNNING_UNDER_SYSTEMD": "1",  # become the Erlang machine instead of a shell before it
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/no-conf-env",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": self.bind,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
            f" -kernel inet_dist_use_interface {{{address}}}",
        }

    def _start_epmd(self) -> None:
        """Before the node, else it leaves one behind as a daemon."""
        program = shutil.which("epmd")
        if program is None:
            raise ServerError("no epmd found: it comes with Erlang")
        self._epmd = process.spawn(
            [program, "-port", str(self._epmd_port), "-address", self.bind],
            log=self.home / "epmd.log",
        )
        if not process.wait_until(
            lambda: not ports.is_free(self._epmd_port, self.bind), within_s=5
        ):
            raise ServerError(f"epmd does not listen on port {self._epmd_port}")

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(5)
            self._epmd = None
