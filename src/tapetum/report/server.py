"""The dashboard's server: on this machine alone, for who has its address with the token, and only to read."""

import hmac
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tapetum.base.errors import TapetumError
from tapetum.report.making import Reports
from tapetum.report.watched import Dashboard

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost", "[::1]")
MOST = 64  # connections at a time; each takes a thread
POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,  # a page adds its own, which allows its own script alone
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # nobody learns the token
    "X-Content-Type-Options": "nosniff",
}
Answer = tuple[int, str, bytes, dict[str, str]]


class Server(ThreadingHTTPServer):
    """Answers for a dashboard under /TOKEN/.

    Args:
        port: 0 is any free one.
        token: without it nothing is answered.
        work: a folder for pages of runs.

    Raises TapetumError where the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, dashboard: Dashboard, front: str, port: int, token: str, work: Path):
        self.dashboard, self.front, self.token = dashboard, front.encode(), token
        self.reports = Reports(work)
        self.places = threading.BoundedSemaphore(MOST)
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise TapetumError(
                f"port {port} cannot be had: {why}; choose another --port, 0 for any."
            ) from None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:  # one too many: who asks for all of them gets no more
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # who asked has gone
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        self.reports.close()


class Handler(BaseHTTPRequestHandler):
    """GET /TOKEN/, runs.json, rows.json and run/ID; anything else is refused."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tapetum", ""
    timeout = 60

    def parse_request(self) -> bool:
        good = super().parse_request()
        if good and self.command != "GET":
            self.close_connection = True  # a body, if there is one, is not read
            self._answer(405, "text/plain", b"Only GET is answered.", {"Allow": "GET"})
        return good and self.command == "GET"

    def do_GET(self) -> None:
        self._answer(*self._found())

    def _found(self) -> Answer:
        if (self.headers.get("Host") or "").lower() not in hosts(self.server.server_address[1]):
            return said(403, "This server answers only under the address that it printed.")
        path, _, asked = self.path.partition("?")
        token, *rest = path.removeprefix("/").split("/")
        if not hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode()):
            return said(403, "The address lacks the right token; open it as `tapetum ui` printed it.")
        query = dict(parse_qsl(asked, keep_blank_values=True))
        dashboard = self.server.dashboard
        match rest:
            case [""]:
                return 200, "text/html", self.server.front, {}
            case ["runs.json"]:
                since = query.get("since", "")
                return plain(dashboard.changes(int(since) if since.isdecimal() and len(since) < 12 else 0))
            case ["rows.json"]:
                return plain(dashboard.rows(query))
            case ["run", name] if run := dashboard.run(name):
                content, more = self.server.reports.page(run)
                return 200, "text/html", content, more
        return said(404, "There is no such page here.")

    def _answer(self, status: int, kind: str, content: bytes, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():  # also of what is no request at all
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold the token."""


def hosts(port: int) -> list[str]:
    """What browsers call this server; any other Host is a foreign page that had its name point here."""
    usual = NAMES if port == 80 else ()  # which browsers leave out
    return [*usual, *(f"{name}:{port}" for name in NAMES)]


def said(status: int, sentence: str) -> Answer:
    return status, "text/plain", sentence.encode(), {}


def plain(value: Any) -> Answer:
    return 200, "application/json", json.dumps(value, allow_nan=False).encode(), {}
