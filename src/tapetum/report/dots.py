"""A comparison as a chart: a panel for each number, in it a dot with its interval for each subject."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tapetum.evaluate.scoreboard import Row, Scoreboard
from tapetum.report.sheet import COLOURS, EDGE, INK, MUTED

SCALE, FINER = 2, 2  # pixels a unit, for print; and how much finer it is drawn, then shrunk
PAPER, GREY, LINE = "#ffffff", "#8a9199", "#dde1e5"
MARGIN, GAP, LANE, TITLE, AXIS, HEAD = 24, 22, 20, 24, 26, 34  # units
MOST = 60  # panels
PANEL, ACROSS = 230, 3  # width of a panel, and panels side by side
SHAPES = ("circle", "square", "triangle", "diamond")
RADIUS = 4.5


class Pen:
    """Draws in units, on a sheet that is FINER than what is given out."""

    def __init__(self, width: float, height: float):
        self.zoom = SCALE * FINER
        self.sheet = Image.new("RGB", (round(width * self.zoom), round(height * self.zoom)), PAPER)
        self.draw = ImageDraw.Draw(self.sheet)

    def font(self, size: int) -> Any:
        return ImageFont.load_default(size * self.zoom)

    def length(self, words: str, size: int) -> float:
        return self.font(size).getlength(words) / self.zoom

    def text(
        self, x: float, y: float, words: str, ink: str = INK, size: int = 11, anchor: str = "la"
    ) -> None:
        self.draw.text((x * self.zoom, y * self.zoom), words, ink, self.font(size), anchor)

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: str, wide: float) -> None:
        places = tuple(v * self.zoom for v in (x0, y0, x1, y1))
        self.draw.line(places, ink, max(1, round(wide * self.zoom)))

    def dashes(self, x: float, top: float, bottom: float, ink: str) -> None:
        y = top
        while y < bottom:
            self.line(x, y, x, min(y + 3, bottom), ink, 0.8)
            y += 6

    def mark(self, x: float, y: float, shape: str, ink: str, filled: bool) -> None:
        r = RADIUS * (1.25 if shape in ("triangle", "diamond") else 0.9 if shape == "square" else 1)
        inside, wide = ink if filled else PAPER, round(1.6 * self.zoom)
        x, y, r = x * self.zoom, y * self.zoom, r * self.zoom
        if shape == "circle":
            self.draw.ellipse((x - r, y - r, x + r, y + r), inside, ink, wide)
        elif shape == "square":
            self.draw.rectangle((x - r, y - r, x + r, y + r), inside, ink, wide)
        else:
            corners = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
            if shape == "triangle":
                corners = [(x, y - r), (x + r, y + 0.75 * r), (x - r, y + 0.75 * r)]
            self.draw.polygon(corners, ink)
            if not filled:
                middle = [sum(part) / len(corners) for part in zip(*corners)]
                inner = 1 - 2.4 * wide / (2 * r)
                self.draw.polygon(
                    [tuple(m + inner * (p - m) for p, m in zip(c, middle)) for c in corners], PAPER
                )

    def finished(self) -> Image.Image:
        width, height = self.sheet.size
        return self.sheet.resize((width // FINER, height // FINER), Image.Resampling.BOX)


def drawn(board: Scoreboard) -> Image.Image:
    """The chart. Subjects differ in colour and in shape, and stand on lines with their names."""
    names, rows = [s.name for s in board.all], board.rows[:MOST]
    probe = Pen(1, 1)
    left = MARGIN + max(probe.length(name, 11) for name in names) + 12
    across = min(ACROSS, len(rows))
    width = left + across * (PANEL + GAP) - GAP + MARGIN
    words = _lines(probe, _legend(board), width - 2 * MARGIN)
    title = TITLE + 14 * any(_below(board, row) for row in rows)
    high = title + LANE * len(names) + AXIS
    down = math.ceil(len(rows) / across)
    head = MARGIN + HEAD + 15 * len(words)
    pen = Pen(width, head + down * (high + GAP) - GAP + MARGIN)
    *first, last = _who(board)
    pen.text(MARGIN, MARGIN - 4, f"{', '.join(first)} and {last}", size=15)
    for i, line in enumerate(words):
        pen.text(MARGIN, MARGIN + 22 + 15 * i, line, MUTED)
    for i, row in enumerate(rows):
        down, at = divmod(i, across)
        top = head + down * (high + GAP)
        _panel(pen, board, row, left + at * (PANEL + GAP), top, title, names=None if at else left - 12)
    return pen.finished()


def _who(board: Scoreboard) -> list[str]:
    return [s.name for s in board.subjects] + (["its baselines"] if len(board.subjects) == 1 else [])


def _legend(board: Scoreboard) -> str:
    text = f"Dots with their 95 % intervals; the dashed line is {board.reference.name}. "
    text += "Filled: beyond chance apart from it, after Holm's correction; hollow: not told apart."
    text += " Grey: baselines." if board.baselines else ""
    text += " Each panel has its own scale." if len(board.rows) > 1 else ""
    return text + (f" The first {MOST} of {len(board.rows):,} numbers." if len(board.rows) > MOST else "")


def _lines(pen: Pen, text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.length(longer, 11) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _below(board: Scoreboard, row: Row) -> str:
    """What stands below the name of a number: on which set, and whether less is better."""
    several = len({r.data for r in board.rows}) > 1
    less = "less is better" if row.better < 0 else ""
    return ", ".join(filter(None, (f"on {row.data}" if several and row.data else "", less)))


def _panel(
    pen: Pen, board: Scoreboard, row: Row, left: float, top: float, title: float, names: float | None
) -> None:
    """One number. title: height of its name; names: where the subjects' names end, None where they stand
    beside another panel already."""
    lanes = {s.name: top + title + LANE * (i + 0.5) for i, s in enumerate(board.all)}
    bottom = top + title + LANE * len(lanes)
    axis = Axis.over(row, left + 8, left + PANEL - 8)
    pen.text(left, top, _shortened(pen, row.number, PANEL), size=12)
    pen.text(left, top + 17, _shortened(pen, _below(board, row), PANEL), MUTED)
    for name, y in lanes.items():
        pen.line(left, y, left + PANEL - (0 if name in row.results else 62), y, LINE, 0.7)
    for tick in axis.ticks():
        pen.line(axis.at(tick), bottom, axis.at(tick), bottom + 4, GREY, 0.8)
        pen.text(axis.at(tick), bottom + 6, axis.words(tick), MUTED, 10, "ma")
    pen.line(left, bottom, left + PANEL, bottom, EDGE, 0.8)
    if kept := row.results.get(board.reference.name):
        pen.dashes(axis.at(kept.value), top + title, bottom, GREY)
    for i, s in enumerate(board.all):
        baseline = s in board.baselines
        ink, shape = (GREY, "circle") if baseline else (COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)])
        if names is not None:
            pen.text(names, lanes[s.name], s.name, MUTED if baseline else INK, 11, "rm")
        if not (r := row.results.get(s.name)):
            pen.text(left + PANEL, lanes[s.name], "not measured", GREY, 9, "rm")
            continue
        low, high = (axis.at(v) for v in r.interval) if _bounded(r.interval) else 2 * (axis.at(r.value),)
        pen.line(low, lanes[s.name], high, lanes[s.name], ink, 1.6)
        tested = s.name in row.adjusted
        filled = row.beyond_chance(s.name) if tested else True
        pen.mark(axis.at(r.value), lanes[s.name], shape, ink, filled)


def _shortened(pen: Pen, words: str, width: float) -> str:
    short = words
    while pen.length(short, 12) > width and len(short) > 1:
        short = short.rstrip("…")[:-1] + "…"
    return short


def _bounded(interval: tuple[float, float]) -> bool:
    return all(map(math.isfinite, interval))


@dataclass
class Axis:
    """Values from `low` to `high`, drawn from `left` to `right`."""

    low: float
    high: float
    left: float
    right: float

    @classmethod
    def over(cls, row: Row, left: float, right: float) -> "Axis":
        """An axis that holds all values of a row and their intervals."""
        ends = [v for r in row.results.values() for v in (r.value, *r.interval) if math.isfinite(v)]
        low, high = min(ends), max(ends)
        spare = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
        return cls(low - spare, high + spare, left, right)

    def at(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    @property
    def step(self) -> float:
        """Between two ticks: 1, 2 or 5 times a power of ten, with three to six ticks on the axis."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        return next(n * power for n in (1, 2, 5, 10) if n * power >= rough)

    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [n * self.step for n in range(first, last + 1)]

    def words(self, tick: float) -> str:
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return f"{tick:,.{digits}f}" if tick else "0"
