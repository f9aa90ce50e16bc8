"""Jobs that time makes."""

from chassis.web.app import Operation
from contracts import jobs as wire
from contracts import schedules as schedule_wire
from queue_service.api import schedules

SCHEDULE = "/v1/schedules/{name:[^/:]+}"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/schedules",
        handler=schedules.list_schedules,
        summary="Schedules by name",
        scope="jobs:read",
        query=wire.PageQuery,
        response=schedule_wire.SchedulePage,
        tag="schedules",
    ),
    Operation(
        method="GET",
        path=SCHEDULE,
        handler=schedules.get_schedule,
        summary="A schedule and when it fires next",
        scope="jobs:read",
        response=schedule_wire.Schedule,
        tag="schedules",
    ),
    Operation(
        method="PUT",
        path=SCHEDULE,
        handler=schedules.put_schedule,
        summary="Make a schedule, or put another in its place",
        scope="jobs:write",
        request=schedule_wire.SchedulePut,
        response=schedule_wire.Schedule,
        also=(201,),
        tag="schedules",
    ),
    Operation(
        method="DELETE",
        path=SCHEDULE,
        handler=schedules.delete_schedule,
        summary="Delete a schedule; the jobs of its fires stay",
        scope="jobs:write",
        status=204,
        tag="schedules",
    ),
)
