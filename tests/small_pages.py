"""What the tests of pages share: a page as a browser reads it, a browser where there is one, a dashboard."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tapetum.report.dashboard import front
from tapetum.report.server import Server
from tapetum.report.watched import Dashboard

EVIL = "<img src=x onerror=alert(1)>"
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
OUTSIDE = {"src", "href", "action", "data", "srcset", "poster", "formaction", "xlink:href"}


class Read(HTMLParser):
    """Elements with their attributes, the text that is shown, and data for the script."""

    def __init__(self, file: Path):
        super().__init__()
        self.content = file.read_text()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown, self.data, self._within = "", {}, ""
        self.feed(self.content)
        self.shown = " ".join(self.shown.split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._within = tag if tag in ("script", "style") else ""
        self._name = dict(attrs).get("id")

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, text):
        if not self._within:
            self.shown += " " + text
        elif self._within == "script" and self._name:
            self.data[self._name] = json.loads(text)

    def ids(self) -> list[str]:
        return [own["id"] for tag, own in self.elements if tag == "section" and own.get("id")]

    def outside(self) -> list[str]:
        """What a browser would ask for that is not in the file."""
        places = [own[name] or "" for _, own in self.elements for name in OUTSIDE & own.keys()]
        return [place for place in places if not place.startswith(("data:image/", "#"))]

    def handlers(self) -> list[str]:
        return [f"{tag} {name}" for tag, own in self.elements for name in own if name.startswith("on")]


@contextmanager
def browser() -> Iterator:
    """Headless Chromium; the test skips where it or playwright is missing."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser: there is no {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium, place: Path | str, **how) -> Iterator:
    """A page from the disk or of a server; afterwards neither its console nor those of pages opened from it
    hold an error, and nothing but the server was asked."""
    url = place.as_uri() if isinstance(place, Path) else place
    allowed = ("data:", "blob:", "file:" if isinstance(place, Path) else place)
    context = chromium.new_context(**how)
    wrong: list[str] = []
    context.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("request", lambda r: None if r.url.startswith(allowed) else wrong.append(r.url))
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("load")
    yield page
    context.close()
    assert wrong == []


@contextmanager
def served(places: Sequence[Path], work: Path) -> Iterator[Server]:
    """A dashboard of these folders."""
    with Server(Dashboard(list(map(str, places))), front().html(), 0, "the-token", work) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def awaited(wanted: Callable[[], Any], seconds: float = 60) -> Any:
    """What this gives as soon as that is true; the test fails where it does not become so."""
    end = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.01)
    return found
