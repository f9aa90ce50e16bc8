"""URLs that jobs are pushed to."""

from chassis.web.app import Operation
from contracts import handlers as handler_wire
from queue_service.api import handlers

HANDLER = "/v1/handlers/{kind:[^/]+}"

OPERATIONS = (
    Operation(
        method="GET",
        path=HANDLER,
        handler=handlers.get_handler,
        summary="The push handler of a kind, without its secret",
        scope="queues:admin",
        response=handler_wire.Handler,
        tag="handlers",
    ),
    Operation(
        method="PUT",
        path=HANDLER,
        handler=handlers.put_handler,
        summary="Have a kind run by a URL; a secret that is made now is told this once",
        scope="queues:admin",
        request=handler_wire.HandlerPut,
        response=handler_wire.Handler,
        also=(201,),
        tag="handlers",
    ),
    Operation(
        method="DELETE",
        path=HANDLER,
        handler=handlers.delete_handler,
        summary="Call the URL of a kind no more",
        scope="queues:admin",
        status=204,
        tag="handlers",
    ),
)
