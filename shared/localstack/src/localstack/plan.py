"""Who runs, where, and with which environment: everything about the stack that is only words.

Settings in, processes out; nothing here touches the machine.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from localstack.home import Home
from localstack.settings import SmsProvider, StackSettings

SERVICES = ("gateway", "queue-service", "session-service", "ratelimit-service")
POSTGRES_OFFSET = 10
SANDBOX_OFFSET = 20
SANDBOX = "sms-sandbox"
DATABASE_PREFIX = "mainstay_"

# What a process finds in its environment is what it is meant to know: these reach only those
# that are given them below.
OURS = ("MAINSTAY_", "QUEUE_", "SMS_", "TWILIO_", "SHOPIFY_", "SESSION_", "RATELIMIT_", "GATEWAY_",
        "SERVICE_KEY", "DATABASE_URL", "REDIS_URL", "AMQP_URL", "PORT", "OPS_PORT")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One of the five. `port` is None for those nobody calls."""

    name: str
    package: str
    verb: str
    service: str
    port: int | None
    ops_port: int
    prefixes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """How its command line can be told from any other."""
        return f"-m {self.package} {self.verb}"


PROCESSES = (
    Process(name="gateway", package="gateway", verb="api", service="gateway",
            port=0, ops_port=100, prefixes=("GATEWAY_", "SHOPIFY_")),
    Process(name="queue-service", package="queue_service", verb="api", service="queue-service",
            port=1, ops_port=101, prefixes=("QUEUE_", "SMS_", "TWILIO_")),
    Process(name="session-service", package="session_service", verb="api",
            service="session-service", port=2, ops_port=102, prefixes=("SESSION_", "SHOPIFY_")),
    Process(name="ratelimit-service", package="ratelimit_service", verb="api",
            service="ratelimit-service", port=3, ops_port=103, prefixes=("RATELIMIT_",)),
    Process(name="queue-worker", package="queue_service", verb="worker", service="queue-service",
            port=None, ops_port=104, prefixes=("QUEUE_", "SMS_", "TWILIO_")),
)  # fmt: skip


def database_of(service: str) -> str:
    return DATABASE_PREFIX + service.removesuffix("-service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What this start of the stack alone knows."""

    admin_key: str
    databases: Mapping[str, str] = field(repr=False)
    """Database name → DSN."""
    sandbox_sid: str
    sandbox_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    settings: StackSettings
    home: Home
    environ: Mapping[str, str]

    @property
    def with_sandbox(self) -> bool:
        return self.settings.sms_provider is SmsProvider.SANDBOX

    def port(self, offset: int) -> int:
        return self.settings.mainstay_port_base + offset

    def url(self, offset: int) -> str:
        """Where to call, also when we listen on every address."""
        bind = self.settings.mainstay_bind
        host = "127.0.0.1" if bind == "0.0.0.0" else bind  # noqa: S104
        return f"http://{host}:{self.port(offset)}"

    @property
    def gateway_url(self) -> str:
        return self.url(0)

    @property
    def sandbox_url(self) -> str:
        return self.url(SANDBOX_OFFSET)

    def ports(self) -> dict[int, str]:
        """Every port that must be free, and whose it will be. Postgres looks after its own: a
        server left over by a killed run may hold it until it is ended."""
        taken = {self.port(each.ops_port): f"{each.name} (ops)" for each in PROCESSES}
        taken |= {self.port(each.port): each.name for each in PROCESSES if each.port is not None}
        if self.with_sandbox:
            taken[self.port(SANDBOX_OFFSET)] = SANDBOX
        return dict(sorted(taken.items()))

    def commands(self) -> dict[str, str]:
        """Process → what its command line holds."""
        return {SANDBOX: "-m localstack.sandbox", **{each.name: each.command for each in PROCESSES}}

    def argv(self, process: Process, verb: str | None = None) -> list[str]:
        return [sys.executable, "-m", process.package, verb or process.verb]

    def sandbox_argv(self) -> list[str]:
        return [
            sys.executable, "-m", "localstack.sandbox",
            "--bind", self.settings.mainstay_bind,
            "--port", str(self.port(SANDBOX_OFFSET)),
            "--state", str(self.home.sandbox_messages),
        ]  # fmt: skip

    def environment(self, process: Process, secrets: Secrets) -> dict[str, str]:
        settings = self.settings
        env = self._inherited() | {
            name: value
            for name, value in self.environ.items()
            if name.startswith(process.prefixes) and value
        }
        env |= self._addresses() | {
            "MAINSTAY_BIND": settings.mainstay_bind,
            "MAINSTAY_PARENT_PID": str(os.getpid()),
            "OPS_PORT": str(self.port(process.ops_port)),
            "DATABASE_URL": secrets.databases[database_of(process.service)],
            "SERVICE_KEY_FILE": str(self.home.service_key(process.service)),
            "SERVICE_KEYS_DIR": str(self.home.public_keys),
            "TRUSTED_HOPS": str(settings.trusted_hops),
            "DRAIN_TIMEOUT_S": f"{settings.drain_timeout_s:g}",
            "EGRESS_ALLOWED_NETWORKS": settings.egress_allowed_networks,
            "LOG_LEVEL": settings.log_level,
        }
        if process.port is not None:
            env["PORT"] = str(self.port(process.port))
        for name, value in (("REDIS_URL", settings.redis_url), ("AMQP_URL", settings.amqp_url)):
            if value is not None:
                env[name] = value.get_secret_value()
        return env | self._of_service(process.service, secrets)

    def sandbox_environment(self, secrets: Secrets) -> dict[str, str]:
        return self._inherited() | {
            "MAINSTAY_PARENT_PID": str(os.getpid()),
            "TWILIO_ACCOUNT_SID": secrets.sandbox_sid,
            "TWILIO_AUTH_TOKEN": secrets.sandbox_token,
        }

    def _inherited(self) -> dict[str, str]:
        kept = {name: value for name, value in self.environ.items() if not name.startswith(OURS)}
        return kept | {"PYTHONUNBUFFERED": "1"}

    def _addresses(self) -> dict[str, str]:
        """`QUEUE_SERVICE_URL`, `QUEUE_SERVICE_OPS_URL` and so on for all of them."""
        found = {}
        for each in PROCESSES:
            name = each.name.replace("-", "_").upper()
            found[f"{name}_OPS_URL"] = self.url(each.ops_port)
            if each.port is not None:
                found[f"{name}_URL"] = self.url(each.port)
        return found

    def _of_service(self, service: str, secrets: Secrets) -> dict[str, str]:
        match service:
            case "gateway":
                return {"MAINSTAY_ADMIN_KEY": secrets.admin_key}
            case "session-service" if self.settings.session_keys is not None:
                return {"SESSION_KEYS": self.settings.session_keys.get_secret_value()}
            case "session-service":
                return {"SESSION_KEYS_FILE": str(self.home.session_keys_file)}
            case "queue-service":
                return self._of_queue_service(secrets)
            case _:
                return {}

    def _of_queue_service(self, secrets: Secrets) -> dict[str, str]:
        keys = self.settings.queue_keys
        found = (
            {"QUEUE_KEYS": keys.get_secret_value()}
            if keys is not None
            else {"QUEUE_KEYS_FILE": str(self.home.queue_keys_file)}
        )
        if self.with_sandbox:
            found |= {
                "SMS_PROVIDER": SmsProvider.SANDBOX,
                "TWILIO_BASE_URL": self.sandbox_url,
                "TWILIO_ACCOUNT_SID": secrets.sandbox_sid,
                "TWILIO_AUTH_TOKEN": secrets.sandbox_token,
            }
        return found
