"""Requests to the dashboard as browsers never make them; the server must answer no, or with its own pages."""

from dataclasses import dataclass

from hostile.made import ESC, TAG


@dataclass(frozen=True)
class Request:
    """Args:
    name: of the test.
    raw: what goes over the line; HOST and TOKEN stand for the right ones.
    status: of the answer; 0 where there may be none.
    """

    name: str
    raw: bytes
    status: int


def get(
    path: str | bytes, host: str = "HOST", *more: str, method: str = "GET", version: str = "HTTP/1.1"
) -> bytes:
    path = path.encode() if isinstance(path, str) else path
    lines = [f"Host: {host}", *more, "Connection: close", "", ""]
    return method.encode() + b" " + path + b" " + version.encode() + b"\r\n" + "\r\n".join(lines).encode()


UP = ("../config.yaml", "%2e%2e/config.yaml", "..%2fconfig.yaml", "run/../../secret", "run/..%2f..%2fsecret")
FOREIGN = (
    "evil.example",
    "evil.example:PORT",
    "127.0.0.1",
    "127.0.0.1:1",
    "localhost.evil.example:PORT",
    "0.0.0.0:PORT",
    "[::]:PORT",
    "127.0.0.1:PORT@evil",
    "127.0.0.1:PORT.evil",
    "",
    " ",
    "127.1:PORT",
    "2130706433:PORT",
)
CASES = [
    *(Request(f"a path that goes up: {path}", get(f"/TOKEN/{path}"), 404) for path in UP),
    *(Request(f"a host of another: {host or 'none'}", get("/TOKEN/", host), 403) for host in FOREIGN),
    *(
        Request(f"another method: {method}", get("/TOKEN/", method=method), 405)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH")
    ),
    Request("no token", get("/"), 403),
    Request("half a token", get("/the-tok/"), 403),
    Request("a token and more", get("/TOKENx/"), 403),
    Request("a token in capitals", get("/THE-TOKEN/"), 403),
    Request("a token that is written otherwise", get("/%74he-token/"), 403),
    Request("a token as a setting", get("/?token=TOKEN"), 403),
    Request("a token after two strokes", get("//TOKEN/"), 200),
    Request("a token of bytes", get(b"/\xff\xfe\xfd/"), 403),
    Request("a token of a megabyte", get("/" + "a" * 2**20 + "/"), 414),
    Request("the address of another server", get("http://evil.example/TOKEN/"), 403),
    Request("an address without its name", get("//evil.example/TOKEN/"), 403),
    Request("a file of the system", get("/TOKEN//etc/passwd"), 404),
    Request("a file beside the pages", get("/TOKEN/page.css"), 404),
    Request("a run that is none", get("/TOKEN/run/000000000000"), 404),
    Request("a run that is a tag", get(f"/TOKEN/run/{TAG.replace(' ', '%20')}"), 404),
    Request("a run that commands a terminal", get(f"/TOKEN/run/{ESC}"), 404),
    Request("a run with a zero", get("/TOKEN/run/%00"), 404),
    Request("numbers since for ever", get("/TOKEN/runs.json?since=" + "9" * 5000), 200),
    Request("numbers since below zero", get("/TOKEN/runs.json?since=-1"), 200),
    Request("numbers since a digit of another script", get("/TOKEN/runs.json?since=%D9%A3"), 200),
    Request(
        "rows of runs that are none",
        get("/TOKEN/rows.json?../x=0-0-0-0&" + "&".join(f"r{i}=" for i in range(900))),
        200,
    ),
    Request("rows of too many runs", get("/TOKEN/rows.json?" + "&".join(f"r{i}=" for i in range(5000))), 0),
    Request("no host at all", b"GET /TOKEN/ HTTP/1.1\r\nConnection: close\r\n\r\n", 403),
    Request(
        "two hosts",
        b"GET /TOKEN/ HTTP/1.1\r\nHost: evil.example\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        403,
    ),
    Request("no version", b"GET /TOKEN/\r\n\r\n", 0),
    Request("another version", get("/TOKEN/", version="HTTP/9.9"), 0),
    Request("a version that is none", get("/TOKEN/", version="HTTP/x"), 0),
    Request("words without end", b"GET " + b"a " * 5000 + b"\r\n\r\n", 0),
    Request("a line without end", b"G" * 70_000 + b"\r\n\r\n", 414),
    Request("heads without end", get("/TOKEN/", "HOST", *(f"x{i}: y" for i in range(300))), 431),
    Request("a head of a megabyte", get("/TOKEN/", "HOST", "x: " + "y" * 2**20), 431),
    Request("bytes", bytes(range(256)) * 4 + b"\r\n\r\n", 0),
    Request("nothing", b"\r\n\r\n", 0),
    Request("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 0),
    Request(
        "a second request in its body",
        get("/TOKEN/", "HOST", "Content-Length: 40", method="POST") + get("/TOKEN/runs.json"),
        405,
    ),
    Request(
        "a body in pieces",
        get("/TOKEN/", "HOST", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\n\r\n",
        405,
    ),
    Request(
        "a head of two lines", b"GET /TOKEN/ HTTP/1.1\r\nHost: HOST\r\n x\r\nConnection: close\r\n\r\n", 403
    ),
]
