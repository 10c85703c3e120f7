"""The part of a page that tells of training: curves of all that was logged, and the record of health."""

from tapetum.report import charts, story
from tapetum.report.page import Html, Section, figure, folded, paragraph, table, tag
from tapetum.report.story import Story
from tapetum.report.tail import is_number

MEANT = {  # what a number means, for who has not met it
    "loss": "what training makes small",
    "knn": "share of images whose neighbours name the right class",
    "rank": "effective rank: over how many directions features spread; near 1 is a collapse",
    "gradient_norm": "length of the gradient; peaks are unsteady steps",
    "lr": "learning rate",
    "rate": "images a second",
    "waited": "share of the time spent waiting for images",
    "health.spread": "how far the directions of features lie apart; near 0 is a collapse",
    "health.gap": "by how much the loss rises when views of different images are put together",
}


def training(told: Story) -> Section:
    drawings = []
    for name in told.names():
        x, y = told.series(name)
        if not x:
            continue
        words = f": {MEANT[name]}" if name in MEANT else ""
        ends = f". {charts.short(y[0])} at first, {charts.short(y[-1])} at last"
        odd = f"; {told.odd(name)} values were infinite or none" if told.odd(name) else ""
        caption = [tag("b", name.replace("_", " ")), words, ends, odd, "."]
        drawings.append(figure(charts.curve(x, y, name, told.steps or None), caption))
    parts = [paragraph("Across: steps."), tag("div", drawings, class_="charts")] if drawings else []
    return Section(
        "Training", "training", [*(parts or [paragraph("No number was logged yet.")]), *_health(told)]
    )


def _health(told: Story) -> list[Html]:
    """What the record of its health says, line by line, and its numbers."""
    if not told.health:
        return []
    series: dict[str, tuple[list[float], list[float]]] = {}
    verdicts: list[list[str]] = []
    last = ""
    for row in told.health:
        for name, value in row.items():
            if name != "step" and is_number(value):
                x, y = series.setdefault(name, ([], []))
                x.append(float(row["step"]))
                y.append(float(value))
        if not verdicts or last != row["verdict"]:
            verdicts.append([f"{row['step']:,}", story.verdict(row), str(row.get("try") or "")])
        last = row["verdict"]
    drawings = []
    for name, (x, y) in series.items():
        if len(x) > 1 and len(set(y)) > 1:
            meant = MEANT.get(f"health.{name}")
            caption = [tag("b", name.replace("_", " ")), f": {meant}." if meant else ""]
            drawings.append(figure(charts.curve(x, y, name, told.steps or None), caption))
    verdict = table(["from step", "verdict", "what to try"], verdicts, "verdicts")
    more = folded("Its numbers", tag("div", drawings, class_="charts")) if drawings else Html()
    return [tag("h3", "Health"), verdict, more]
