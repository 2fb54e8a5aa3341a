"""A workflow of three steps that do nothing, on DBOS with SQLite, behind a plain HTTP server: a call is answered once its
run has ended. One thread a connection, as DBOS runs a workflow on the thread that calls it."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dbos import DBOS, DBOSConfig

ANSWER = b'{"done":true}'


@DBOS.step()
def step(n: int) -> int:
    return n


@DBOS.workflow()
def three() -> bool:
    for n in range(3):
        step(n)
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Head and body in one write.
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        three()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """A line for each call would be what is measured."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


config: DBOSConfig = {
    "name": "three",
    "system_database_url": f"sqlite:///{os.environ['DIRECTORY']}/dbos.sqlite",
    "run_admin_server": False,
    "log_level": "ERROR",
}
DBOS(config=config)
DBOS.launch()
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
