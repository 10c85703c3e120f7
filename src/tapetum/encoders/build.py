"""Encoders by name: timm's models, our presets of them, and modules from Python."""

import re
from typing import Any

import torch
from torch import nn

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.torchvision_compat import timm
from tapetum.encoders import weights as stored
from tapetum.encoders.encoder import Encoder
from tapetum.encoders.spec import MEAN, STD, Spec

# name: (timm's model, timm's arguments)
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet10_w32": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}),
    "vit_mini": (
        "vit_tiny_patch16_224",
        {"embed_dim": 192, "depth": 6, "num_heads": 3, "global_pool": "avg", "fc_norm": False},
    ),
}
SMALL = 96  # pixels up to which images need another stem than ImageNet's
SIZED = ("img_size", "dynamic_img_size")


def build(name: str, image_size: int, *, weights: str = "none", stem: str = "auto", **args: Any) -> Encoder:
    """A new encoder.

    Args:
        name: a timm model or one of PRESETS.
        image_size: side of its images in pixels.
        weights: "none", "public" (timm's), or a run, folder or file; see weights.py.
        stem: how a ResNet meets small images: "timm" as timm has it; "nopool" without its pooling; "3x3/1" or
            "3x3/2", one such convolution and no pooling; "auto" chooses from the image size.
        args: timm's own arguments for the model.

    Raises TapetumError for a name that timm does not have (with the nearest match), an argument that the model
    does not take, or weights that do not fit.
    """
    model, preset = PRESETS.get(name, (name, {}))
    if not timm.is_model(model):
        raise unknown("encoder", name, [*timm.list_models(), *PRESETS])
    args = {**preset, **args}
    if "patch_size" not in args and image_size <= SMALL and "patch16" in model:
        args["patch_size"] = 4 if image_size <= 48 else 8
    net, args = create(model, image_size, args, public=weights == "public")
    cfg = net.pretrained_cfg if weights == "public" else {}
    if stem == "auto":
        stem = small_stem(net, name, image_size) if weights == "none" else ""
    stem = "" if stem == "timm" else stem
    change_stem(net, stem)
    spec = Spec(
        name,
        model,
        args,
        image_size,
        mean=cfg.get("mean", MEAN),
        std=cfg.get("std", STD),
        interpolation=cfg.get("interpolation", "bilinear"),
        stem=stem,
        began_from=weights,
    )
    encoder = Encoder(net, spec)
    if weights not in ("none", "public"):
        stored.load_into(encoder, weights)
    return encoder


def create(model: str, image_size: int, args: dict[str, Any], public: bool = False) -> tuple[nn.Module, dict]:
    """timm's model without its classifier, and the arguments that it took: those for image sizes where known."""
    sized = {"img_size": image_size, "dynamic_img_size": True}
    for extra in (sized, {"img_size": image_size}, {}):
        try:
            net = timm.create_model(model, pretrained=public, num_classes=0, **{**extra, **args})
            return net, {**extra, **args}
        except TypeError as error:
            wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if wrong and wrong[1] in extra:
                continue
            what = f"takes no argument {wrong[1]!r}" if wrong else f"cannot be built: {error}"
            raise TapetumError(f"the encoder {model} {what}.") from error
        except (RuntimeError, ValueError, AssertionError) as error:
            raise TapetumError(f"the encoder {model} cannot be built: {str(error).splitlines()[0]}.") from error
        except Exception as error:  # the hub's client raises kinds of its own
            if not public:
                raise
            raise TapetumError(
                f"the public weights of {model} cannot be had: {type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
    raise AssertionError("the last attempt passes no argument of ours")


def small_stem(net: nn.Module, name: str, image_size: int) -> str:
    """The stem for a ResNet at this image size; "" leaves timm's."""
    if not isinstance(net, timm.models.resnet.ResNet) or image_size > SMALL:
        return ""
    if image_size > 48:
        return "nopool"
    return "3x3/2" if name == "resnet10_w32" else "3x3/1"


def change_stem(net: nn.Module, stem: str) -> None:
    """Replace a ResNet's first convolution and pooling, in place."""
    if not stem:
        return
    found = re.fullmatch(r"nopool|(\d)x\1/([12])", stem)
    if not found or not isinstance(net, timm.models.resnet.ResNet):
        raise TapetumError(f"the stem {stem!r} is not known; ResNets take auto, timm, nopool, 3x3/1 and 3x3/2.")
    net.maxpool = nn.Identity()
    if stem != "nopool":
        if not isinstance(net.conv1, nn.Conv2d):
            raise TapetumError(f"the stem {stem!r} replaces one convolution, but this ResNet's stem has several.")
        kernel, stride = int(found[1]), int(found[2])
        old = net.conv1
        net.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")


def again(spec: Spec) -> Encoder:
    """An encoder of the same shape with new weights, from torch's random numbers."""
    if not spec.model:
        raise TapetumError(f"{spec.name} was a module of somebody's own; only Python can build it again.")
    net, _ = create(spec.model, spec.image_size, {k: v for k, v in spec.args.items() if k not in SIZED})
    change_stem(net, spec.stem)
    return Encoder(net, spec)


def wrap(
    module: nn.Module,
    image_size: int,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    name: str | None = None,
) -> Encoder:
    """Any module from Python that takes normalised [B, C, S, S] and gives [B, D] or maps [B, D, H, W]."""
    return Encoder(module, Spec(name or type(module).__name__, "", image_size=image_size, mean=mean, std=std))


def load(what: "str | Any", image_size: int | None = None) -> Encoder:
    """An encoder from a run, a folder or file written here, `timm:NAME` (public weights) or `random:NAME`.

    Raises TapetumError naming what is wrong with a file that is missing, damaged, or of something else.
    """
    if isinstance(what, Encoder):
        return what
    kind, _, name = str(what).partition(":")
    if kind in ("timm", "random") and name:
        model = PRESETS.get(name, (name,))[0]
        if not timm.is_model(model):
            raise unknown("encoder", name, [*timm.list_models(), *PRESETS])
        size = image_size or timm.get_pretrained_cfg(model).input_size[-1]
        if kind == "random":
            torch.manual_seed(0)
        return build(name, size, weights="public" if kind == "timm" else "none").eval()
    facts, file = stored.described(str(what))
    encoder = again(Spec.from_dict(facts, str(file)))
    stored.load_into(encoder, str(file), exact=True)
    if facts.get("digest") not in (None, encoder.digest()):
        raise TapetumError(f"{file} is damaged: its weights are not those that were written.")
    return encoder.eval()
