"""Every method in 2 and 4 processes beside one, weights whole or split: how far apart is what they learn?

    python -m benchmarks.processes                       # float64 and float32, all methods
    python -m benchmarks.processes --only simclr,dino    # some of them
    python -m benchmarks.processes --table               # only rewrite docs/exactness.md

Small networks, gloo, three steps of 16 out of 41 images; tapetum.train.alike says what is compared and how.
What is done stays done, until the code of training changes.
"""

import torch

from benchmarks import exactness, rows
from tapetum.methods import names
from tapetum.train import alike

AT_ONCE = 8  # methods that share one start of processes


def measured(methods: list[str], world: int, dtype: str, way: str) -> list[dict]:
    """A row for each method: of every sort the largest relative difference, and whose it is."""
    found = alike.compared(methods, world, dtype, way)
    return [
        {"row": name, "processes": world, "dtype": dtype, "way": way, "steps": alike.STEPS}
        | {sort: {"gap": float(f"{gap:.2g}"), "worst": worst} for sort, (gap, worst) in gaps.items()}
        for name, gaps in found.items()
    ]


def main(given: list[str] | None = None) -> None:
    """Measure what is asked and not yet done."""
    parser = rows.parser(__doc__)
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--table", action="store_true", help="only rewrite docs/exactness.md")
    asked = parser.parse_args(given)
    wanted = rows.chosen(asked.only, names()) if asked.only else names()
    torch.set_num_threads(1)
    code = rows.fingerprint("base", "encoders", "methods", "parts", "train", "views")
    for dtype, world, way in [] if asked.table else exactness.COLUMNS:
        done = {
            row["row"]
            for row in rows.kept(exactness.PROCESSES)
            if (row["processes"], row["dtype"], row.get("way", "whole"), row["code"])
            == (world, dtype, way, code)
        }
        rest = [name for name in wanted if name not in done]
        for first in range(0, len(rest), AT_ONCE):
            for row in measured(rest[first : first + AT_ONCE], world, dtype, way):
                rows.keep(exactness.PROCESSES, {**row, "code": code, **rows.facts()})
                print(row, flush=True)
    exactness.write()


if __name__ == "__main__":
    main()
