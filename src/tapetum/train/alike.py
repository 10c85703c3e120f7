"""Whether a method learns in several processes what it learns in one: all that it holds, compared."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import distributed
from tapetum.base.torchvision_compat import timm
from tapetum.methods.method import Method
from tapetum.train import launch, sandbox, sharding, sync_norm

STEPS, RATE = 3, 0.05
IMAGES = 41  # two batches of 16 an epoch; nine wait for another, and no number of processes divides 41
WAYS = ("whole", "split")  # how several processes may hold weights
SORTS = ("loss", "gradients", "parameters", "buffers")
BAR = 1e-9  # in float64
NOUGHT = 1e-3  # of a sort's largest value: what is smaller may be nought but for rounding

Gap = tuple[float, str]  # a relative difference, and whose


def learnt(kind: type[Method], dtype: torch.dtype = torch.float64, way: str = "whole") -> dict[str, Tensor]:
    """The loss and all gradients of a few steps in this group of processes, and what the method then holds:
    parameters (a teacher's, too) and buffers. A name begins with its sort; what is split is put together."""
    data = sandbox.source(IMAGES)
    method = sandbox.build(kind, data=data).to(dtype)
    if distributed.world() > 1:
        sync_norm.synchronise(method)
    if way == "split":
        sharding.shard(method, torch.device("cpu"))
    steps: list[dict[str, Tensor]] = []

    def note() -> None:
        given = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        steps.append({name: sharding.full(grad).clone() for name, grad in given.items()})

    with (
        unrounded_positions()
    ):  # SGD, as AdamW makes weights move where a gradient is nought but for rounding
        numbers = sandbox.train(method, STEPS, lr=RATE, data=data, by="sgd", before=note)
    found = {f"loss of step {i}": torch.tensor(n["loss"], dtype=torch.float64) for i, n in enumerate(numbers)}
    found |= {
        f"gradients {name} of step {i}": grad for i, step in enumerate(steps) for name, grad in step.items()
    }
    found |= {f"parameters {name}": sharding.full(p.detach()) for name, p in method.named_parameters()}
    return found | {f"buffers {name}": buffer for name, buffer in method.named_buffers()}


@contextmanager
def unrounded_positions() -> Iterator[None]:
    """ViTs resample position embeddings for small crops in their own precision for a while. timm does it in
    float32 whatever they are, and rounds each process's gradient by itself."""

    def resample(posemb: Tensor, new_size: list[int], old_size: list[int], num_prefix_tokens: int) -> Tensor:
        if tuple(new_size) == tuple(old_size):
            return posemb
        prefix, places = posemb.tensor_split([num_prefix_tokens], 1)
        grid = places.unflatten(1, tuple(old_size)).permute(0, 3, 1, 2)  # [1, D, H, W]
        grid = F.interpolate(grid, tuple(new_size), mode="bicubic", antialias=True)
        return torch.cat([prefix, grid.flatten(2).mT], 1)

    vit = timm.models.vision_transformer
    theirs, vit.resample_abs_pos_embed = vit.resample_abs_pos_embed, resample
    try:
        yield
    finally:
        vit.resample_abs_pos_embed = theirs


def gaps(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Gap]:
    """Of each sort the tensor that differs most: by its largest difference as a share of its largest value.

    Many gradients are nought by rights, as those of a bias before a batch norm, and hold only rounding. So no
    tensor is measured by less than a thousandth of the largest value of its sort.
    """
    found = {}
    for sort in SORTS:
        names = sorted(n for n in {*one, *other} if n.startswith(f"{sort} "))
        largest = {n: float(one[n].double().abs().max()) for n in names if n in one and one[n].numel()}
        least = NOUGHT * max((v for n, v in largest.items() if one[n].is_floating_point()), default=1.0)
        each = {n: _apart(one.get(n), other.get(n)) / max(largest.get(n, 0.0), least, 1e-300) for n in names}
        if each:
            worst = max(each, key=lambda n: each[n])
            found[sort] = (each[worst], worst)
    return found


def _apart(one: Tensor | None, other: Tensor | None) -> float:
    """The largest difference; infinite where one is missing, has another shape or is no number."""
    if one is None or other is None or one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    apart = float((one.double() - other.double()).abs().max())
    return apart if apart < float("inf") else float("inf")  # what is no number, too


def _share(names: list[str], dtype: str, way: str, folder: str) -> None:
    """What each of several processes does for `compared`."""
    from tapetum.methods import find

    torch.set_num_threads(1)
    with launch.group():
        for i, name in enumerate(names):
            found = learnt(find(name), getattr(torch, dtype), way)
            own = {n: t.contiguous().clone() for n, t in found.items()}
            save_file(own, Path(folder) / f"{i}-{distributed.rank()}.safetensors")


def compared(
    names: list[str], world: int = 2, dtype: str = "float64", way: str = "whole"
) -> dict[str, dict[str, Gap]]:
    """How far each method is in `world` processes from what it is in one, by sort; and under "apart" how
    far apart the processes themselves are. way: of WAYS."""
    from tapetum.methods import find

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        launch.spawn(world, _share, {"names": names, "dtype": dtype, "way": way, "folder": folder})
        for i, name in enumerate(names):
            one = learnt(find(name), getattr(torch, dtype))
            first, *others = (load_file(Path(folder) / f"{i}-{rank}.safetensors") for rank in range(world))
            between = [max(gaps(first, other).values()) for other in others]
            found[name] = {**gaps(one, first), "apart": max(between, default=(0.0, ""))}
    return found


def wrong(names: list[str], world: int = 2, way: str = "whole") -> dict[str, str]:
    """A sentence for each method that in float64 is not the same in `world` processes as in one, within 1e-9
    of every loss, gradient, parameter and buffer, or not the same in all processes bit for bit."""
    said, how = {}, " with split weights" if way == "split" else ""
    for name, found in compared(names, world, way=way).items():
        between, odd = found.pop("apart")
        gap, worst = max(found.values())
        if gap >= BAR:
            said[name] = (
                f"on {world} processes{how} {worst} differs by {gap:.2g} of its size from one "
                "process. Is the loss a sum over images rather than a mean, or does it need what the other "
                "process holds (base.distributed.gather)?"
            )
        elif between:
            said[name] = f"{odd} is not the same in all of {world} processes: it differs by {between:.2g}."
    return said
