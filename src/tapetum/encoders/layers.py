"""A network's layers from the images on, for rates and freezing by depth."""

from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm


def layers(net: nn.Module) -> list[list[str]]:
    """The names of the parameters, layer by layer from the images on: timm's stem and blocks, of a network
    that is not timm's each of its parts. What stands last without a matrix is its predecessor's norm."""
    if (matcher := getattr(net, "group_matcher", None)) is not None:
        found = list(timm.models.group_parameters(net, matcher()).values())
        late = [name for name in found[-1] if name.endswith("reg_token")]  # which timm forgets
        found[0] = [*found[0], *late]
        found[-1] = [name for name in found[-1] if name not in late]
        found = [names for names in found if names]
    else:
        parts = net.named_children()
        found = [[f"{part}.{name}" for name, _ in child.named_parameters()] for part, child in parts]
        found = [names for names in found if names]
    if len(found) > 1 and all(net.get_parameter(n).ndim < 2 or not n.endswith("weight") for n in found[-1]):
        found[-2:] = [found[-2] + found[-1]]
    return found


def freeze(net: nn.Module, count: int) -> None:
    """The first `count` layers, stem included, stop learning. Raises TapetumError where none is left."""
    found = layers(net)
    if count >= len(found):
        raise TapetumError(
            f"frozen_layers is {count}, but {type(net).__name__} has {len(found)} layers, stem included; "
            "at least one must learn."
        )
    for name in (name for names in found[:count] for name in names):
        net.get_parameter(name).requires_grad_(False)
