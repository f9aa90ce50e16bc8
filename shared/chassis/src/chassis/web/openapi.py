"""The OpenAPI 3.1 document of a service, made from the operations that it routes."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from chassis.web import problems
from chassis.web.app import OPEN, Operation

REF = "#/components/schemas/{model}"
_PLACE = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")


def document(*, title: str, version: str, operations: Sequence[Operation]) -> dict[str, Any]:
    models = sorted(
        {m for o in operations for m in (o.request, o.response) if m is not None},
        key=lambda model: model.__name__,
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=REF
    )
    schemas = dict(definitions.get("$defs", {}))
    for query in {o.query for o in operations if o.query is not None}:
        schemas |= query.model_json_schema(ref_template=REF).get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for operation in sorted(operations, key=lambda one: (one.path, one.method)):
        path = _PLACE.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "x-mainstay-scope": operation.scope,
        "x-mainstay-timeout-s": operation.timeout_s,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation),
        "security": [] if operation.scope == OPEN else [{"bearer": []}],
    }
    if operation.tag:
        described["tags"] = [operation.tag]
    if operation.request is not None:
        reference = {"schema": {"$ref": REF.format(model=operation.request.__name__)}}
        described["requestBody"] = {
            "required": True,
            "content": dict.fromkeys(operation.request_types, reference),
        }
    elif operation.request_types != ("application/json",):
        described["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": {}} for kind in operation.request_types},
        }
    return described


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"[^a-zA-Z0-9]+", "_", _PLACE.sub(r"by_\1", operation.path)).strip("_")
    return f"{operation.method.lower()}_{words}"


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    """A place that takes slashes too is one of `many` steps, which OpenAPI has no word for."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            **({"x-mainstay-steps": "many"} if f"{{{name}:.+}}" in operation.path else {}),
        }
        for name in _PLACE.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(ref_template=REF)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": shape}
        for name, shape in schema.get("properties", {}).items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    content = (
        {"application/json": {"schema": {"$ref": REF.format(model=operation.response.__name__)}}}
        if operation.response is not None
        else None
    )
    good = {"description": "done", **({"content": content} if content else {})}
    answers = {str(status): good for status in (operation.status, *operation.also)}
    problem = {"schema": {"$ref": REF.format(model="Problem")}}
    answers["default"] = {
        "description": "a problem document",
        "content": {problems.CONTENT_TYPE: problem},
    }
    return answers


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "trace_id", "retryable", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "trace_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
