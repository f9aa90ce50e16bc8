"""`python -m ratelimit_service api|migrate|check-config|openapi`."""

import sys
from pathlib import Path

from chassis import command
from ratelimit_service import app, settings
from ratelimit_service.api import routes

MIGRATIONS = Path(__file__).parent / "store" / "migrations"

SERVICE = command.Service(
    name=app.SERVICE,
    version=app.VERSION,
    processes={"api": (settings.ApiSettings, app.create_app)},
    migrations=MIGRATIONS,
    operations=routes.OPERATIONS,
)

if __name__ == "__main__":
    sys.exit(command.main(SERVICE))
