"""What is offered of an owner's document."""

from typing import Any

from gateway.core import offers

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/v1/jobs": {
            "post": {"x-mainstay-scope": "jobs:write", "tags": ["jobs"]},
            "parameters": [],
        },
        "/v1/batches/{b}/items": {
            "post": {
                "x-mainstay-scope": "jobs:write",
                "x-mainstay-timeout-s": 0,
                "requestBody": {"content": {"text/csv": {}}},
            }
        },
        "/v1/queues/{q}:lease": {
            "post": {
                "x-mainstay-scope": "jobs:write",
                "x-mainstay-timeout-s": 0,
                "requestBody": {"content": {"application/json": {}}},
            }
        },
        "/internal/v1/jobs:accept": {"post": {"x-mainstay-scope": "service"}},
        "/v1/secret": {"get": {"x-mainstay-scope": "service"}},
    },
    "components": {"schemas": {"Job": {"type": "object"}}},
}


def test_services_own_talk_is_not_offered() -> None:
    found = offers.read("queue-service", DOCUMENT)
    assert [(each.method, each.path, each.is_upload) for each in found] == [
        ("POST", "/v1/jobs", False),
        ("POST", "/v1/batches/{b}/items", True),
        ("POST", "/v1/queues/{q}:lease", False),
    ]
    assert (found[0].owner, found[0].tag) == ("queue-service", "jobs")


def test_a_place_of_many_steps_is_routed_with_its_slashes() -> None:
    path = "/v1/shops/{shop}/rest/{path}"
    parameters = [{"name": "shop"}, {"name": "path", "x-mainstay-steps": "many"}]
    described = {"x-mainstay-scope": "shopify:proxy", "parameters": parameters}
    [found] = offers.read("session-service", {"paths": {path: {"get": described}}})
    assert found.path == "/v1/shops/{shop}/rest/{path:.+}"


def test_the_merged_document_holds_what_is_offered() -> None:
    other = {"paths": {"/v1/jobs": {"post": {"x-mainstay-scope": "x"}}}}
    merged = offers.merge([DOCUMENT, other], version="1")
    assert sorted(merged["paths"]) == ["/v1/batches/{b}/items", "/v1/jobs", "/v1/queues/{q}:lease"]
    assert merged["paths"]["/v1/jobs"]["post"]["x-mainstay-scope"] == "jobs:write"
    assert merged["components"]["schemas"] == {"Job": {"type": "object"}}
