"""`python -m gateway api|migrate|check-config|openapi`."""

import sys
from pathlib import Path

from chassis.command import Service, main
from gateway.api import routes
from gateway.app import SERVICE, VERSION, create_app
from gateway.settings import GatewaySettings

MIGRATIONS = Path(__file__).parent / "store" / "migrations"
THIS = Service(
    name=SERVICE,
    version=VERSION,
    processes={"api": (GatewaySettings, create_app)},
    migrations=MIGRATIONS,
    operations=routes.OPERATIONS,
)

if __name__ == "__main__":
    sys.exit(main(THIS))
