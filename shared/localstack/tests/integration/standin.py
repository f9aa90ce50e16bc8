"""Stands in for each of the five processes: health on its ports, and an orderly end.

Installed by the tests as the packages `gateway`, `queue_service` and so on. Every start and every
end is one line in $STANDIN_JOURNAL, so that a test can read the order.
"""

import http.server
import os
import signal
import sys
import threading
from pathlib import Path


def write(event: str) -> None:
    name = f"{Path(sys.argv[0]).parts[-2]} {sys.argv[1]}"
    with Path(os.environ["STANDIN_JOURNAL"]).open("a") as journal:
        journal.write(f"{event} {name} {os.getpid()}\n")


class Probe(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status": "pass", "dependencies": {"redis": "absent"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def listen(port: str) -> None:
    address = (os.environ["MAINSTAY_BIND"], int(port))
    server = http.server.ThreadingHTTPServer(address, Probe)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    if sys.argv[1] == "migrate":
        write("migrated")
        return
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    if os.environ.get("STANDIN_FAILS") == os.environ["OPS_PORT"]:
        sys.exit("stand-in: told to fail")
    for name in ("PORT", "OPS_PORT"):
        if os.environ.get(name):
            listen(os.environ[name])
    write("started")
    while not told.wait(0.1):
        if os.getppid() != int(os.environ["MAINSTAY_PARENT_PID"]):
            break
    write("ended")


main()
