"""The page docs/exactness.md: what repeats bit for bit, what within rounding, what not, and the proofs."""

from collections.abc import Iterator
from itertools import product

from benchmarks import golden, rows
from tapetum.train import alike

PAGE = rows.ROOT / "docs" / "exactness.md"
PROCESSES = rows.RESULTS / "processes.jsonl"
KILLS = rows.RESULTS / "kills.jsonl"
COLUMNS = [*product(("float64", "float32"), (2, 4), ("whole",)), ("float64", 2, "split")]
HEADS = "| float64, 2 | float64, 4 | float32, 2 | float32, 4 | float64, 2, split weights |"
RULE = f"|---|{'---:|' * len(COLUMNS)}"

HEAD = f"""# Exactness

What of a training repeats bit for bit, what repeats within rounding, and what does not. Written by
`python -m benchmarks.exactness` from the rows of two proofs; `make prove` runs them.

## Bit for bit

On a CPU, with the same number of threads, the same processor and the same torch, a run ends with the same
bits

- after any stop and resume: Ctrl-C, SIGTERM, SIGKILL in a step or in the midst of writing a checkpoint. The
  step after the last checkpoint begins as it would have begun. Weights, teacher, queue, centre, optimiser,
  every line of `metrics.jsonl` but its clock, and the exported encoder are the same;
- with any number of threads that read (`--workers`), with images held in memory or read ahead, and with
  another number of each after a resume.

A step is a function of the weights and of its number. Random numbers of views and losses are hashes of
seed, epoch, image and name; dropout's generator is seeded anew for each step.

## Within rounding: several processes

With the same `--batch-size`, which is that of all processes together, one process and many compute the same
loss, gradients, queue, centre, teacher and batch norm statistics, up to the order in which sums are made.
In float64 all differences stay below {alike.BAR:g} for every method; in float32, in which runs train,
rounding is so much coarser. All processes of one run hold the same bits as each other.

An epoch has as many whole batches as there are. The images left over wait for another epoch, which has
another order: no batch norm, queue or loss over the batch ever meets a smaller batch. Which images they are
does not depend on the number of processes. A batch must be a multiple of the number of processes and no
larger than the data.

A run that goes on with another number of processes goes on with the same images and views.

## Not exact

- **Threads of computation.** One and two threads add in another order. A checkpoint notes the number, and a
  resume with another says so.
- **Another processor or another torch.** Kernels are chosen by the processor. The curves below are kept to
  1e-6, in float64; float32 and bf16 runs drift apart.
- **float32 and bf16 over processes.** The differences of a step are those of the table, and training makes
  them grow as it does with any rounding.
- **Dropout and drop path over processes.** Each process draws for its own images, so other numbers of
  processes drop other parts. A resume with the same number is exact.
- **GPUs.** Some of their kernels add in any order. Nothing is promised there beyond what torch promises.
"""


def newest(file_rows: list[dict], *keys: str) -> dict[tuple, dict]:
    """The last row of each of what the keys tell apart."""
    return {tuple(row[key] for key in keys): row for row in file_rows}


def told(gap: float | None) -> str:
    """A difference as the table shows it."""
    return "" if gap is None else "none" if gap == 0 else f"{gap:.0e}".replace("e-0", "e-")


def processes() -> Iterator[str]:
    """The tables of the proof over processes: by method, and by what is compared."""
    given = [{"way": "whole", **row} for row in rows.kept(PROCESSES)]
    found = newest(given, "row", "dtype", "processes", "way")
    if not found:
        yield "Not measured yet."
        return
    methods = sorted({name for name, *_ in found})
    exact = [row for (_, dtype, *_), row in found.items() if dtype == "float64"]
    good = sum(max(row[sort]["gap"] for sort in alike.SORTS if sort in row) < alike.BAR for row in exact)
    same = sum(row["apart"]["gap"] == 0 for row in found.values())
    facts = sorted({f"{row['commit']} on {row['machine']}" for row in found.values()})
    yield f"In float64 {good} of {len(exact)} are below {alike.BAR:g}; in {same} of {len(found)} all"
    yield f"processes hold the same bits. Measured at {'; '.join(facts)}."
    yield f"\n| largest difference of all methods {HEADS}\n{RULE}"
    for sort in alike.SORTS:
        cells = []
        for column in COLUMNS:
            group = {name: row for (name, *rest), row in found.items() if tuple(rest) == column}
            gaps = {name: row[sort]["gap"] for name, row in group.items() if sort in row}
            worst = max(gaps, key=lambda name: gaps[name], default="")
            cells.append(f"{told(gaps[worst])} ({worst})" if gaps else "")
        yield f"| {sort} | {' | '.join(cells)} |"
    yield f"\n| method {HEADS}\n{RULE}"
    for name in methods:
        measured = [found.get((name, *column)) for column in COLUMNS]
        largest = [max(row[s]["gap"] for s in alike.SORTS if s in row) if row else None for row in measured]
        yield f"| {name} | {' | '.join(map(told, largest))} |"


