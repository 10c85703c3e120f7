"""The dashboard: a page that shows runs side by side as they go on, and the server that has it."""

import secrets
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapetum.base.console import say
from tapetum.report.page import Page, Section, folded, paragraph, tag
from tapetum.report.server import Server
from tapetum.report.training import MEANT
from tapetum.report.watched import Dashboard

FILES = ("page.css", "ui.css", "curves.js", "runs.js")


def ui(places: Sequence[str], port: int, open: bool) -> dict[str, Any]:
    """The body of the verb `ui`; see tapetum.pages.ui for the settings."""
    with tempfile.TemporaryDirectory(prefix="tapetum-ui-") as work:
        dashboard = Dashboard(places)
        with Server(dashboard, front().html(), port, secrets.token_urlsafe(24), Path(work)) as server:
            runs = len(dashboard.changes(0)["ids"])
            try:
                say(f"{runs:,} {'run' if runs == 1 else 'runs'} at {server.url}")
                say("Only this machine can open it; Ctrl-C ends it.")
                if open:
                    webbrowser.open(server.url)
                server.serve_forever()
            except KeyboardInterrupt:
                say("ended.")
            return {"url": server.url, "runs": len(dashboard.runs)}


def front() -> Page:
    """The page; its script fills the table and the drawings."""
    search = tag("input", id="search", type="search", placeholder="name or setting", aria_label="Search runs")
    sort = tag("select", id="sort")
    choice = [
        tag("label", "Search ", search),
        tag("label", "Sort by ", sort),
        tag("span", id="filters", class_="filters"),
    ]
    more = tag(
        "details",
        tag("summary", "More settings"),
        tag("div", id="more", class_="filters"),
        id="rest",
        hidden=True,
    )
    pick = tag("button", "Select those shown", id="all", type="button")
    none = tag("button", "Select none", id="none", type="button")
    told = tag("p", "No run was read yet.", id="told", class_="muted", aria_live="polite")
    head = tag("thead", tag("tr", id="columns"))
    table = tag("table", head, tag("tbody", id="runs"))
    runs = [
        tag("div", choice, class_="filters"),
        more,
        tag("div", id="notes"),
        told,
        tag("div", pick, none, class_="tools"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Runs"),
    ]
    curves = [
        tag("div", id="numbers", class_="tools", role="group", aria_label="Numbers that are drawn"),
        folded("More numbers", tag("div", id="others", class_="tools")),
        tag("div", id="key", class_="key"),
        tag("div", id="drawings", class_="charts"),
        paragraph("Across: steps. Of many steps a point is the mean of neighbours.", class_="muted"),
    ]
    lead = [
        "Runs side by side, as they go on. A run's name opens its page: results, map, neighbours, mistakes."
    ]
    return Page(
        "Runs",
        lead,
        [Section("Table", "table", runs), Section("Curves", "curves", curves)],
        {"meant": MEANT},
        files=FILES,
        live=True,
    )
