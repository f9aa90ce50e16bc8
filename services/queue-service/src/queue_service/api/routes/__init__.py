"""Everything that queue-service answers, by resource."""

from queue_service.api.routes import batches, handlers, jobs, leases, queues, schedules

ROUTES = (
    *jobs.OPERATIONS,
    *queues.OPERATIONS,
    *leases.OPERATIONS,
    *batches.OPERATIONS,
    *schedules.OPERATIONS,
    *handlers.OPERATIONS,
)
