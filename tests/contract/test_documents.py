"""What documents say is so: links lead somewhere, paths exist, settings are real, code compiles."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import contracts
from chassis import settings as environment
from contracts.problems import REGISTRY
from localstack.settings import StackSettings

ROOT = Path(__file__).resolve().parents[2]
OPENAPI = Path(contracts.__file__).parent / "openapi"
SERVICES = ("gateway", "queue_service", "session_service", "ratelimit_service")
GREEK = ROOT / "docs" / "el" / "API_DOCUMENTATION_GR.md"
OPERATIONS = ROOT / "docs" / "operations.md"

METHODS = "GET|POST|PUT|PATCH|DELETE"
CALL = re.compile(rf"\b({METHODS}) (/v1/[^\s`\"'?|)]+)")
URL = re.compile(r"http://127\.0\.0\.1:18080(/v1/[^\s\"'?]+)")
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]*)(?:#[^)]*)?\)")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
MODULE = re.compile(r"`((?:gateway|queue_service|session_service|ratelimit_service)/[\w/]+\.\w+)`")
VARIABLE = re.compile(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)(?:=[^`]*)?`")


def documents() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    members = ["sdk/*", "handlers/*", "services/*", "deploy/*"]
    theirs = [path for each in members for path in ROOT.glob(f"{each}/README.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md")), *sorted(theirs)]


def of(path: Path) -> str:
    return str(path.relative_to(ROOT))


DOCUMENTS = documents()


def offered() -> set[tuple[str, str]]:
    """(method, path) of everything, names of parameters left out."""
    return {
        (method.upper(), shape(path))
        for document in OPENAPI.glob("*.json")
        for path, methods in json.loads(document.read_text())["paths"].items()
        for method in methods
    }


def shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}|<[^>]*>", "{}", path.rstrip("/.,;:"))


def fits(address: str, path: str) -> bool:
    """Is it one of this path's, its places filled or not?"""
    return re.fullmatch(re.escape(path).replace(r"\{\}", "[^/:]+"), address) is not None


def calls_in(text: str) -> Iterator[tuple[str, str]]:
    for method, path in CALL.findall(text):
        yield method, shape(path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_every_link_leads_to_a_file(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if target and "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_every_call_that_is_named_exists(path: Path) -> None:
    known = offered()
    for call in calls_in(path.read_text()):
        assert call in known, f"{call[0]} {call[1]}"
    for address in URL.findall(path.read_text()):
        assert any(fits(shape(address), path) for _, path in known), address


def test_the_greek_document_names_every_call_that_callers_may_make() -> None:
    told = set(calls_in(GREEK.read_text()))
    public = {call for call in offered() if call[1].startswith("/v1/")}
    assert public - told == set()


def test_the_greek_document_names_every_problem_that_it_can_meet() -> None:
    told = set(re.findall(r"`(\w+)`", GREEK.read_text()))
    later = {"shopify_not_configured", "job_not_retryable"}
    assert set(REGISTRY) - told <= later


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_python_in_documents_compiles(path: Path) -> None:
    for language, code in BLOCK.findall(path.read_text()):
        if language == "python":
            compile(code, of(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if language == "json":
            json.loads(code)


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_every_module_that_is_named_exists(path: Path) -> None:
    for module in MODULE.findall(path.read_text()):
        folder = module.split("/")[0].replace("_", "-")
        assert (ROOT / "services" / folder / "src" / module).exists(), module


def fields() -> dict[str, set[str]]:
    """Service → every name of its environment."""
    found = {}
    for service in SERVICES:
        module = importlib.import_module(f"{service}.settings")
        models = [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, environment.Settings)
        ]
        found[service] = {name.upper() for model in models for name in model.model_fields}
    return found


def test_operations_explains_every_setting() -> None:
    told = set(VARIABLE.findall(OPERATIONS.read_text())) | {"PORT"}
    for service, names in fields().items():
        assert names - told == set(), service


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_every_variable_that_is_named_is_read_by_somebody(path: Path) -> None:
    of_services = set().union(*fields().values())
    known = of_services | {name.upper() for name in StackSettings.model_fields}
    elsewhere = source_of_variables()
    for name in VARIABLE.findall(path.read_text()):
        plain = name.removesuffix("_FILE")
        assert plain in known or plain in elsewhere or plain == "NAME", name


def source_of_variables() -> set[str]:
    """Names in capitals that code outside the settings models reads."""
    places = [
        ROOT / "handlers" / "marketing" / "src" / "marketing" / "settings.py",
        ROOT / "shared" / "localstack" / "src" / "localstack" / "servers" / "postgres_binaries.py",
        ROOT / "deploy" / "docker" / "prepare.py",
        ROOT / "tests" / "chaos" / "test_long_days.py",
        ROOT / "docker-compose.yml",
    ]
    text = "\n".join(path.read_text() for path in places)
    return set(re.findall(r"[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+", text))


def test_a_document_that_lies_is_noticed() -> None:
    assert list(calls_in("`DELETE /v1/jobs/{id}`.")) == [("DELETE", "/v1/jobs/{}")]
    assert shape("/v1/jobs/<id>:cancel,") == "/v1/jobs/{}:cancel"
    assert fits("/v1/queues/sms:pause", "/v1/queues/{}:pause")
    assert not fits("/v1/queues/sms:stop", "/v1/queues/{}")
