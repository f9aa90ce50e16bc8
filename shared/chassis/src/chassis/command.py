"""The verbs every service has: `api` (and `worker`), `migrate`, `check-config`, `openapi`.

Exit codes: 0 done, 1 a task of the process failed, 2 the environment cannot be served with.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from chassis import migrate, runner
from chassis import settings as environment
from chassis.settings import Settings, SettingsError
from chassis.web import openapi
from chassis.web.app import Operation

CreateApp = Callable[[Any], web.Application]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What `__main__` knows of its package. `processes`: verb → (settings model, factory)."""

    name: str
    version: str
    processes: Mapping[str, tuple[type[Settings], CreateApp]]
    migrations: Path
    operations: Sequence[Operation] = ()


class MigrateSettings(Settings):
    """`migrate` needs the database alone."""

    service_key: Any = None
    service_keys_dir: Any = None


def main(service: Service, argv: Sequence[str] | None = None) -> int:
    verb = _parser(service).parse_args(argv).verb
    try:
        return _run(service, verb)
    except SettingsError as error:
        print(f"{service.name}: {error}", file=sys.stderr)
        return 2


def _run(service: Service, verb: str) -> int:
    match verb:
        case "migrate":
            settings = environment.load(MigrateSettings)
            dsn = settings.database_url.get_secret_value()
            applied = asyncio.run(migrate.migrate(dsn, service.migrations))
            print(f"{service.name}: applied {', '.join(applied) or 'nothing, all is in place'}")
        case "check-config":
            for model, _factory in service.processes.values():
                print(json.dumps(environment.redacted(environment.load(model)), indent=2))
        case "openapi":
            print(_openapi(service))
        case _:
            model, factory = service.processes[verb]
            loaded = environment.load(model)
            return runner.run(lambda: factory(loaded), loaded, service=_process_name(service, verb))
    return 0


def _openapi(service: Service) -> str:
    described = openapi.document(
        title=service.name, version=service.version, operations=service.operations
    )
    return json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False)


def _process_name(service: Service, verb: str) -> str:
    return service.name if verb == "api" else f"{service.name.removesuffix('-service')}-{verb}"


def _parser(service: Service) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=service.name)
    parser.add_argument("verb", choices=[*service.processes, "migrate", "check-config", "openapi"])
    return parser
