"""A step that is tried: what it leaves behind when it is not taken, and what is done when memory runs out."""

import math

import torch
from torch import Tensor, nn

from tapetum.base import distributed
from tapetum.base.console import warn
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.parts.state import BatchNorm
from tapetum.train.feed import Feed
from tapetum.train.sharding import local

SHORT = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # torch's CPU and CUDA's libraries


class Shortage(TapetumError):
    """Memory ran out on one of several processes: all are to begin again with `micro` images at once."""

    def __init__(self, text: str, micro: int):
        super().__init__(text)
        self.micro = micro

    def __reduce__(self) -> tuple:  # it goes from a process to its parent
        return type(self), (str(self), self.micro)


class Statistics:
    """The normalisation statistics of a module, which alone change while a loss is computed."""

    def __init__(self, module: nn.Module):
        norms = [part for part in module.modules() if isinstance(part, BatchNorm)]
        self.live = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self.kept = [buffer.clone() for buffer in self.live]

    def keep(self) -> None:
        self._copy(self.kept, self.live)

    def restore(self) -> None:
        self._copy(self.live, self.kept)

    @torch.no_grad()
    def _copy(self, into: list[Tensor], of: list[Tensor]) -> None:
        if into:
            torch._foreach_copy_(into, of)


def finite(*numbers: Tensor) -> bool:
    """Whether all of these are numbers; those of a GPU are waited for."""
    return all(math.isfinite(float(number)) for number in numbers)


def sound(module: nn.Module) -> bool:
    """Whether all that a module remembers is finite; of split weights, what this process holds."""
    return all(bool(local(t).isfinite().all()) for t in module.state_dict().values())


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in SHORT)


def halve(feed: Feed, step: int, crowded: bool, apart: bool = False) -> None:
    """Give the step after `step` its images in smaller portions; the batch stays what it is.

    crowded: the network sees a portion as one, by its batch norms.
    apart: weights are split over processes, which takes no portions (sharding.check).
    Raises TrainingFailed where there is nothing to halve. Of several processes one cannot go back alone, for
    the others wait for it in the midst of the step: Shortage ends them all.
    """
    share, micro = feed.batch_size // distributed.world(), feed.micro_batch
    smaller = micro // 2
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    what = f"memory ran out in step {step + 1:,} with {micro} image{'s' * (micro > 1)} at once"
    if apart:
        raise TrainingFailed(
            f"{what} on one of the processes; --resume with --grad-checkpointing true, or on more processes."
        )
    if not smaller:
        raise TrainingFailed(
            f"{what}, the fewest there can be; a smaller --encoder or --image-size needs less."
        )
    if distributed.world() > 1:
        raise Shortage(f"{what} on one of the processes; --resume with --micro-batch {smaller}.", smaller)
    feed.micro_batch = smaller
    harm = f"; {parted(smaller, share)}" if crowded else ""
    warn(f"{what}, so it is done again with {smaller}; a batch still has {feed.batch_size}{harm}.")


def parted(micro: int, share: int) -> str:
    """What it means that a batch goes through a network with batch norms in portions."""
    return (
        f"batch normalisation inside the encoder sees {micro} views at a time, not all of {share} images: "
        "the result differs from that of the whole batch, the loss is the whole batch's"
    )
