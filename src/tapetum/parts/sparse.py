"""An ordinary ConvNet that computes only where an image is shown, as if it were sparse. arXiv:2301.03580"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules import instancenorm, pooling

from tapetum.base.distributed import total
from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm
from tapetum.encoders.chunks import by_chunks
from tapetum.encoders.encoder import Encoder
from tapetum.parts.state import BatchNorm

SPREADING = (nn.Conv2d, pooling._MaxPoolNd, pooling._AvgPoolNd)
MIXING = (
    nn.GroupNorm,
    instancenorm._InstanceNorm,
    timm.layers.grn.GlobalResponseNorm,
    timm.layers.SEModule,
    timm.layers.EffectiveSEModule,
    timm.models._efficientnet_blocks.SqueezeExcite,
    timm.models.senet.SEModule,
    timm.layers.EcaModule,
    timm.layers.CecaModule,
    timm.layers.GatherExcite,
    timm.layers.GlobalContext,
)
Mask = Callable[[Tensor], Tensor | None]


@contextmanager
def sparse(net: nn.Module, shown: Tensor) -> Iterator[None]:
    """Within it `net` sees images only where they are shown [B, 1, G, G] bool, G being its last resolution.

    What spreads (convolution, pooling) gets zeros for hidden places, those of the image among them, and batch
    norm counts shown places alone, over all processes. Weights and their names stay as they are. What the net
    gives at hidden places means nothing. Raises TapetumError for nets that compute anew in the backward pass.
    """
    if any(getattr(module, "computed_anew", False) for module in net.modules()):
        raise TapetumError(
            "grad_checkpointing computes blocks anew in the backward pass, where this method hides no places "
            "of a ConvNet any more; say --grad-checkpointing false, or use a masked method for ViTs."
        )
    mask = partial(at, shown, {})
    with ExitStack() as stack:
        for module in net.modules():
            if isinstance(module, SPREADING):
                hook = module.register_forward_pre_hook(lambda _, given: (masked(given[0], mask), *given[1:]))
                stack.callback(hook.remove)
            elif isinstance(module, BatchNorm):
                module.forward = partial(batch_norm, module, mask)  # type: ignore[method-assign]
                stack.callback(delattr, module, "forward")
        yield


def shown_maps(
    encoder: Encoder, x: Tensor, shown: Tensor, names: Iterable[str] = ()
) -> tuple[Tensor, list[Tensor]]:
    """The last map [B, D, G, G] of an encoder that sees images x only where they are shown [B, 1, G, G] bool,
    and what its modules of these names give."""

    def seen(x: Tensor, shown: Tensor) -> tuple[Tensor, list[Tensor]]:
        with sparse(encoder.net, shown), recorded(encoder.net, names) as found:
            return encoder.maps(x), list(found.values())

    return by_chunks(encoder, seen, x, shown)


def at(shown: Tensor, known: dict, x: Tensor) -> Tensor | None:
    """The mask [B, 1, H, W] at the resolution of x [B, C, H, W], kept in `known`; None for what is pooled."""
    grid, side = shown.shape[-1], x.shape[-1]
    if x.ndim != 4 or side < grid:
        return None
    if side % grid:
        raise TapetumError(
            f"maps of {side} places a side are no multiple of the last, of {grid}; take images whose side "
            "the encoder's stride divides."
        )
    if (side, x.dtype) not in known:
        known[side, x.dtype] = enlarged(shown, side).to(x.dtype)
    return known[side, x.dtype]


def enlarged(mask: Tensor, side: int) -> Tensor:
    """A mask [B, 1, G, G] at a resolution that is a multiple of G: [B, 1, side, side]."""
    times = side // mask.shape[-1]
    return mask.repeat_interleave(times, 2).repeat_interleave(times, 3)


def masked(x: Tensor, mask: Mask) -> Tensor:
    """x with zeros at hidden places."""
    there = mask(x)
    return x if there is None else x * there


def batch_norm(norm: BatchNorm, mask: Mask, x: Tensor) -> Tensor:
    """Batch norm of x [B, C, H, W] with, in training, the statistics of shown places; zero elsewhere."""
    there = mask(x)
    if there is None or not norm.training:
        return masked(type(norm).forward(norm, x), mask)
    wide = x if x.dtype == torch.float64 else x.float()
    there = there.to(wide.dtype)
    count = total(there.sum())
    mean = total((wide * there).sum((0, 2, 3))) / count  # [C]
    spread = (wide - mean[:, None, None]) * there
    variance = total(spread.square().sum((0, 2, 3))) / count
    if norm.track_running_stats:
        follow(norm, mean, variance * count / (count - 1).clamp(min=1))
    y = spread * (variance + norm.eps).rsqrt()[:, None, None]
    if norm.affine:
        y = y * norm.weight[:, None, None] + norm.bias[:, None, None] * there
    y = y.to(x.dtype)
    for name in ("drop", "act"):  # timm's batch norm with activation
        y = getattr(norm, name)(y) if hasattr(norm, name) else y
    return y


@torch.no_grad()
def follow(norm: BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics of a batch norm towards those of a batch [C]."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None and norm.running_var is not None
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean), share)
    norm.running_var.lerp_(variance.to(norm.running_var), share)


@contextmanager
def recorded(net: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Within it, what the modules of these names give is found in the dictionary under their names."""
    found: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, given: tuple, out: Tensor) -> None:
        found[name] = out

    with ExitStack() as stack:
        for name in names:
            stack.callback(net.get_submodule(name).register_forward_hook(partial(keep, name)).remove)
        yield found


