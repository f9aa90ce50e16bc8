"""Who runs where, with which environment: every process knows what it is meant to, and no more."""

import os
from pathlib import Path

import pytest

from localstack import plan, settings
from localstack.home import Home
from localstack.plan import PROCESSES, Plan, Process, Secrets

SECRETS = Secrets(
    admin_key="the-admin-key",
    databases={
        plan.database_of(service): f"postgresql://{service}@db/x" for service in plan.SERVICES
    },
    sandbox_sid="ACsandbox",
    sandbox_token="the-sandbox-token",
)


def planned(**environ: str) -> Plan:
    return Plan(settings=settings.load(environ), home=Home(Path("/home")), environ=environ)


def named(name: str) -> Process:
    return next(one for one in PROCESSES if one.name == name)


def environment(name: str, **environ: str) -> dict[str, str]:
    return planned(**environ).environment(named(name), SECRETS)


def test_no_two_listen_on_one_port() -> None:
    taken = planned(MAINSTAY_PORT_BASE="20000").ports()
    assert len(taken) == 5 + 4 + 1
    assert min(taken) == 20000
    assert max(taken) == 20000 + settings.HIGHEST_OFFSET
    assert 20000 + plan.POSTGRES_OFFSET not in taken


def test_each_has_its_own_database_key_and_ports() -> None:
    seen = [environment(one.name) for one in PROCESSES]
    assert len({env["OPS_PORT"] for env in seen}) == 5
    assert len({env["DATABASE_URL"] for env in seen}) == 4, "api and worker share theirs"
    assert environment("queue-worker")["SERVICE_KEY_FILE"] == "/home/keys/queue-service.pem"
    assert "PORT" not in environment("queue-worker")
    assert environment("gateway")["MAINSTAY_PARENT_PID"] == str(os.getpid())


def test_everybody_knows_where_everybody_is() -> None:
    env = environment("gateway", MAINSTAY_PORT_BASE="20000")
    assert env["QUEUE_SERVICE_URL"] == "http://127.0.0.1:20001"
    assert env["QUEUE_WORKER_OPS_URL"] == "http://127.0.0.1:20104"
    assert "QUEUE_WORKER_URL" not in env


def test_who_listens_everywhere_is_called_on_loopback() -> None:
    assert planned(MAINSTAY_BIND="0.0.0.0").gateway_url.startswith("http://127.0.0.1:")


def test_secrets_reach_only_those_that_need_them() -> None:
    knows = {
        secret: {one.name for one in PROCESSES if secret in environment(one.name).values()}
        for secret in (
            "the-admin-key",
            "the-sandbox-token",
            "/home/keys/session.keys",
            "/home/keys/queue.keys",
        )
    }
    assert knows == {
        "the-admin-key": {"gateway"},
        "the-sandbox-token": {"queue-service", "queue-worker"},
        "/home/keys/session.keys": {"session-service"},
        "/home/keys/queue.keys": {"queue-service", "queue-worker"},
    }


@pytest.mark.parametrize(
    ("name", "value", "knowing"),
    [
        ("MAINSTAY_ADMIN_KEY", "x" * 40, set()),
        ("QUEUE_CONCURRENCY", "sms=3", {"queue-service", "queue-worker"}),
        ("GATEWAY_CACHE_BYTES", "5", {"gateway"}),
        ("SHOPIFY_API_KEY", "k", {"gateway", "session-service"}),
        ("SESSION_TTL_S", "5", {"session-service"}),
        ("RATELIMIT_X", "5", {"ratelimit-service"}),
        ("REDIS_URL", "redis://cache", {one.name for one in PROCESSES}),
        ("PATH", "/bin", {one.name for one in PROCESSES}),
        ("DATABASE_URL", "postgresql://admin:pw@db", set()),
    ],
)
def test_what_was_said_reaches_whom_it_concerns(name: str, value: str, knowing: set[str]) -> None:
    reached = {
        one.name for one in PROCESSES if environment(one.name, **{name: value}).get(name) == value
    }
    assert reached == knowing


def test_the_sandbox_is_the_provider_unless_another_is_named() -> None:
    assert environment("queue-worker")["TWILIO_BASE_URL"] == planned().sandbox_url
    twilio = {"SMS_PROVIDER": "twilio", "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t"}
    env = environment("queue-worker", **twilio)
    assert env["TWILIO_ACCOUNT_SID"] == "AC1"
    assert "TWILIO_BASE_URL" not in env
    assert plan.SANDBOX not in planned(**twilio).ports().values()


def test_the_sandbox_itself_knows_its_own_secret_and_nothing_of_ours() -> None:
    env = planned(REDIS_URL="redis://cache", QUEUE_X="1").sandbox_environment(SECRETS)
    assert env["TWILIO_AUTH_TOKEN"] == "the-sandbox-token"
    assert not {"REDIS_URL", "QUEUE_X", "DATABASE_URL"} & set(env)


def test_command_lines_can_be_told_apart() -> None:
    commands = planned().commands()
    assert len(set(commands.values())) == len(commands) == 6
    for one in PROCESSES:
        assert commands[one.name] in " ".join(planned().argv(one))
    assert commands[plan.SANDBOX] in " ".join(planned().sandbox_argv())


def test_secrets_do_not_show_themselves() -> None:
    assert "the-sandbox-token" not in repr(SECRETS)
    assert "postgresql" not in repr(SECRETS)
