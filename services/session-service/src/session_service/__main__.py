"""`python -m session_service api | migrate | check-config | openapi`."""

import sys
from pathlib import Path

from chassis import command
from session_service.api import routes
from session_service.app import SERVICE, VERSION, create_app
from session_service.settings import SessionSettings

MIGRATIONS = Path(__file__).parent / "store" / "migrations"

THIS = command.Service(
    name=SERVICE,
    version=VERSION,
    processes={"api": (SessionSettings, create_app)},
    migrations=MIGRATIONS,
    operations=routes.ROUTES,
)

if __name__ == "__main__":
    sys.exit(command.main(THIS))
