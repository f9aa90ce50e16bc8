"""The document says what the routes say, and every reference in it leads somewhere."""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pydantic
from aiohttp import web

from chassis.web import openapi
from chassis.web.app import OPEN, Operation


class Colour(StrEnum):
    RED = "red"


class Query(pydantic.BaseModel):
    colour: Colour
    limit: int = 50


class Inner(pydantic.BaseModel):
    name: str


class Thing(pydantic.BaseModel):
    inner: list[Inner]


async def handler(_request: web.Request) -> web.Response:
    return web.Response()


OPERATIONS = [
    Operation(method="GET", path="/v1/things", handler=handler, summary="list", scope="read",
              query=Query, response=Thing, tag="things"),
    Operation(method="POST", path="/v1/things", handler=handler, summary="make", scope="write",
              request=Thing, response=Thing, status=201, also=(202,)),
    Operation(method="POST", path=r"/v1/things/{id:[^/:]{1,36}}:stop", handler=handler,
              summary="stop", scope="write", timeout_s=0),
    Operation(method="PUT", path="/v1/files/{name}", handler=handler, summary="upload",
              scope="write", request_types=("text/csv", "application/x-ndjson")),
    Operation(method="GET", path="/open", handler=handler, summary="open", scope=OPEN),
]  # fmt: skip


def described() -> dict[str, Any]:
    document = openapi.document(title="t", version="1", operations=OPERATIONS)
    read: dict[str, Any] = json.loads(json.dumps(document))
    return read


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_operation_is_there_once_under_its_path_and_method() -> None:
    found = {
        (method.upper(), path)
        for path, methods in described()["paths"].items()
        for method in methods
    }
    assert found == {
        ("GET", "/v1/things"),
        ("POST", "/v1/things"),
        ("POST", "/v1/things/{id}:stop"),
        ("PUT", "/v1/files/{name}"),
        ("GET", "/open"),
    }


def test_operation_ids_are_unique_words() -> None:
    told = [
        one["operationId"] for methods in described()["paths"].values() for one in methods.values()
    ]
    assert len(set(told)) == len(told)
    assert all(word.replace("_", "").isalnum() for word in told)


def test_every_reference_leads_somewhere() -> None:
    document = described()
    for reference in references(document):
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"], reference


def test_parameters_of_path_and_query() -> None:
    paths = described()["paths"]
    (place,) = paths["/v1/things/{id}:stop"]["post"]["parameters"]
    assert (place["name"], place["in"], place["required"]) == ("id", "path", True)
    asked = {one["name"]: one["required"] for one in paths["/v1/things"]["get"]["parameters"]}
    assert asked == {"colour": True, "limit": False}


def test_statuses_bodies_and_problems() -> None:
    made = described()["paths"]["/v1/things"]["post"]
    assert set(made["responses"]) == {"201", "202", "default"}
    assert "application/problem+json" in made["responses"]["default"]["content"]
    assert set(made["requestBody"]["content"]) == {"application/json"}
    upload = described()["paths"]["/v1/files/{name}"]["put"]
    assert set(upload["requestBody"]["content"]) == {"text/csv", "application/x-ndjson"}
    assert "requestBody" not in described()["paths"]["/v1/things"]["get"]


def test_who_may_call_and_for_how_long() -> None:
    paths = described()["paths"]
    assert paths["/open"]["get"]["security"] == []
    assert paths["/v1/things"]["get"]["security"] == [{"bearer": []}]
    assert paths["/v1/things"]["get"]["x-mainstay-scope"] == "read"
    assert paths["/v1/things/{id}:stop"]["post"]["x-mainstay-timeout-s"] == 0


def test_a_place_that_takes_slashes_says_so() -> None:
    [operation] = [
        Operation(method="GET", path="/v1/{shop:[^/]+}/rest/{path:.+}", handler=handler,
                  summary="any", scope="read")
    ]  # fmt: skip
    document = openapi.document(title="t", version="1", operations=[operation])
    said = document["paths"]["/v1/{shop}/rest/{path}"]["get"]["parameters"]
    assert [(each["name"], each.get("x-mainstay-steps")) for each in said] == [
        ("shop", None),
        ("path", "many"),
    ]
