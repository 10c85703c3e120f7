"""Loss curves of five methods over 50 steps, kept in tests/golden/curves.json; a test compares them.

    python -m benchmarks.golden            # how far this machine's curves are from the kept ones
    python -m benchmarks.golden --write    # keep this machine's instead

Write them anew only after a change that is meant to change what is learnt: of a method, the optimiser, the
schedules, the order of images, the random numbers, the initial weights. Say in the commit what changed and
why. A curve that moves with any other change is a mistake that no other test has seen.

Small networks learn the easy images of tapetum.train.sandbox on one thread in float64. What depends on the
processor is kept out: weights are drawn in float64, as torch draws those of float32 by other instructions on
other processors, and views are made of whole numbers, without resampling.
"""

import itertools
import json
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import rows
from tapetum.methods import find
from tapetum.train import feed, sandbox
from tapetum.views import Draw, nest
from tapetum.views.operation import View

FILE = rows.ROOT / "tests" / "golden" / "curves.json"
METHODS = ("simclr", "byol", "swav", "dino", "mae")
STEPS = 50
TOLERANCE = 1e-6  # relative


def exact_views(tree: Any, pixels: Tensor, size: Tensor, rng: Draw, image_size: int) -> tuple[Any, Any]:
    """In place of `views.draw`: of each view in a nest a square of the image, moved around its borders by
    whole pixels, mirrored or not, darkened; float64 [B, C, S, S]. And transforms, which none here needs."""
    numbers = itertools.count()
    batch, side = len(pixels), pixels.shape[-1]

    def made(view: View) -> Tensor:
        u = rng.image(f"golden {next(numbers)}", (4,)).double()  # [B, 4]
        at = torch.arange(view.size(image_size))
        down, across = ((at + (16 * u[:, [k]]).long()) % side for k in (0, 1))  # [B, S]
        across = torch.where(u[:, [2]] < 0.5, across, across.flip(1))
        image = torch.arange(batch)[:, None, None]
        x = pixels.permute(0, 2, 3, 1)[image, down[:, :, None], across[:, None]]  # [B, S, S, C]
        light = (8 + (8 * u[:, 3]).floor()).view(-1, 1, 1, 1)  # of 16
        return (x.double() / 255 * light / 16).permute(0, 3, 1, 2)

    return nest.mapped(tree, made), nest.mapped(tree, lambda _: torch.eye(3).repeat(batch, 1, 1))


def curve(name: str) -> list[float]:
    """The loss of each step."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        method = sandbox.build(find(name))
        with mock.patch.object(feed, "draw", exact_views):
            return [numbers["loss"] for numbers in sandbox.train(method, STEPS)]
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference of two curves."""
    if len(one) != len(other):
        return float("inf")
    return max(abs(a - b) / max(abs(a), abs(b)) for a, b in zip(one, other))


def kept() -> dict[str, list[float]]:
    """The curves that were kept, by method."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main(given: list[str] | None = None) -> None:
    """Compare this machine's curves with those that were kept, or keep them."""
    parser = rows.parser(__doc__)
    parser.add_argument("--write", action="store_true", help="keep this machine's curves instead")
    asked = parser.parse_args(given)
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
