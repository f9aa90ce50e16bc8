"""The image holds every package, and `docker-compose.yml` gives each process what it reads."""

import importlib
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from chassis import settings as environment
from chassis.crypto import Keyring, Minter, Verifier
from localstack import plan
from localstack.servers.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PREPARE = runpy.run_path(str(ROOT / "deploy" / "docker" / "prepare.py"))
PROCESSES = {each.name: each for each in plan.PROCESSES}
# What handlers read themselves (marketing.settings), outside any Settings model.
OF_HANDLERS = {
    "SMS_PROVIDER", "SMS_FROM", "SMS_LIMITS", "SMS_CAMPAIGN", "SMS_STATUS_CALLBACK_URL",
    "TWILIO_BASE_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN",
}  # fmt: skip
# An address for whoever wants it: all processes are given all of them.
ADDRESS = re.compile(r"(GATEWAY|QUEUE_SERVICE|QUEUE_WORKER|SESSION_SERVICE|RATELIMIT_SERVICE)"
                     r"_(OPS_)?URL")  # fmt: skip
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def settings_of(package: str) -> set[str]:
    """Every name that the settings models of a package know, in the environment's form."""
    module = importlib.import_module(f"{package}.settings")
    models = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, environment.Settings)
    ]
    assert models
    return {name.upper() for model in models for name in model.model_fields}


def environment_of(name: str) -> dict[str, str]:
    given: dict[str, str] = SERVICES[name].get("environment", {})
    return given


def test_every_process_is_there_and_runs_its_verb() -> None:
    for name, process in PROCESSES.items():
        assert SERVICES[name]["command"] == [process.package, process.verb]


def test_everything_that_stays_up_has_a_healthcheck_and_everything_else_ends() -> None:
    for name, service in SERVICES.items():
        if service["restart"] == "no":
            assert "healthcheck" not in service, name
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_given_only_what_its_settings_know(name: str) -> None:
    known = settings_of(PROCESSES[name].package) | OF_HANDLERS
    for variable in environment_of(name):
        assert ADDRESS.fullmatch(variable) or variable.removesuffix("_FILE") in known, variable


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_given_all_that_it_cannot_do_without(name: str) -> None:
    needed = {"DATABASE_URL", "SERVICE_KEY", "SERVICE_KEYS_DIR", "PORT", "OPS_PORT"}
    if name == "gateway":
        needed |= {"MAINSTAY_ADMIN_KEY"}
    if name == "session-service":
        needed |= {"SESSION_KEYS"}
    if name in ("queue-service", "queue-worker"):
        needed |= {"QUEUE_KEYS"}
    assert needed <= {each.removesuffix("_FILE") for each in environment_of(name)}


