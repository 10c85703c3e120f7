"""The page docs/speed.md: what was asked for, and the last row of each task that a benchmark kept."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import rows

PAGE = rows.ROOT / "docs" / "speed.md"
OURS = "tapetum"


@dataclass(frozen=True)
class Task:
    """Args:
    command: the module that measures it.
    title: what is done, for people.
    unit: what the rates count.
    bars: how many times as fast as these contenders we are to be.
    least: the rate that is asked of us alone.
    note: how it is measured.
    """

    command: str
    title: str
    unit: str = "views"
    bars: dict[str, float] = field(default_factory=dict)
    least: float | None = None
    note: str = ""

    @property
    def file(self) -> Path:
        """Where its rows are kept."""
        return rows.RESULTS / f"{self.command}.jsonl"


SMALL = {"torchvision on PIL": 10.0, "kornia": 4.0}
IN_MEMORY = (
    "CIFAR-10's images lie decoded in memory, each library's in the form that it takes; two views of each, "
    "as float tensors in [0, 1]."
)
READY = "the step on ready-made tensors"
FORWARD = "the forward pass alone"
TASKS = {
    "32": Task(
        "views",
        "32-pixel SimCLR views from memory: crop from a fifth, flip, jitter of half strength, grey; one core",
        bars=SMALL,
        note=f"{IN_MEMORY} As SimCLR does on CIFAR-10, there is no blur.",
    ),
    "32-blur": Task("views", "The same with blur in half of the views; one core", bars=SMALL, note=IN_MEMORY),
    "224": Task(
        "views",
        "224-pixel SimCLR views from JPEG files, decoding included: crop, flip, jitter, grey, blur, "
        "normalise; one core",
        bars={"torchvision on PIL": 10.0, "kornia": 8.0, "albumentations": 1.4},
        note="Photographs of ImageNet, cut to 4:3 and written anew as JPEG of 500 x 375 pixels, quality 90; "
        "two views of each decoded image for all. Ours opens the folder and reads it with one thread, as a "
        "run does that does not fit into memory; the thread shares the core.",
    ),
    "gpu": Task(
        "views",
        "224-pixel SimCLR views on a GPU, from decoded images that lie there",
        least=50_000,
        note="The same photographs and views; nothing is decoded, nothing leaves the GPU.",
    ),
    "step": Task(
        "step",
        "A training step with data and views, beside the same step on ready-made tensors; all cores",
        "images",
        {READY: 1 / 1.08},
        note="SimCLR of recipes/ten-minutes/simclr.yaml on CIFAR-10 held in memory, batches of 256, bf16. "
        "0.93 is 1 / 1.08: with data and views a step may take 1.08 times as long.",
    ),
    "lightly": Task(
        "step",
        "The same network, batch and method as lightly's example writes it; all cores",
        "images",
        {"lightly's example": 2.5, "lightly's example, tuned": 1.4},
        note="Its transforms, data set on a folder, loss, head and loop with its defaults; tuned: bf16, "
        "channels last, and the fastest of several numbers of workers and threads.",
    ),
    "extract-32": Task(
        "extract",
        "Features of packed images into an empty store, beside the bare forward pass: 32 pixels; all cores",
        "images",
        {FORWARD: 0.9},
        note="CIFAR-10's test images packed as they are; resnet32_w64 in bf16, batches of 256. Reading, the "
        "content's digest, preparing and writing are included; the pass alone runs on one batch in memory.",
    ),
    "extract": Task(
        "extract",
        "The same with resnet18 at 160 pixels; all cores",
        "images",
        {FORWARD: 0.9},
        note="3,068 photographs of clothing packed at 160 pixels.",
    ),
    "gpu-step": Task(
        "step",
        "A training step of ResNet-50 at 224 pixels on a GPU, beside the same step on ready-made tensors",
        "images",
        {READY: 1 / 1.05},
        note="SimCLR, batches of 256, bf16, from photographs of 500 x 375 pixels. 0.95 is 1 / 1.05.",
    ),
}


def keep(row: dict) -> None:
    """Keep what was measured of a task in one run, and write the page anew."""
    rows.keep(TASKS[row["task"]].file, row)
    PAGE.write_text(page())


def keep_shares(row: dict) -> None:
    """Keep where the time of a method's step went, and write the page anew."""
    rows.keep(rows.RESULTS / "where.jsonl", row)
    PAGE.write_text(page())


def shares() -> list[str]:
    """Where a step's time goes, a column for each method's last row, as lines of Markdown."""
    last = {row["method"]: row for row in rows.kept(rows.RESULTS / "where.jsonl")}
    if not last:
        return []
    parts = {part for row in last.values() for part in row["shares"]}
    weight = {part: max(row["shares"].get(part, 0) for row in last.values()) for part in parts}
    lines = ["", "## Where the time of a step goes; all cores", "", f"| | {' | '.join(last)} |"]
    lines.append("|---" + "|---:" * len(last) + "|")
    for part in sorted(parts, key=lambda part: -weight[part]):
        cells = [f"{row['shares'][part]:.1%}" if part in row["shares"] else "" for row in last.values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    lines.append(f"| seconds a step | {' | '.join(str(row['seconds']) for row in last.values())} |")
    row = next(iter(last.values()))
    told = "The two-minute recipes (recipes/two-minutes) on CIFAR-10 held in memory, bf16. `python -m "
    told += f"benchmarks.where`, {row['date']}, commit {row['commit']}; {row['machine']}."
    return [*lines, "", told]


def page() -> str:
    """The page from the last rows."""
    lines = [
        "# Speed",
        "",
        "Generated by `python -m benchmarks.views`, `step` and `extract`, which anyone can run.",
        "In one run all contenders do the same work in turn, A B C A B C, so that what else the machine does",
        "falls on all; the first turn warms up. Rates and ratios are medians over the turns, with the lowest",
        "and the highest; *asked* is what this project set out to reach. All turns of all runs lie in",
        "[benchmarks/results](../benchmarks/results/).",
    ]
    for name, task in TASKS.items():
        last = {row["task"]: row for row in rows.kept(task.file)}
        if name in last:
            lines += ["", f"## {task.title}", "", *table(name, last[name]), "", *told(task, last[name])]
    return "\n".join([*lines, *shares()]) + "\n"


def table(name: str, row: dict) -> list[str]:
    """The rates of a row, the fastest first, as lines of Markdown."""
    task, rates = TASKS[name], row["rates"]
    lines = [
        f"| | {task.unit} a second | lowest to highest | tapetum is faster by | asked |",
        "|---|---:|---:|---:|---:|",
    ]
    for who in sorted(rates, key=lambda who: -median(rates[who])):
        found = rates[who]
        middle, low, high = rows.ratios(rates[OURS], found)
        faster = "" if who == OURS else f"{middle:.3g} ({low:.3g} to {high:.3g})"
        bar = task.least if who == OURS else task.bars.get(who)
        asked = "" if bar is None else f"{bar:,.0f}" if who == OURS else f"{bar:.2g}"
        lines.append(
            f"| {who} | {median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} | {faster} | {asked} |"
        )
    return lines


def told(task: Task, row: dict) -> list[str]:
    """How a row was measured."""
    missing = "".join(f" Not measured: {name} ({why})." for name, why in row["missing"].items())
    settings = f" {row['settings']}." if row.get("settings") else ""
    versions = ", ".join(f"{name} {version}" for name, version in row.get("versions", {}).items())
    return [
        f"{task.note}{settings}{missing}",
        "",
        f"`python -m benchmarks.{task.command} --only {row['task']}`, {row['date']}, commit {row['commit']}; "
        f"{row['machine']}; {versions}.",
    ]
