"""A range test of learning rates as a picture, and as a few lines in the terminal."""

import itertools
import math
from collections.abc import Callable, Sequence

from PIL import Image

from tapetum.report.charts import short, ticks
from tapetum.report.dots import GREY, LINE, MARGIN, Pen
from tapetum.report.sheet import COLOURS, MUTED
from tapetum.train.sweep import Proposal, Sweep

WIDTH, LEFT, HIGH, LOW, GAP = 640, 60, 240, 90, 34  # units: the sheet, the axis, both panels, between them
BAR = 24  # characters
ROWS = 16  # lines in the terminal


def drawn(found: Sweep, advice: Proposal, title: str) -> Image.Image:
    """The loss, and below it the features' rank, over the rate on a logarithmic axis."""
    pen = Pen(WIDTH, 2 * MARGIN + 34 + HIGH + GAP + (LOW + GAP if found.ranks else 0))
    top = MARGIN + 34
    x = [math.log10(rate) for rate in found.rates]
    pen.text(MARGIN, MARGIN - 4, title, size=14)
    smooth = found.smooth.tolist()
    across = _panel(pen, top, HIGH, "loss", x, [found.losses, smooth])
    for name, rate in {"steepest": advice.steepest, "least": advice.lowest, "take": advice.rate}.items():
        if rate is not None:
            at = across(math.log10(rate))
            pen.dashes(at, top, top + HIGH, COLOURS[1] if name == "take" else GREY)
            y = top + {"take": HIGH - 32, "steepest": 16, "least": 2}[name]
            pen.text(at + 4, y, f"{name} {rate:.2g}", COLOURS[1] if name == "take" else MUTED)
    if found.ranks:
        low = top + HIGH + GAP
        places = sorted(found.ranks)
        ranks = [found.ranks[i] for i in places]
        _panel(pen, low, LOW, "rank of the features", x, [ranks], [x[i] for i in places])
        if (end := found.collapsed) is not None:
            pen.dashes(across(x[end]), low, low + LOW, COLOURS[1])
            pen.text(across(x[end]) + 4, low + LOW - 16, "collapse", COLOURS[1])
    return pen.finished()


def _panel(
    pen: Pen,
    top: float,
    high: float,
    name: str,
    x: Sequence[float],
    curves: Sequence[Sequence[float]],
    places: Sequence[float] | None = None,
) -> Callable[[float], float]:
    """Draw curves over log rates, the last strong; gives where on the sheet a log rate lies."""
    right = WIDTH - MARGIN
    last = curves[-1]
    least, most = min(last), max(last)
    spare = 0.08 * (most - least) or 0.1 * abs(most) or 0.5
    least, most = least - spare, most + spare

    def across(v: float) -> float:
        return LEFT + (v - x[0]) / max(x[-1] - x[0], 1e-9) * (right - LEFT)

    def down(v: float) -> float:
        return top + (most - min(max(v, least), most)) / (most - least) * high

    for v in ticks(least, most):
        pen.line(LEFT, down(v), right, down(v), LINE, 0.7)
        pen.text(LEFT - 6, down(v), short(v), MUTED, 10, "rm")
    for power in range(math.ceil(x[0]), math.floor(x[-1]) + 1):
        pen.line(across(power), top, across(power), top + high, LINE, 0.7)
        pen.text(across(power), top + high + 4, f"{10.0**power:g}", MUTED, 10, "ma")
    pen.text(LEFT, top - 15, name, MUTED)
    for curve in curves:
        ink, wide = (COLOURS[0], 1.8) if curve is last else (GREY, 0.7)
        points = list(zip(map(across, places or x), map(down, curve)))
        for a, b in itertools.pairwise(points):
            pen.line(*a, *b, ink, wide)
    return across


def rows(found: Sweep, advice: Proposal) -> list[tuple[str, str, str, str, str]]:
    """Rate, loss, a bar as long as the loss, rank and a word, for some of the steps."""
    smooth, count = found.smooth.tolist(), len(found.rates)
    least, most = min(smooth), max(smooth)
    marks = {"steepest": advice.steepest, "least": advice.lowest, "take this": advice.rate}
    bounds = [count * i // min(ROWS, count) for i in range(min(ROWS, count) + 1)]
    lines = []
    for a, b in itertools.pairwise(bounds):
        at = (a + b) // 2
        length = round(BAR * (smooth[at] - least) / max(most - least, 1e-12))
        rank = next((f"{found.ranks[i]:.0f}" for i in sorted(found.ranks) if a <= i < b), "")
        edge = found.rates[b] if b < count else math.inf
        words = [n for n, rate in marks.items() if rate and found.rates[a] <= rate < edge]
        if found.collapsed is not None and found.collapsed < b:
            words.append("collapsed")
        lines.append((f"{found.rates[at]:.1e}", f"{smooth[at]:.4g}", "█" * length, rank, ", ".join(words)))
    return lines
