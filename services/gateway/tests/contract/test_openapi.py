"""The documents that others read, and what the gateway makes of them."""

import json
from importlib.resources import files
from typing import Any

from chassis.web import health, openapi
from contracts import gateway as wire
from contracts import problems
from gateway.__main__ import THIS
from gateway.app import OWNERS, committed_documents, create_app
from gateway.core import offers
from gateway.settings import GatewaySettings
from gateway.testing import Owners


def test_the_committed_document_is_that_of_the_routes() -> None:
    committed = json.loads((files("contracts") / "openapi" / f"{THIS.name}.json").read_text())
    made = openapi.document(title=THIS.name, version=THIS.version, operations=THIS.operations)
    assert committed == json.loads(json.dumps(made)), "run: make openapi"


def test_what_owners_offer_can_be_asked_for_with_a_scope_of_ours() -> None:
    known = {str(scope) for scope in wire.Scope} | {"open"}
    for name, document in committed_documents().items():
        assert {offer.scope for offer in offers.read(name, document)} <= known, name


def test_no_two_owners_offer_the_same() -> None:
    documents = committed_documents()
    offered = [
        (offer.method, offer.path)
        for name in OWNERS
        for offer in offers.read(name, documents[name])
    ]
    assert len(offered) == len(set(offered))


def test_the_gateway_routes_everything_that_is_offered(tmp_path: Any) -> None:
    owners = Owners(tmp_path)
    settings = GatewaySettings.model_validate(
        {
            "database_url": "postgresql://nobody@127.0.0.1:1/none",
            "service_key": owners.keys.private["gateway"],
            "service_keys_dir": tmp_path,
            "queue_service_url": "http://127.0.0.1:1",
            "session_service_url": "http://127.0.0.1:1",
            "ratelimit_service_url": "http://127.0.0.1:1",
        }
    )
    app = create_app(settings)
    routed = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    offered = {
        (offer.method, offer.path.replace(":.+}", "}"))
        for name, document in committed_documents().items()
        for offer in offers.read(name, document)
    }
    assert offered <= routed
    assert not [path for _, path in routed if path == "/internal/v1/jobs:accept"]
    assert app[health.HEALTH].service == "gateway"


def test_the_problems_of_the_gateway_are_registered() -> None:
    for code, status in {
        "too_many_failures": 429,
        "enqueue_unavailable": 503,
        "idempotency_key_reused": 422,
        "id_taken": 409,
        "unknown_queue": 422,
        "other_shop": 403,
        "overloaded": 503,
    }.items():
        assert problems.REGISTRY[code][0] == status
