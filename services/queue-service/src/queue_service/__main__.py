"""`python -m queue_service api | worker | migrate | check-config | openapi`."""

import sys
from pathlib import Path

from aiohttp import web

from chassis import command
from queue_service.api import routes
from queue_service.app import SERVICE, VERSION, create_app
from queue_service.settings import ApiSettings, WorkerSettings

MIGRATIONS = Path(__file__).parent / "store" / "migrations"


def create_worker(settings: WorkerSettings) -> web.Application:
    """The api does without what handlers import."""
    from queue_service import worker

    return worker.create_app(settings)


THIS = command.Service(
    name=SERVICE,
    version=VERSION,
    processes={"api": (ApiSettings, create_app), "worker": (WorkerSettings, create_worker)},
    migrations=MIGRATIONS,
    operations=routes.ROUTES,
)

if __name__ == "__main__":
    sys.exit(command.main(THIS))
