"""The document that others read is the one that the routes make."""

import json
from importlib.resources import files
from typing import Any

import pytest

from chassis.web import openapi
from contracts import problems
from ratelimit_service.__main__ import SERVICE

ADMIN = "ratelimits:admin"


@pytest.fixture
def committed() -> Any:
    text = (files("contracts") / "openapi" / f"{SERVICE.name}.json").read_text()
    return json.loads(text)


def test_the_committed_document_is_that_of_the_routes(committed: Any) -> None:
    made = openapi.document(
        title=SERVICE.name, version=SERVICE.version, operations=SERVICE.operations
    )
    assert committed == json.loads(json.dumps(made)), "run: make openapi"


def test_every_operation_says_who_may_call_it(committed: Any) -> None:
    scopes = {
        f"{method} {path.removeprefix('/v1/ratelimits')}": said["x-mainstay-scope"]
        for path, methods in committed["paths"].items()
        for method, said in methods.items()
    }
    check = dict.fromkeys(
        ("post /check", "post /check:batch", "post /enforce", "post /reserve"), "ratelimits:check"
    )
    check |= {"get /shops/{shop}/usage": "ratelimits:check"}
    moves = ("refund", "penalize", "observe", "leases", "permits")
    check |= {f"post /{each}": "ratelimits:check" for each in moves}
    check |= {f"get /{each}": "ratelimits:check" for each in ("peek", "enforce")}
    check |= {f"{verb} /permits/{{id}}": "ratelimits:check" for verb in ("put", "delete")}
    check |= {"delete /leases/{id}": "ratelimits:check"}
    admin = dict.fromkeys(
        ("get /policies", "get /policies/{id}", "put /policies/{id}", "delete /policies/{id}"),
        "ratelimits:admin",
    )
    admin |= {"post /policies/{id}:simulate": "ratelimits:admin", "get /top": "ratelimits:admin"}
    settings = ("/overrides/{shop}/{policy}", "/plans/{id}", "/shops/{shop}/plan", "/lists/{kind}")
    admin |= {f"{verb} {path}": ADMIN for verb in ("get", "put", "delete") for path in settings}
    admin |= {"post /reset": ADMIN, "get /overrides": ADMIN, "get /plans": ADMIN}
    between = {"post /internal/v1/shops/{shop}:redact": "service"}
    assert scopes == check | admin | between


def test_the_problems_of_this_service_are_registered() -> None:
    assert problems.REGISTRY["unknown_policy"][0] == 404
    assert problems.REGISTRY["limits_unavailable"][0] == 503
    assert problems.REGISTRY["denied_by_list"][0] == 403
    assert problems.REGISTRY["in_use"][0] == 409
    assert problems.REGISTRY["unknown_permit"][0] == 404
    assert problems.REGISTRY["refused_by_limit"][0] == 403
