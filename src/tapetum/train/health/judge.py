"""From the history of a run's numbers to a verdict in words: a pure function, and all its thresholds.

A history is a list of rows, oldest first, one for each look: what `probe.Probe.measure` gives, and of
the steps since the look before `overflows` (how many), `steps`, `reading` (the share of the time spent
waiting for images to be read) and, where training broke, `broken` (a sentence).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

# Thresholds, chosen on the runs of benchmarks/health.py.
EARLY = 50  # steps before which collapsing and a frozen encoder cannot be told from a beginning
LATER = 200  # and a loss that stands still; triplets and memory banks begin slowly
GROWN = 3.0  # times that weights grow between two looks of the first 200 steps
BACK = 0.5  # share of what the loss had fallen by that it has lost again
OVERFLOWING = 0.5  # share of the steps whose gradient overflows
SAME = 0.5  # grey levels by which images or pixels differ at least
ABOVE_CHANCE = 3.0  # standard errors by which neighbours name classes better than the commonest class does
TOLD_APART = (
    0.01,
    0.025,
)  # share of the loss's fall that mixing up views costs, before step 100 and from then on
TOLD_LESS = 0.05  # the same, where it costs less than SHRUNK of what it cost at the start
SHRUNK = 0.5
FALLEN = 0.05  # share of the loss that counts as a fall
CONTRACTED = 0.25, 0.002  # share of the spread of directions at the start; and how little it is
STARVED = 0.5  # share of the time
LEARNT = 3.0  # standard errors by which a loss falls or a gap grows


@dataclass(frozen=True)
class Verdict:
    """A word, why, and what to try; `sick` unless the run learns or has hardly begun."""

    word: str
    why: str = ""
    attempt: str = ""

    @property
    def sick(self) -> bool:
        return self.word not in ("learning", "beginning")

    @property
    def stops(self) -> bool:
        """Whether going on is of no use; a starved run learns, if slowly."""
        return self.sick and self.word != "starved for data"

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.why else self.word


def judge(history: Sequence[Row]) -> Verdict:
    """The first sickness that the history shows, the gravest first; else `learning`, or `beginning` where it
    is too early to say."""
    history = [row for row in history[:-1] if row.get("finite")] + [history[-1]]
    for rule in RULES:
        if found := rule(history):
            return found
    if history[-1]["step"] < EARLY:
        return Verdict("beginning")
    return Verdict("learning", progress(history))


def progress(history: Sequence[Row]) -> str:
    """What a learning run shows for it."""
    first, now = history[0], history[-1]
    said = [f"loss {first['loss']:.4g} -> {now['loss']:.4g}"]
    if "knn" in now:
        said.append(f"neighbours name {first.get('knn', 0):.1%} -> {now['knn']:.1%} rightly")
    return ", ".join([*said, f"rank {first['rank']:.0f} -> {now['rank']:.0f} of {now['dim']:.0f}"])


def comparable(history: Sequence[Row]) -> list[Row]:
    """The looks at which the loss asked for what it asks for now: where a method sets its targets anew each
    epoch (clusters, say), the loss jumps without telling anything."""
    return [row for row in history if row.get("targets", 0) == history[-1].get("targets", 0)]


# ---- diverging ----


def broke(history: Sequence[Row]) -> Verdict | None:
    now = history[-1]
    if said := now.get("broken"):
        return Verdict("diverging", said, now.get("attempt", LOWER))
    if not now["finite"]:
        return Verdict("diverging", "the features or the loss of the watched images are not finite", LOWER)
    return None


LOWER = "A tenth of --optimizer.lr, a longer --optimizer.warmup, and --optimizer.clip 1 usually cure it."


def grew(history: Sequence[Row]) -> Verdict | None:
    """Weights that grew threefold within a few steps are no longer those of a network made to train."""
    for before, after in itertools.pairwise(history):
        times = after.get("weights", 0) / max(before.get("weights", 1), 1e-12)
        if times > GROWN and after["step"] - before["step"] <= 100:
            since = f"between steps {before['step']} and {after['step']}"
            return Verdict("diverging", f"the weights grew {times:.3g} times as long {since}", LOWER)
    return None


def lost(history: Sequence[Row]) -> Verdict | None:
    """The loss is back where it was before it fell."""
    losses = [row["loss"] for row in comparable(history)]
    low = min(range(len(losses)), key=lambda i: losses[i])
    high = max(losses[: low + 1])
    fell = high - losses[low]
    if fell > FALLEN * abs(high) and losses[-1] > high + BACK * fell:
        why = f"the loss fell from {high:.4g} to {losses[low]:.4g} and is {losses[-1]:.4g} now"
        return Verdict("diverging", why, LOWER)
    return None


def overflowed(history: Sequence[Row]) -> Verdict | None:
    now = history[-1]
    if now.get("overflows", 0) > OVERFLOWING * max(now.get("steps", 0), 1):
        why = f"the gradient overflows in {now['overflows']:.0f} of {now['steps']:.0f} steps"
        return Verdict("diverging", why, "Train with --precision bf16 or fp32. " + LOWER)
    return None


# ---- flat ----


def frozen(history: Sequence[Row]) -> Verdict | None:
    """Not one weight of the encoder has changed in a whole interval, nor before, though it was to learn."""
    now, first = history[-1], history[0]
    same = now["encoder_weights"] == first["encoder_weights"]
    if now["step"] >= EARLY and same and not now.get("resting"):
        why = f"no weight of the encoder has changed in {now['step'] - first['step']} steps"
        return Verdict("flat", why, "Look for requires_grad_(False), a .detach() or a rate of 0 before it.")
    return None


def alike(history: Sequence[Row]) -> Verdict | None:
    """There is nothing in the images that could be learnt."""
    now = history[-1]
    if now["differ"] >= SAME and now["within"] >= SAME:
        return None
    if now["differ"] < SAME:
        why = f"the images are all alike: they differ by {now['differ']:.2g} grey levels"
    else:
        why = f"each image is of one colour: its pixels differ by {now['within']:.2g} grey levels"
    return Verdict(
        "flat", why, "Look at them: `tapetum preview DATA`; --levels sets the range of deep images."
    )


def still(history: Sequence[Row]) -> Verdict | None:
    """The loss has not fallen, and it does not matter more than at first which views belong together."""
    first, now = comparable(history)[0], history[-1]
    ends = (
        range(len(history)) if "targets" in now else [len(history) - 1]
    )  # a fall counts, whatever came after
    pairs = [(before, history[i]) for i in ends for before in comparable(history[: i + 1])[:-1]]
    if now["step"] < LATER or not pairs:
        return None
    fell = max(fall(before["losses"], after["losses"]) for before, after in pairs) > LEARNT
    learnt = False
    if "gap" in now:
        noise = (now["gap_error"] ** 2 + first.get("gap_error", 0) ** 2) ** 0.5
        learnt = now["gap"] - first.get("gap", 0) > LEARNT * noise
    if fell or learnt:
        return None
    why = f"the loss is {now['loss']:.4g} after {now['step']} steps, as at first"
    attempt = (
        "Another --optimizer.lr (ten times more, ten times less), or --method.temperature where there is one."
    )
    return Verdict("flat", why, attempt)


def fall(before: Sequence[float], after: Sequence[float]) -> float:
    """By how many standard errors the losses of the same images fell."""
    steps = [a - b for a, b in zip(before, after)]
    mean = sum(steps) / len(steps)
    variance = sum((x - mean) ** 2 for x in steps) / max(len(steps) - 1, 1)
    return mean / max((variance / len(steps)) ** 0.5, 1e-6 * abs(before[0]), 1e-12)


# ---- labels ----


def unlabelled(history: Sequence[Row]) -> Verdict | None:
    """The loss reads labels, and they say nothing, or nothing that shows in the images."""
    now, word = history[-1], "not learning from its labels"
    if not now["reads_labels"]:
        return None
    if now["classes"] < 2:
        what = "there is only one class" if now["classes"] else "no image has a label"
        return Verdict(word, what, "Give --labels with at least two classes, or a method that needs none.")
    # the first look from which it can be said; later ones may show labels that were learnt by heart
    look = next((row for row in history if row["step"] >= EARLY), None)
    if look is None:
        return None
    chance, count = look["commonest"], look["labelled"]
    error = max(chance * (1 - chance) / count, 1e-12) ** 0.5
    if look["knn"] < chance + ABOVE_CHANCE * error:
        why = f"neighbours name {look['knn']:.1%} rightly, guessing {chance:.1%}"
        return Verdict(word, why, "Look whether labels belong to their images: `tapetum preview DATA`.")
    return None


# ---- collapsing ----


def merged(history: Sequence[Row]) -> Verdict | None:
    """The loss falls, but it is the same for views of different images: all images are one to it."""
    same = comparable(history)
    first, now = same[0], same[-1]
    if now["step"] < EARLY or "gap" not in now:
        return None
    high = max(row["loss"] for row in same)
    fell = high - now["loss"]
    least = TOLD_APART[now["step"] >= 2 * EARLY]
    if now["gap"] < SHRUNK * first.get("gap", 0):
        least = TOLD_LESS
    if fell <= FALLEN * abs(high) or abs(now["gap"]) >= least * fell:
        return None
    why = (
        f"the loss fell from {high:.4g} to {now['loss']:.4g}, and putting views of different images together "
    )
    return collapse(history, why + f"changes it by {now['gap']:.1g}")


def contracted(history: Sequence[Row]) -> Verdict | None:
    """The features of all images draw together."""
    first, now = history[0], history[-1]
    if now["step"] >= EARLY and now["spread"] < min(CONTRACTED[0] * first["spread"], CONTRACTED[1]):
        return collapse(
            history, f"the spread of the features went from {first['spread']:.2g} to {now['spread']:.2g}"
        )
    return None


def collapse(history: Sequence[Row], why: str) -> Verdict:
    """The words for a collapse, with what is known of its cause."""
    now = history[-1]
    said = [f"rank {now['rank']:.3g} of {now['dim']:.0f}", why]
    attempt = "Something must keep images apart: a predictor and a stop-gradient, negatives, or a spread."
    if "prototypes_used" in now:
        said.append(f"{now['prototypes_used']:.1%} of the prototypes are anybody's nearest")
        attempt = "Look whether the teacher's centre follows and its temperature is below the student's."
    elif "teacher" in now:
        attempt = "Look whether a predictor is there and whether the teacher sees the student's images."
    return Verdict("collapsing", ", ".join(said), attempt)


# ---- starved ----


def starved(history: Sequence[Row]) -> Verdict | None:
    now = history[-1]
    if now["step"] >= EARLY and now.get("reading", 0) > STARVED:
        why = f"{now['reading']:.0%} of the time goes into waiting for images to be read"
        return Verdict("starved for data", why, "`tapetum pack` the images once, or give more --workers.")
    return None


RULES: tuple[Callable[[Sequence[Row]], Verdict | None], ...] = (
    broke,
    alike,
    frozen,
    grew,
    overflowed,
    unlabelled,
    merged,
    contracted,
    lost,
    still,
    starved,
)
