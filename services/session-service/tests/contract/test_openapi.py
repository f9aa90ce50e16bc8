"""The document that others read is the one that the routes make."""

import json
from importlib.resources import files
from typing import Any

import pytest

from chassis.web import openapi
from contracts import problems
from session_service.__main__ import THIS


@pytest.fixture
def committed() -> Any:
    text = (files("contracts") / "openapi" / "session-service.json").read_text()
    return json.loads(text)


def test_the_committed_document_is_that_of_the_routes(committed: Any) -> None:
    made = openapi.document(title=THIS.name, version=THIS.version, operations=THIS.operations)
    assert committed == json.loads(json.dumps(made)), "run: make openapi"


def test_every_operation_says_who_may_call_it(committed: Any) -> None:
    scopes = {
        f"{method} {path}": said["x-mainstay-scope"]
        for path, methods in committed["paths"].items()
        for method, said in methods.items()
    }
    assert scopes == {
        "put /v1/sessions/{id}": "sessions:write",
        "get /v1/sessions/{id}": "sessions:read",
        "delete /v1/sessions/{id}": "sessions:write",
        "post /v1/sessions:batchDelete": "sessions:write",
        "get /v1/shops/{shop}/sessions": "sessions:read",
        "delete /v1/shops/{shop}": "sessions:write",
        "get /v1/shops/{shop}/token": "tokens:read",
        "post /v1/shops/{shop}/token/reject": "tokens:read",
        "post /v1/shops/{shop}/client-credentials": "tokens:read",
        "post /v1/shops/{shop}/migrate": "tokens:read",
        "post /v1/oauth/begin": "sessions:write",
        "post /v1/oauth/complete": "sessions:write",
        "post /v1/token-exchange": "tokens:read",
        "post /v1/session-tokens/verify": "sessions:read",
        "post /v1/maintenance/migrate": "admin",
        "post /v1/shops/{shop}/admin/graphql": "shopify:proxy",
        "get /v1/shops/{shop}/admin/rest/{path}": "shopify:proxy",
        "post /v1/shops/{shop}/admin/rest/{path}": "shopify:proxy",
        "put /v1/shops/{shop}/admin/rest/{path}": "shopify:proxy",
        "delete /v1/shops/{shop}/admin/rest/{path}": "shopify:proxy",
        "post /internal/v1/shops/{shop}:uninstalled": "service",
        "post /internal/v1/shops/{shop}:scopes-updated": "service",
        "post /internal/v1/shops/{shop}:redact": "service",
        "post /v1/maintenance/cleanup": "admin",
        "post /v1/maintenance/rekey": "admin",
        "get /v1/shops/{shop}/token-events": "sessions:read",
    }


async def test_wrong_methods_and_paths_are_problems(service: Any) -> None:
    for method, path, status, code in (
        ("POST", "/v1/sessions/x", 405, "method_not_allowed"),
        ("GET", "/v1/sessions:batchDelete", 405, "method_not_allowed"),
        ("GET", "/v1/sessions/", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
    ):
        answer = await service.call(method, path)
        assert (answer.status, answer.body["code"]) == (status, code), path
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert problems.REGISTRY[code][0] == status
