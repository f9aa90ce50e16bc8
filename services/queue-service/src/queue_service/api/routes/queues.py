"""Queues and their settings."""

from chassis.web.app import Operation
from contracts import jobs as wire
from queue_service.api import queues

QUEUE = "/v1/queues/{name:[^/:]+}"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/queues",
        handler=queues.list_queues,
        summary="Queues by name, with their depth",
        scope="jobs:read",
        query=wire.PageQuery,
        response=wire.QueuePage,
        tag="queues",
    ),
    Operation(
        method="GET",
        path=QUEUE,
        handler=queues.get_queue,
        summary="A queue with its depth",
        scope="jobs:read",
        response=wire.Queue,
        tag="queues",
    ),
    Operation(
        method="PUT",
        path=QUEUE,
        handler=queues.put_queue,
        summary="Make a queue, or change what is named of one",
        scope="queues:admin",
        request=wire.QueuePut,
        response=wire.Queue,
        also=(201,),
        tag="queues",
    ),
    Operation(
        method="PATCH",
        path=QUEUE,
        handler=queues.patch_queue,
        summary="Change what is named of a queue",
        scope="queues:admin",
        request=wire.QueuePut,
        response=wire.Queue,
        tag="queues",
    ),
    Operation(
        method="DELETE",
        path=QUEUE,
        handler=queues.delete_queue,
        summary="Delete a queue that holds no jobs",
        scope="queues:admin",
        status=204,
        timeout_s=10.0,
        tag="queues",
    ),
    Operation(
        method="POST",
        path=f"{QUEUE}:pause",
        handler=queues.pause_queue,
        summary="Start no more jobs of a queue",
        scope="queues:admin",
        response=wire.Queue,
        tag="queues",
    ),
    Operation(
        method="POST",
        path=f"{QUEUE}:resume",
        handler=queues.resume_queue,
        summary="Start jobs of a queue again",
        scope="queues:admin",
        response=wire.Queue,
        tag="queues",
    ),
)
