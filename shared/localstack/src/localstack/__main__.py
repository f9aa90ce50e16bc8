"""`python -m localstack run|serve|demo`: the whole stack on this machine.

Exit codes: 0 after a clean stop, and after a demo in which every recipient got exactly one
message; 1 the stack could not run; 2 the settings cannot be run with; 3 the demo's campaign did
not end as promised; 130 the demo was stopped before its end.
"""

import argparse
import os
import sys

from localstack import report, runner
from localstack import settings as environment
from localstack.home import Home, default
from localstack.plan import Plan

EXIT_SETTINGS = 2


def main() -> int:
    os.umask(0o022)  # who runs Postgres must be able to enter; secrets say their own mode
    parser = argparse.ArgumentParser(prog="localstack", description=__doc__)
    parser.add_argument("verb", choices=["run", "serve", "demo"], nargs="?", default="run")
    verb = runner.Verb(parser.parse_args().verb)
    try:
        settings = environment.load(os.environ)
    except environment.SettingsError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return EXIT_SETTINGS
    home = Home(settings.mainstay_home or default())
    plan = Plan(settings=settings, home=home, environ=dict(os.environ))
    return runner.Runner(plan, verb, screen=report.Screen()).run()


if __name__ == "__main__":
    sys.exit(main())
