"""Batches and their uploads."""

from chassis.web.app import Operation
from contracts import jobs as wire
from queue_service.api import batches, uploads, verbs

BATCH = "/v1/batches/{id:[^/:]+}"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/batches",
        handler=batches.create_batch,
        summary="Open a batch",
        scope="jobs:write",
        request=wire.BatchCreate,
        response=wire.Batch,
        status=201,
        also=(200,),
        tag="batches",
    ),
    Operation(
        method="GET",
        path="/v1/batches",
        handler=batches.list_batches,
        summary="Batches, newest first",
        scope="jobs:read",
        query=wire.PageQuery,
        response=wire.BatchPage,
        tag="batches",
    ),
    Operation(
        method="GET",
        path=BATCH,
        handler=batches.get_batch,
        summary="A batch and where its jobs are",
        scope="jobs:read",
        response=wire.Batch,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}/items",
        handler=uploads.add,
        summary="Add items as streamed CSV, NDJSON or a JSON array; sent twice they are there once",
        scope="jobs:write",
        query=wire.ItemsQuery,
        response=wire.ItemsAccepted,
        request_types=tuple(sorted(uploads.TYPES)),
        timeout_s=0,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}:close",
        handler=batches.close_batch,
        summary="Take no more items; the batch is finished when its jobs are",
        scope="jobs:write",
        response=wire.Batch,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}:pause",
        handler=batches.pause_batch,
        summary="Start no more jobs of a batch",
        scope="jobs:write",
        response=wire.Batch,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}:resume",
        handler=batches.resume_batch,
        summary="Start jobs of a batch again, or those it was told to hold",
        scope="jobs:write",
        response=wire.Batch,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}:cancel",
        handler=batches.cancel_batch,
        summary="Close a batch, cancel what waits, tell what runs to stop",
        scope="jobs:write",
        response=wire.Batch,
        tag="batches",
    ),
    Operation(
        method="POST",
        path=f"{BATCH}:retry-failed",
        handler=verbs.retry_failed,
        summary="Retry the failed jobs of a batch, in place and in the background",
        scope="jobs:write",
        response=wire.Batch,
        tag="batches",
    ),
)