@torch.no_grad()
def probed(encoder: Encoder, names: Iterable[str] = ()) -> tuple[torch.Size, dict[str, torch.Size]]:
    """Shapes [C, H, W] of an encoder's last map and of what its modules of these names give."""
    was, device = encoder.training, encoder.mean.device
    x = torch.zeros(1, len(encoder.spec.mean), encoder.image_size, encoder.image_size, device=device)
    with recorded(encoder.net, names) as found:
        last = encoder.eval().maps(x.to(encoder.mean))
    encoder.train(was)
    return last.shape[1:], {name: y.shape[1:] for name, y in found.items()}


def last_map(encoder: Encoder) -> torch.Size:
    """The shape [C, G, G] of a ConvNet's last map, whose places can be hidden.

    Raises TapetumError for a network that cannot be made sparse, and for images that are too small for it.
    """
    if encoder.patch or attends(encoder.net):
        raise TapetumError(f"{encoder.name} has attention; only ConvNets can be made sparse, see resnet50.")
    if wrong := next((m for m in encoder.net.modules() if isinstance(m, MIXING)), None):
        raise TapetumError(
            f"{encoder.name} has {type(wrong).__name__}, which mixes places and cannot be made sparse; "
            "take a ConvNet with batch or layer norm alone, such as resnet50 or convnext_tiny."
        )
    shape, _ = probed(encoder)
    if shape[1] < 2:
        raise TapetumError(
            f"of images of {encoder.image_size} pixels {encoder.name} leaves one place, and nothing could be "
            "hidden; take larger images, or a smaller stride with --encoder.stem or --encoder.patch_size."
        )
    with sparse(encoder.net, torch.ones(1, 1, *shape[1:], dtype=torch.bool, device=encoder.mean.device)):
        probed(encoder)  # raises where resolutions do not fit
    return shape


def attends(net: nn.Module) -> bool:
    """Whether any of its modules is a kind of attention, by their names."""
    return any(word in type(m).__name__ for m in net.modules() for word in ("Attention", "Attn"))


def pyramid(encoder: Encoder, most: int = 4) -> dict[str, torch.Size]:
    """The modules that give a ConvNet's last map at each resolution, coarsest first, and the maps' shapes
    [C, H, W]; at most so many. Raises TapetumError where the network does not say where its stages end."""
    names = [stage["module"] for stage in getattr(encoder.net, "feature_info", [])]
    _, shapes = probed(encoder, names)
    last = {shape[1]: name for name, shape in shapes.items()}  # the last of each resolution
    if not last:
        raise TapetumError(f"{encoder.name} does not say where its stages end; take one of timm's ConvNets.")
    return {last[side]: shapes[last[side]] for side in sorted(last)[:most]}
