"""What handlers may use, and what every answer of this service says of itself."""

from typing import Final

from aiohttp import web

from chassis.kernel.clock import Clock
from queue_service.core.batches import Batches
from queue_service.core.enqueue import Enqueue
from queue_service.core.handlers import Handlers
from queue_service.core.leases import Leases
from queue_service.core.queues import Queues
from queue_service.core.reading import Jobs
from queue_service.core.schedules import Schedules
from queue_service.core.uploads import Uploads
from queue_service.core.verbs import Verbs

CLOCK = web.AppKey("CLOCK", Clock)
ENQUEUE = web.AppKey("ENQUEUE", Enqueue)
JOBS = web.AppKey("JOBS", Jobs)
LEASES = web.AppKey("LEASES", Leases)
QUEUES = web.AppKey("QUEUES", Queues)
BATCHES = web.AppKey("BATCHES", Batches)
VERBS = web.AppKey("VERBS", Verbs)
UPLOADS = web.AppKey("UPLOADS", Uploads)
SCHEDULES = web.AppKey("SCHEDULES", Schedules)
HANDLERS = web.AppKey("PUSH_HANDLERS", Handlers)

BACKEND: Final = "postgres"
ROAD: Final = "direct"
