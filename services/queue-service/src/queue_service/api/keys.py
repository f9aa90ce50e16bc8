"""What handlers may use, and what every answer of this service says of itself."""

from typing import Final

from aiohttp import web

from chassis.kernel.clock import Clock
from queue_service.core.batches import Batches
from queue_service.core.enqueue import Enqueue
from queue_service.core.queues import Queues
from queue_service.core.reading import Jobs
from queue_service.core.uploads import Uploads

CLOCK = web.AppKey("CLOCK", Clock)
ENQUEUE = web.AppKey("ENQUEUE", Enqueue)
JOBS = web.AppKey("JOBS", Jobs)
QUEUES = web.AppKey("QUEUES", Queues)
BATCHES = web.AppKey("BATCHES", Batches)
UPLOADS = web.AppKey("UPLOADS", Uploads)

BACKEND: Final = "postgres"
ROAD: Final = "direct"