def kills() -> Iterator[str]:
    """The table of killed runs, and what checkpoints cost."""
    found = newest(rows.kept(KILLS), "row", "point")
    names = list(dict.fromkeys(name for name, _ in found if name != "cost"))
    if names:
        yield "| method | killed | bit-equal at the end | while a checkpoint was written | went on at steps |"
        yield "|---|---:|---:|---:|---|"
    else:
        yield "Not measured yet."
    for name in names:
        own = [row for (row_name, _), row in found.items() if row_name == name]
        writing = sum(row["killed"].startswith("writing") for row in own)
        steps = ", ".join(map(str, sorted({row["went_on_at"] for row in own})))
        yield f"| {name} | {len(own)} | {sum(not row['differs'] for row in own)} | {writing} | {steps} |"
    if row := found.get(("cost", 0)):
        yield ""
        yield (
            f"A checkpoint each epoch makes a run {row['ratio'] - 1:+.1%} longer ({row['least'] - 1:+.1%} to "
            f"{row['most'] - 1:+.1%}; with and without in turn, {len(row['with'])} times each): SimCLR,"
        )
        yield (
            f"{row['epochs']} epochs of {row['images']:,} images of 32 pixels, a run of "
            f"{min(row['without']):.0f} s; a checkpoint of {row['megabytes']} MB takes "
            f"{row['seconds_each']} s."
        )


def curves() -> Iterator[str]:
    """The golden curves' ends."""
    yield "| method | first loss | last loss |\n|---|---:|---:|"
    for name, losses in golden.kept().items():
        yield f"| {name} | {losses[0]:.6f} | {losses[-1]:.6f} |"


PROCESSES_TEXT = f"""
## Every method in 2 and 4 processes beside one

{alike.STEPS} steps of 16 out of {alike.IMAGES} made images, two steps an epoch; small networks, SGD, gloo.
Compared are the loss and every parameter's gradient of each step, and in the end every parameter (teachers,
too) and buffer (queues, centres, batch norm statistics): the largest difference of a tensor as a share of
its largest value, but of no less than a thousandth of the largest value of all tensors of its sort, since
the gradient of a bias before a batch norm is nought but for rounding. In the table stands the largest of a
method. timm resamples position embeddings in float32 whatever they are; for the comparison it does so in
their own precision. *Split weights*: `--parallel sharded`, torch's FSDP2 (docs/clusters.md).
In float32 rounding lets k-means group the 41 images into other clusters, from which deepclusterv2 goes on.
"""
KILLS_TEXT = """
## Killed and resumed

SIGKILL at random points: half at a random moment in a random step, half at a random place in writing a
checkpoint (a file cut off, before or after the facts, when it has its name, while an older one is removed).
What is compared: all checkpoints, the encoder, `metrics.jsonl` without its clock, `skipped.jsonl`. The
command is `python -m benchmarks.kills`.
"""
CURVES_TEXT = """
## Golden curves

The losses of five methods over 50 steps are kept in tests/golden/curves.json, and a test compares them with
a relative tolerance of 1e-6: float64, one thread, small networks, made images, views of whole pixels.
`python -m benchmarks.golden` says how far a machine's are from them, and when to write them anew. On the
machine that wrote them torch's kernels for AVX-512, for AVX2 and for neither, and MKL's for SSE4.2, agree to
3e-13.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, PROCESSES_TEXT, *processes(), KILLS_TEXT, *kills(), CURVES_TEXT, *curves()]
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def write() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    write()
