"""The environment of queue-service: the api, and the worker of the same package."""

import re
from enum import StrEnum

from pydantic import Field, SecretStr, field_validator

from chassis import crypto, egress
from chassis.settings import Settings, secret

DEFAULT_CONCURRENCY = "sms=20,campaign=5,automation=10,default=10"
CONCURRENCY_MAX = 10_000
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Pooler(StrEnum):
    NONE = "none"
    TRANSACTION = "transaction"


class QueueSettings(Settings):
    """What both processes need."""

    queue_concurrency: str = Field(
        DEFAULT_CONCURRENCY,
        description="`queue=jobs,…` at a time in each worker process; seeds queues that are absent",
    )
    queue_retention_completed_d: int = Field(
        7, ge=1, le=3650, description="Days that completed and cancelled jobs are kept"
    )
    queue_retention_failed_d: int = Field(
        30, ge=1, le=3650, description="Days that failed and rejected jobs are kept"
    )

    postgres_pooler: Pooler = Field(
        Pooler.NONE, description="`transaction`: DATABASE_URL leads to a pooler of transactions"
    )
    database_direct_url: SecretStr | None = Field(
        None, description="Behind a pooler: the database itself, for LISTEN alone"
    )
    queue_keys: SecretStr | None = Field(
        None,
        description="`k2:base64,k1:base64`, 32 bytes each: seal the secrets of push handlers, "
        "which need it; the first seals, all of them open",
    )
    egress_allowed_networks: str = Field(
        "", description="CIDRs where push handlers may be private and without https"
    )

    @property
    def is_pooled(self) -> bool:
        return self.postgres_pooler is Pooler.TRANSACTION

    @property
    def listen_dsn(self) -> str | None:
        """Where LISTEN is carried; None: nowhere."""
        direct = self.database_url if not self.is_pooled else self.database_direct_url
        return secret(direct)

    @field_validator("queue_keys")
    @classmethod
    def _usable(cls, keys: SecretStr | None) -> SecretStr | None:
        try:
            if keys is not None:
                crypto.Keyring(keys.get_secret_value())
        except ValueError:
            raise ValueError("needs name:key, each key 32 bytes of base64") from None
        return keys

    @field_validator("egress_allowed_networks")
    @classmethod
    def _known(cls, given: str) -> str:
        egress.networks(given)
        return given

    @field_validator("queue_concurrency")
    @classmethod
    def _readable(cls, given: str) -> str:
        concurrency(given)
        return given


class ApiSettings(QueueSettings):
    gateway_url: str | None = Field(
        None, description="Where the gateway takes events while there is no bus"
    )


class WorkerSettings(QueueSettings):
    ratelimit_service_url: str = Field(description="Where ratelimit-service answers")
    queue_abandoned_max: int = Field(
        20, ge=1, description="Handlers that do not stop, at which the process ends to begin anew"
    )
    queue_poll_interval_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between looks for jobs that no hint told of"
    )


def concurrency(given: str) -> dict[str, int]:
    """`sms=20,campaign=5` by name; ValueError says what is wrong with it."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in given.split(","))):
        name, _, jobs = part.partition("=")
        if not NAME.fullmatch(name.strip()):
            raise ValueError(f"{part!r} does not begin with the name of a queue")
        if not jobs.strip().isdecimal() or not 1 <= int(jobs) <= CONCURRENCY_MAX:
            raise ValueError(f"{part!r} is not queue=jobs with 1 to {CONCURRENCY_MAX} jobs")
        found[name.strip()] = int(jobs)
    return found