@pytest.mark.parametrize("name", plan.SERVICES)
def test_a_process_can_be_served_with_what_it_is_given(name: str, tmp_path: Path) -> None:
    process = PROCESSES[name]
    PREPARE["keys"](tmp_path, postgres="postgres:5432")
    own, public = str(tmp_path / process.service), str(tmp_path / "public")
    given = {
        variable: DEFAULT.sub(r"\1", value)
        .replace("/secrets/own", own)
        .replace("/secrets/public", public)
        for variable, value in environment_of(name).items()
    }
    done = subprocess.run(
        [sys.executable, "-m", process.package, "check-config"],
        env=given, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_gateway_is_given_the_admin_key_and_everybody_its_own_secrets() -> None:
    for name, process in PROCESSES.items():
        text = str(SERVICES[name])
        assert ("ADMIN_KEY" in text) == (name == "gateway")
        mounted = {each.split(":")[0] for each in SERVICES[name]["volumes"]}
        assert mounted == {f"secrets-{process.service}", "public-keys"}
        assert all(each.endswith(":ro") for each in SERVICES[name]["volumes"])


def test_addresses_are_those_of_the_services_and_their_ports() -> None:
    for name in PROCESSES:
        given = environment_of(name)
        for variable, url in given.items():
            if ADDRESS.fullmatch(variable):
                parts = urlsplit(url)
                port = given["OPS_PORT"] if "_OPS_" in variable else given["PORT"]
                assert parts.hostname in PROCESSES
                assert variable.startswith(parts.hostname.upper().replace("-", "_"))
                assert str(parts.port) == port


def test_a_process_starts_after_its_migration_which_starts_after_the_databases_are_made() -> None:
    for name, process in PROCESSES.items():
        migration = f"migrate-{process.service}"
        done = {"condition": "service_completed_successfully"}
        assert SERVICES[name]["depends_on"] == {migration: done}
        assert SERVICES[migration]["command"] == [process.package, "migrate"]
        assert SERVICES[migration]["depends_on"] == {"prepare": done}
    assert SERVICES["prepare"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_no_process_waits_for_an_accelerator() -> None:
    for service in SERVICES.values():
        assert not {"redis", "rabbitmq", "prometheus"} & set(service.get("depends_on", {}))


def test_what_is_published_is_on_loopback_alone() -> None:
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_named_volumes_are_declared_and_used() -> None:
    mounted = [each for service in SERVICES.values() for each in service.get("volumes", ())]
    named = {each.split(":")[0] for each in mounted if not each.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    for each in mounted:
        assert not each.startswith(".") or (ROOT / each.split(":")[0]).exists()


def members(*patterns: str) -> Iterator[str]:
    for pattern in patterns:
        for project in sorted(ROOT.glob(f"{pattern}/pyproject.toml")):
            yield str(project.parent.relative_to(ROOT))


def test_the_image_installs_every_package_that_runs() -> None:
    installed = set(re.findall(r"\./([\w/-]+)", DOCKERFILE))
    wanted = set(members("shared/chassis", "shared/contracts", "sdk/python", "handlers/*",
                         "services/*"))  # fmt: skip
    assert wanted | {"shared/localstack"} == installed
    assert "shared/testkit" not in installed


def test_the_image_is_built_from_hashes_and_does_not_run_as_root() -> None:
    assert "--require-hashes -r requirements/runtime.lock" in DOCKERFILE
    assert DOCKERFILE.count("pip install") == DOCKERFILE.count("--no-deps --no-index") + 1
    assert "USER 10001:10001" in DOCKERFILE
    last = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert last.startswith("base AS services")
    assert "HEALTHCHECK" in last


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    seen = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    for member in members("shared/*", "sdk/python", "handlers/*", "services/*"):
        assert member.startswith(tuple(seen)) != (member == "shared/testkit"), member
    assert all((ROOT / each).exists() for each in seen)


def test_prepared_keys_fit_each_other_and_outlive_a_second_run(tmp_path: Path) -> None:
    PREPARE["keys"](tmp_path, postgres="db:5432")
    first = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    PREPARE["keys"](tmp_path, postgres="db:5432")
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == first

    verifier = Verifier.from_directory(service="queue-service", directory=tmp_path / "public")
    pem = (tmp_path / "gateway" / "service.pem").read_text()
    token = Minter(service="gateway", private_key_pem=pem).mint("queue-service")
    assert verifier.verify(token).service == "gateway"
    for keys in ("session-service/session.keys", "queue-service/queue.keys"):
        Keyring((tmp_path / keys).read_text().strip())
    assert len((tmp_path / "gateway" / "admin.key").read_text().strip()) >= 32
    for path in first:
        assert path.parent.name == "public" or path.stat().st_mode & 0o077 == 0


async def test_prepared_databases_are_each_open_to_their_own_role_alone(
    tmp_path: Path, private_postgres: PostgresServer
) -> None:
    address = f"{private_postgres.bind}:{private_postgres.port}"
    PREPARE["keys"](tmp_path, postgres=address)
    for _ in range(2):
        await PREPARE["databases"](tmp_path, admin_dsn=private_postgres.url)
    dsn = {
        service: (tmp_path / service / "database_url").read_text().strip()
        for service in plan.SERVICES
    }
    for own in dsn.values():
        connection = await asyncpg.connect(own)
        await connection.execute("create table mine (id int primary key)")
        await connection.close()
    foreign = dsn["gateway"].rsplit("/", 1)[0] + "/mainstay_session"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(foreign)
