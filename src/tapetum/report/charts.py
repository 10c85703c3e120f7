"""Drawings of numbers as SVG, in the page's own colours: curves, dots with intervals, bars, a matrix."""

import math
from collections.abc import Sequence

from tapetum.report.page import Html, tag

WIDTH, HEIGHT = 340, 190  # of a curve, in the drawing's own units
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 26
TINY = 1e-290  # what is less is nothing
MOST_POINTS = 300  # beyond, neighbours become one point and a band


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers within [low, high]."""
    rough = (high - low) / count
    if not rough > TINY:
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number as an axis has it."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:.4g}"


def thinned(x: Sequence[float], y: Sequence[float], most: int = MOST_POINTS) -> list[tuple[float, ...]]:
    """Points (x, mean, least, most) of at most `most` bins of neighbours."""
    share = max(1, -(-len(x) // most))
    parts = [(x[i : i + share], y[i : i + share]) for i in range(0, len(x), share)]
    return [(sum(a) / len(a), sum(b) / len(b), min(b), max(b)) for a, b in parts]


def curve(x: Sequence[float], y: Sequence[float], name: str, end: float | None = None) -> Html:
    """A line through finite points; the axis goes on to `end`, where the run would have ended."""
    points = thinned(x, y)
    low, high = min(p[2] for p in points), max(p[3] for p in points)
    if high == low:
        room = 0.1 * abs(low) if abs(low) > 1e9 * TINY else 0.1
        low, high = low - room, high + room
    first, last = min(0.0, x[0]), max(x[-1], end or 0.0)

    def across(v: float) -> float:
        return round(LEFT + (v - first) / max(last - first, 1e-9) * (WIDTH - LEFT - RIGHT), 1)

    def down(v: float) -> float:
        return round(HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for v in ticks(low, high):
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down(v), y2=down(v), class_="grid"))
        parts.append(tag("text", short(v), x=LEFT - 6, y=down(v) + 4, text_anchor="end"))
    for v in ticks(first, last):
        parts.append(tag("text", short(v), x=across(v), y=HEIGHT - 8, text_anchor="middle"))
    if len(points) < len(x):
        band = [(p[0], p[2]) for p in points] + [(p[0], p[3]) for p in reversed(points)]
        parts.append(
            tag("polygon", points=" ".join(f"{across(a)},{down(b)}" for a, b in band), class_="band")
        )
    if len(points) > 1:
        line = " ".join(f"{across(p[0])},{down(p[1])}" for p in points)
        parts.append(tag("polyline", points=line, class_="line"))
    if len(points) <= 30:
        parts += [tag("circle", cx=across(p[0]), cy=down(p[1]), r=2.5, class_="dot") for p in points]
    words = f"{name}: from {short(y[0])} at step {short(x[0])} to {short(y[-1])} at step {short(x[-1])}"
    return _svg(WIDTH, HEIGHT, words, parts)


def _svg(width: float, height: float, words: str, parts: list[Html], class_: str = "chart") -> Html:
    """A drawing that fills its place, but for a matrix, which keeps its size."""
    box, own = f"0 0 {round(width)} {round(height)}", round(width) if class_ != "chart" else None
    return tag("svg", parts, viewBox=box, width=own, role="img", aria_label=words, class_=class_)


def dots(rows: Sequence[tuple[str, float, tuple[float, float], bool]], name: str) -> Html:
    """A lane for each (who, value, 95 % interval, whether it is the one that the page is about)."""
    ends = [end for _, value, interval, _ in rows for end in (value, *interval) if math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = (high - low or abs(high) or 1) * 0.06
    low, high = low - room, high + room
    left, lane, width = 120, 26, WIDTH
    height = lane * len(rows) + 30

    def across(v: float) -> float:
        return round(left + (v - low) / (high - low) * (width - left - RIGHT), 1)

    parts = []
    for v in ticks(low, high, 3):
        parts.append(tag("line", x1=across(v), x2=across(v), y1=4, y2=height - 22, class_="grid"))
        parts.append(tag("text", short(v), x=across(v), y=height - 7, text_anchor="middle"))
    for i, (who, value, interval, main) in enumerate(rows):
        y = lane * i + lane / 2 + 4
        kind = "main" if main else "other"
        parts.append(tag("text", shortened(who, 17), x=left - 8, y=y + 4, text_anchor="end", class_=kind))
        if all(map(math.isfinite, interval)):
            a, b = map(across, interval)
            parts.append(tag("line", x1=a, x2=b, y1=y, y2=y, class_=f"interval {kind}"))
        parts.append(tag("circle", cx=across(value), cy=y, r=4.5, class_=f"dot {kind}"))
    said = "; ".join(f"{who} {value:.4g}" for who, value, *_ in rows)
    return _svg(width, height, f"{name}: {said}", parts)


def shortened(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def bars(rows: Sequence[tuple[str, float]], name: str, left: int = 120) -> Html:
    """A bar for each (what, count)."""
    lane, most = 20, max((v for _, v in rows), default=1) or 1
    parts = []
    for i, (what, value) in enumerate(rows):
        y, long = lane * i, (WIDTH - left - 52) * value / most
        parts.append(
            tag(
                "text",
                shortened(what, left // 7),
                tag("title", what),
                x=left - 8,
                y=y + 14,
                text_anchor="end",
            )
        )
        parts.append(
            tag("rect", x=left, y=y + 4, width=round(max(long, 1), 1), height=12, rx=2, class_="bar")
        )
        parts.append(tag("text", f"{value:,.0f}", x=round(left + long + 6, 1), y=y + 14))
    said = "; ".join(f"{what} {value:,.0f}" for what, value in rows)
    return _svg(WIDTH, lane * len(rows) + 4, f"{name}: {said}", parts)


def matrix(shares: Sequence[Sequence[float]], names: Sequence[str], name: str) -> Html:
    """A square for each pair: how much of the row's class was given the column's; each row sums to 1 or 0."""
    side = 30 if len(names) <= 16 else 18
    left = 12 + 7 * min(16, max(map(len, names)))
    size = left + side * len(names)
    parts = []
    for i, (row, own) in enumerate(zip(shares, names)):
        y = left + side * i
        middle = y + side / 2 + 4
        parts.append(tag("text", shortened(own, 16), x=left - 6, y=middle, text_anchor="end"))
        at = y + side / 2 + 4
        turned = f"rotate(-90 {at} {left - 6})"
        parts.append(tag("text", shortened(own, 16), x=at, y=left - 6, transform=turned))
        for j, share in enumerate(row):
            x = left + side * j
            words = (
                f"{own} taken for {names[j]}: {share:.1%}" if i != j else f"{own} named rightly: {share:.1%}"
            )
            kind = "right" if i == j else "wrong"
            box = {"x": x + 1, "y": y + 1, "width": side - 2, "height": side - 2}
            parts.append(tag("rect", class_="cell", **box))
            if share:
                drawn = {"class_": f"cell {kind}", "fill_opacity": round(0.12 + 0.88 * share**0.7, 3)}
                parts.append(tag("rect", tag("title", words), **box, **drawn))
            if share >= 0.005 and side > 20:
                bold = "over" if share > 0.45 else None
                place = {"x": x + side / 2, "y": middle, "text_anchor": "middle", "class_": bold}
                parts.append(tag("text", f"{100 * share:.0f}", tag("title", words), **place))
    return _svg(size + 4, size + 4, name, parts, "chart matrix")
