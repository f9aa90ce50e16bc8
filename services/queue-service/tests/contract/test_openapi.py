"""The document that others read is the one that the routes make."""

import json
from importlib.resources import files
from typing import Any

import pytest

from chassis.web import openapi
from queue_service.__main__ import THIS


@pytest.fixture
def committed() -> Any:
    text = (files("contracts") / "openapi" / f"{THIS.name}.json").read_text()
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
    read = ("/v1/jobs", "/v1/jobs/{id}", "/v1/queues", "/v1/queues/{name}", "/v1/batches",
            "/v1/batches/{id}", "/v1/schedules", "/v1/schedules/{name}")  # fmt: skip
    write = ("/v1/jobs", "/v1/jobs:batch", "/v1/jobs/{id}:cancel", "/v1/batches",
             "/v1/batches/{id}/items", "/v1/batches/{id}:close", "/v1/batches/{id}:pause",
             "/v1/batches/{id}:resume", "/v1/batches/{id}:cancel",
             "/v1/batches/{id}:retry-failed", "/v1/jobs/{id}:retry", "/v1/jobs/{id}:run-now",
             "/v1/jobs:cancel", "/v1/jobs:retry", "/v1/queues/{name}:lease",
             "/v1/leases:settle", "/v1/leases:release", "/v1/leases:heartbeat",
             "/v1/leases:mark")  # fmt: skip
    admin = ("put /v1/queues/{name}", "patch /v1/queues/{name}", "delete /v1/queues/{name}",
             "post /v1/queues/{name}:pause", "post /v1/queues/{name}:resume",
             "get /v1/handlers/{kind}", "put /v1/handlers/{kind}",
             "delete /v1/handlers/{kind}")  # fmt: skip
    schedule = ("put /v1/schedules/{name}", "delete /v1/schedules/{name}")
    assert scopes == (
        {f"get {path}": "jobs:read" for path in read}
        | {f"post {path}": "jobs:write" for path in write}
        | dict.fromkeys(schedule, "jobs:write")
        | dict.fromkeys(admin, "queues:admin")
        | {"post /internal/v1/jobs:accept": "service", "delete /v1/shops/{shop}/jobs": "jobs:write"}
        | {"post /internal/v1/shops/{shop}:redact": "service"}
    )
