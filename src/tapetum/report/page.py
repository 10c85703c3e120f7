"""Pages of one file: elements in which all text is escaped, and the frame that asks for nothing outside."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

STATIC = Path(__file__).parent / "static"
VOID = ("img", "meta", "link", "br", "input", "line", "rect", "circle", "path", "polyline", "polygon")


class Html(str):
    """Text that is markup already; all other text is escaped where it becomes part of an element."""

    __slots__ = ()


def tag(element: str, *children: Any, **attributes: Any) -> Html:
    """An element. Children are text (escaped unless it is Html) or lists; None and False are left out.

    Of an attribute's name a last _ is dropped and the others become -: `class_`, `stroke_width`. True stands
    alone.
    """
    opened = element
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.removesuffix("_").replace("_", "-")
        opened += f" {name}" if value is True else f' {name}="{text(str(value))}"'
    if element in VOID and not children:
        return Html(f"<{opened}/>" if element not in ("meta", "link") else f"<{opened}>")
    return Html(f"<{opened}>{text(children)}</{element}>")


def text(part: Any) -> Html:
    """What may stand between tags."""
    if part is None or part is False:
        return Html()
    if isinstance(part, Html):
        return part
    if isinstance(part, list | tuple):
        return Html("".join(map(text, part)))
    shown = str(part).encode(errors="replace").decode()  # names of files need not be text
    return Html(html.escape(shown))


@dataclass
class Section:
    """A part of a page: its heading, a name for links, its elements; no section where there are none."""

    title: str
    name: str
    parts: list[Html] = field(default_factory=list)


@dataclass
class Page:
    """Args:
    title: what it is about.
    lead: sentences that say the most important.
    sections: in their order.
    data: {name: plain data} for the page's script.
    files: its styles and scripts, in this folder's `static`.
    live: whether its script may ask the server that it came from.
    """

    title: str
    lead: list[Any]
    sections: list[Section]
    data: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ("page.css", "marks.js", "page.js", "lasso.js")
    live: bool = False

    def html(self) -> str:
        """The whole file. A policy in it forbids all but its own style and script, and images within it."""
        style, script = (
            "\n".join((STATIC / name).read_text() for name in self.files if name.endswith(ending))
            for ending in (".css", ".js")
        )
        allowed = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
        allowed += ["connect-src 'self'"] if self.live else []
        allowed += [f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'"]
        there = [section for section in self.sections if any(section.parts)]
        links = [tag("a", section.title, href=f"#{section.name}") for section in there]
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content="; ".join(allowed)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("link", rel="icon", href="data:image/x-icon,"),  # or a browser asks a server for one
            tag("title", self.title),
            tag("style", Html(style)),
        )
        asks = (
            "this page asks only for what its own server has"
            if self.live
            else "this file asks for nothing outside itself"
        )
        body = tag(
            "body",
            tag("a", "Skip to the content", href="#main", class_="skip"),
            tag("header", tag("h1", self.title), [tag("p", line, class_="lead") for line in self.lead]),
            tag("nav", links, aria_label="Parts of this page"),
            tag("main", [section_html(section) for section in there], id="main"),
            tag("footer", f"Written by tapetum; {asks}."),
            [data_script(name, value) for name, value in self.data.items() if value is not None],
            tag("script", Html(script)),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def section_html(section: Section) -> Html:
    heading = f"{section.name}-title"
    return tag(
        "section",
        tag("h2", section.title, id=heading),
        section.parts,
        id=section.name,
        aria_labelledby=heading,
    )


def data_script(name: str, value: Any) -> Html:
    """Data for the script, with nothing in it that could end the element."""
    content = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        content = content.replace(mark, f"\\u{ord(mark):04x}")
    return tag("script", Html(content), type="application/json", id=name)


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


# ---- what sections are made of ----


def paragraph(*words: Any, class_: str | None = None) -> Html:
    return tag("p", words, class_=class_)


def bullets(lines: Iterable[Any]) -> Html:
    found = [tag("li", line) for line in lines]
    return tag("ul", found) if found else Html()


def facts(rows: Iterable[tuple[Any, Any]]) -> Html:
    """Names and what they are, side by side."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows])


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], what: str = "") -> Html:
    """A table that scrolls by itself where it is too wide; cells that begin like numbers stand right."""
    number = [
        bool(rows) and all(str(row[i]).lstrip("+-−[< ")[:1].isdigit() or not row[i] for row in rows)
        for i in range(len(columns))
    ]
    place = ["number" if right else None for right in number]
    head = tag("tr", [tag("th", name, scope="col", class_=c) for name, c in zip(columns, place)])
    body = [tag("tr", [tag("td", cell, class_=c) for cell, c in zip(row, place)]) for row in rows]
    whole = tag("table", tag("thead", head), tag("tbody", body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=what or "table")


def folded(title: str, *parts: Any) -> Html:
    """What is shown when asked for."""
    return tag("details", tag("summary", title), parts)


def figure(drawing: Html, caption: Any = "", class_: str | None = None) -> Html:
    return tag("figure", drawing, tag("figcaption", caption) if caption else None, class_=class_)


def picture(image: Image.Image, words: str, quality: int = 82, class_: str | None = None) -> Html:
    """An image inside the page; `words` say what it shows to who cannot see it."""
    return tag(
        "img", src=data_uri(image, quality), alt=words, width=image.width, height=image.height, class_=class_
    )


def data_uri(image: Image.Image, quality: int = 82) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def thumb(image: int, words: str = "", note: Any = "", class_: str = "") -> Html:
    """An image of the map's sprites, drawn by the script, with words below."""
    shown = tag("canvas", class_="thumb", data_image=image, width=64, height=64, role="img", aria_label=words)
    return tag("span", shown, tag("span", note, class_="note"), class_=f"card {class_}".strip(), title=words)
