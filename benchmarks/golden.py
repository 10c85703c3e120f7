"""Loss curves of five methods over 50 steps, kept in tests/golden/curves.json; a test compares them.

    python -m benchmarks.golden            # how far this machine's curves are from the kept ones
    python -m benchmarks.golden --write    # keep this machine's instead

Write them anew only after a change that is meant to change what is learnt: of a method, a view, the
optimiser, the schedules, the order of images, the initial weights. Say in the commit what changed and why.
A curve that moves with any other change is a mistake that no other test has seen.

Small networks learn the easy images of tapetum.train.sandbox on one thread, in float64, from weights that are
drawn in float64, too: torch draws float32 weights by other instructions on other processors.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import rows
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.train import sandbox

FILE = rows.ROOT / "tests" / "golden" / "curves.json"
METHODS = ("simclr", "byol", "swav", "dino", "mae")
STEPS = 50
TOLERANCE = 1e-6  # relative


@contextmanager
def exactly() -> Iterator[None]:
    """One thread computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def made(name: str, **settings: Any) -> Method:
    """A small method in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return sandbox.build(find(name), **settings)
    finally:
        torch.set_default_dtype(torch.float32)


def curve(name: str, **settings: Any) -> list[float]:
    """The loss of each step."""
    with exactly():
        return [numbers["loss"] for numbers in sandbox.train(made(name, **settings), STEPS)]


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference of two curves."""
    if len(one) != len(other):
        return float("inf")
    return max(abs(a - b) / max(abs(a), abs(b)) for a, b in zip(one, other))


def kept() -> dict[str, list[float]]:
    """The curves that were kept, by method."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep this machine's curves instead")
    asked = parser.parse_args()
    before, now = kept(), {name: curve(name) for name in METHODS}
    for name, losses in now.items():
        gap = f"{apart(before[name], losses):.1g} from the kept one" if name in before else "new"
        print(f"{name}: {losses[0]:.6g} to {losses[-1]:.6g}, {gap}")
    if asked.write:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(f'"{name}": {json.dumps(losses)}' for name, losses in now.items())
        FILE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
