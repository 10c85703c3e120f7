"""Requests as no browser makes them: the dashboard says no, tells nothing, and goes on answering."""

import re
import socket

import pytest

from hostile.asks import CASES, get
from small_pages import awaited, served
from small_runs import by_hand
from tapetum.report import server as serving
from tapetum.report.server import HEADERS


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    by_hand(folder / "runs/first")
    (folder / "secret").write_text("secret-content\n")
    with served([folder / "runs"], folder) as server:
        yield server


def sent(server, raw: bytes) -> bytes:
    """What comes back over the line until it is closed."""
    port = server.server_address[1]
    for mark, value in ((b"HOST", b"127.0.0.1:%d" % port), (b"PORT", b"%d" % port), (b"TOKEN", b"the-token")):
        raw = raw.replace(mark, value)
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
        try:
            line.sendall(raw)
            line.shutdown(socket.SHUT_WR)
            while part := line.recv(2**16):
                answer += part
        except OSError:  # it was closed before all was said
            pass
    return answer


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_request(server, case):
    answer = sent(server, case.raw)
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if case.status and (status or len(case.raw) < 60_000):  # of a long one the answer may be lost
        assert status and int(status[1]) == case.status, answer[:500]
    assert len(re.findall(rb"HTTP/1\.[01] \d{3} ", answer)) <= 1
    assert b"secret-content" not in answer and b"Traceback" not in answer and b"<img" not in answer
    if not answer.startswith(b"HTTP/1.1 200"):
        assert b"the-token" not in answer.partition(b"\r\n\r\n")[0] and b"first" not in answer
    if status:
        for name, value in HEADERS.items():
            assert f"{name}: {value}".encode() in answer
    assert b" 200 " in sent(server, get("/TOKEN/runs.json"))[:20]


def test_who_takes_all_connections_gets_no_more(server, monkeypatch):
    lines = [socket.create_connection(server.server_address, timeout=120) for _ in range(serving.MOST)]
    awaited(lambda: not server.places._value)  # until the last has its thread
    assert sent(server, get("/TOKEN/runs.json")) == b""
    for line in lines:
        line.close()
    awaited(lambda: server.places._value)
    assert b" 200 " in sent(server, get("/TOKEN/runs.json"))[:20]


def test_without_a_limit_each_connection_gets_a_thread(server, monkeypatch):
    """The test above can fail."""
    monkeypatch.setattr(server, "process_request", super(serving.Server, server).process_request)
    monkeypatch.setattr(
        serving.Server, "process_request_thread", serving.ThreadingHTTPServer.process_request_thread
    )
    lines = [socket.create_connection(server.server_address, timeout=120) for _ in range(serving.MOST + 1)]
    assert b" 200 " in sent(server, get("/TOKEN/runs.json"))[:20]
    for line in lines:
        line.close()


CHECKS = {
    "host": ("hosts", lambda port: ["evil.example"], get("/TOKEN/", "evil.example"), 403),
    "token": ("hmac.compare_digest", lambda a, b: True, get("/wrong/"), 403),
}


@pytest.mark.parametrize("check", CHECKS)
def test_without_its_check_a_foreign_request_is_answered(server, monkeypatch, check):
    name, value, raw, status = CHECKS[check]
    assert b"HTTP/1.1 %d" % status in sent(server, raw)
    monkeypatch.setattr(f"tapetum.report.server.{name}", value)
    assert b"HTTP/1.1 200" in sent(server, raw)
