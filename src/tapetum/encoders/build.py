"""Encoders by name: timm's models, our presets of them, and modules from Python."""

import contextlib
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants as hub
from torch import nn

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.torchvision_compat import timm
from tapetum.encoders import limits
from tapetum.encoders import weights as stored
from tapetum.encoders.encoder import Encoder
from tapetum.encoders.spec import INTERPOLATIONS, MEAN, STD, Spec

# name: (timm's model, timm's arguments); views a second forwards and backwards, bf16, one thread, 32 pixels
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    # 1,600/s; its stem for small images is beyond timm's arguments
    "resnet10_w32": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}),
    # 1,100/s; ten bottlenecks behind a 3x3 stem of stride 2, which timm can express
    "resnet32_w64": (
        "resnet32ts",
        {"stem_type": "3x3", "stem_pool": "", "stem_chs": 32, "width_factor": 0.25, "act_layer": "relu"},
    ),
    # 2,300/s
    "convnext_mini": ("convnext_atto", {"patch_size": 2, "depths": (1, 1, 1, 1), "dims": (32, 64, 128, 256)}),
    # 120/s
    "vit_mini": (
        "vit_tiny_patch16_224",
        {"embed_dim": 192, "depth": 6, "num_heads": 3, "global_pool": "avg", "fc_norm": False},
    ),
}
SMALL = 96  # pixels up to which images need another stem than ImageNet's
SIZED = ("img_size", "dynamic_img_size")
LOOKS = ("mean", "std", "interpolation", "crop_pct", "fit", "levels")


def build(
    name: str,
    image_size: int,
    *,
    weights: str = "none",
    stem: str = "auto",
    fit: str | None = None,
    levels: tuple[float, float] | None = None,
    filled: bool = True,
    **args: Any,
) -> Encoder:
    """A new encoder.

    Args:
        name: a timm model or one of PRESETS.
        image_size: side of its images in pixels.
        weights: "none", "public" (timm's), or a run, folder, file or `package:NAME`; see weights.find.
        stem: how a ResNet meets small images: "timm" as timm has it; "nopool" without its pooling; "full"
            without its stride as well; "3x3/1" or "3x3/2", one such convolution and no pooling; "auto"
            chooses from the image size.
        fit: how images become squares, "crop", "pad" or "squash"; by default as the weights are used to.
        levels: values of deep images that become black and white; see data.form.
        filled: False gives the shape that it has with these weights, but does not read them.
        args: timm's own arguments for the model; in_chans is the number of channels.

    Raises TapetumError for a name that timm does not have (with the nearest match), an argument that the
    model does not take, or weights that do not fit.
    """
    model, preset = known(name)
    facts = _beside(weights, filled)
    if facts is not None and facts["model"] == model:
        preset = {**preset, **{k: v for k, v in facts["args"].items() if k not in SIZED}}
        stem = facts.get("stem") or "timm" if stem == "auto" else stem
    args = {**preset, **args}
    if weights == "none" and "patch_size" not in args:
        args |= small_patch(model, image_size)
    net, args = create(model, image_size, args, public=filled and weights == "public")
    if stem == "auto":
        stem = small_stem(net, name, image_size) if weights == "none" else ""
    stem = "" if stem == "timm" else stem
    change_stem(net, stem)
    looks = preprocessing(model, weights, facts, image_size, args.get("in_chans", 3))
    looks |= {name: value for name, value in (("fit", fit), ("levels", levels)) if value is not None}
    encoder = Encoder(net, Spec(name, model, args, image_size, stem=stem, began_from=str(weights), **looks))
    if filled and weights not in ("none", "public"):
        stored.load_into(encoder, weights)
    return encoder


def _beside(weights: str, filled: bool) -> dict[str, Any] | None:
    """What is said beside weights of the shape that they have. Of a bare file nothing is, so that it may be
    gone where it is not read."""
    file = Path(weights)
    bare = file.suffix in stored.SUFFIXES and file.name != "encoder.safetensors"
    if weights in ("none", "public") or (bare and not filled and not file.exists()):
        return None
    return stored.find(weights)[1]


def known(name: str) -> tuple[str, dict[str, Any]]:
    """timm's model for a name, and our arguments for it; TapetumError with the nearest one if none is."""
    model, args = PRESETS.get(name, (name, {}))
    if not timm.is_model(model):
        raise unknown("encoder", name, [*timm.list_models(), *PRESETS])
    return model, args


def preprocessing(
    model: str, weights: str, facts: dict[str, Any] | None, image_size: int, channels: int = 3
) -> dict[str, Any]:
    """How images were prepared for these weights: as their run says, else as timm says for the model's name.

    Where weights of one shape were prepared in several ways, timm's tag tells: vit_base_patch16_224.mae.
    What a crop keeps holds only at the size that it is meant for. For another number of channels each gets
    the mean over the known ones.
    """
    cfg = timm.get_pretrained_cfg(model) if weights != "none" else None
    size, found = None, {}
    if cfg is not None:
        size, found = cfg.input_size[-1], {name: getattr(cfg, name) for name in LOOKS if hasattr(cfg, name)}
    if facts is not None:
        size, found = facts["image_size"], {name: facts[name] for name in LOOKS if name in facts}
    if size != image_size:
        found.pop("crop_pct", None)
    if found.get("interpolation") not in INTERPOLATIONS:
        found.pop("interpolation", None)
    for name, usual in (("mean", MEAN), ("std", STD)):
        values = found.get(name, usual)
        if len(values) != channels:
            values = (sum(values) / len(values),) * channels
        found[name] = tuple(values)
    return found


def create(model: str, image_size: int, args: dict[str, Any], public: bool = False) -> tuple[nn.Module, dict]:
    """timm's model without its classifier, and the arguments that it took, image sizes if it can."""
    limits.check(model, args)
    sized = {"img_size": image_size, "dynamic_img_size": True}
    for extra in (sized, {"img_size": image_size}, {}):
        kwargs = {**extra, **args}
        try:
            net = timm.create_model(model, num_classes=0, **kwargs)
        except TypeError as error:
            wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if wrong and wrong[1] in extra:
                continue
            what = f"takes no argument {wrong[1]!r}" if wrong else f"cannot be built: {_first_line(error)}"
            raise TapetumError(f"the encoder {model} {what}.") from error
        except Exception as error:  # whatever a stranger's arguments make timm raise
            raise TapetumError(f"the encoder {model} cannot be built: {_first_line(error)}.") from error
        return (_public(model, kwargs) if public else net), kwargs
    raise AssertionError("the last attempt passes no argument of ours")


def _public(model: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        with _no_retries_offline():
            return timm.create_model(model, pretrained=True, num_classes=0, **kwargs)
    except Exception as error:  # the hub's client and its connections raise kinds of their own
        why = f"{type(error).__name__}: {_first_line(error).split('. ')[0]}"
        raise TapetumError(
            f"the public weights of {model} cannot be had ({why}); give a file with --weights FILE instead."
        ) from error


@contextlib.contextmanager
def _no_retries_offline() -> Iterator[None]:
    """Where the hub cannot be reached, only what was downloaded earlier: its client tries for a minute."""
    before, host = hub.HF_HUB_OFFLINE, urlsplit(hub.ENDPOINT)
    if not before and not urllib.request.getproxies():
        try:
            socket.create_connection((host.hostname, host.port or 443), timeout=5).close()
        except OSError:
            hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def small_patch(model: str, image_size: int) -> dict[str, int]:
    """The patch size of a ViT that was made for larger images; nothing for any other model."""
    named = re.search(r"patch(\d+)", model)
    if image_size > SMALL or not named or int(named[1]) <= 8:
        return {}
    return {"patch_size": 4 if image_size <= 48 else 8}


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
    found = re.fullmatch(r"nopool|full|(\d)x\1/([12])", stem)
    if not found or not isinstance(net, timm.models.resnet.ResNet):
        raise TapetumError(
            f"no stem {stem!r} for {type(net).__name__}; ResNets take auto, timm, nopool, full, 3x3/1, 3x3/2."
        )
    net.maxpool = nn.Identity()
    if stem == "full":
        first = net.conv1[0] if isinstance(net.conv1, nn.Sequential) else net.conv1
        cast(nn.Conv2d, first).stride = (1, 1)
    elif stem != "nopool":
        if not isinstance(net.conv1, nn.Conv2d):
            raise TapetumError(f"the stem {stem!r} replaces one convolution; this ResNet's stem has several.")
        kernel, stride = int(found[1]), int(found[2])
        old = net.conv1
        net.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")


def again(spec: Spec) -> Encoder:
    """An encoder of the same shape with new weights, from torch's random numbers."""
    if not spec.model:
        raise TapetumError(
            f"{spec.name} was a module of somebody's own: build it in Python, wrap it with Encoder.wrap, "
            "and load its weights with tapetum.encoders.weights.load_into."
        )
    return Encoder(_net(spec), spec)


def _net(spec: Spec) -> nn.Module:
    known(spec.model)
    net, _ = create(spec.model, spec.image_size, {k: v for k, v in spec.args.items() if k not in SIZED})
    change_stem(net, spec.stem)
    return net


def load(what: "str | Any", image_size: int | None = None) -> Encoder:
    """An encoder from a run, a folder or file written here, `timm:NAME` (public weights), `random:NAME`, or
    `NAME@WEIGHTS`: a timm model with weights from a file or from `package:NAME`, see `build`.

    Raises TapetumError naming what is wrong with a file that is missing, damaged, or of something else.
    """
    if isinstance(what, Encoder):
        return what
    kind, _, name = str(what).partition(":")
    model, _, weights = str(what).partition("@")
    if weights and not Path(what).exists():
        kind, name = "", model
    if name and kind in ("timm", "random", ""):
        cfg = timm.get_pretrained_cfg(known(name)[0])
        size = image_size or (cfg.input_size[-1] if cfg else 224)
        if kind != "random":
            return build(name, size, weights=weights or "public").eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(name, size).eval()
    file, facts = stored.find(what)
    if facts is None:
        raise TapetumError(
            f"{what} does not say what encoder it is of: there is no encoder.json beside it; "
            f"name the timm model, as in resnet18@{what}."
        )
    spec = Spec.from_dict(facts, str(file.with_suffix(".json")))
    if spec.model:
        _check_size(spec, file)
    encoder = again(spec)
    stored.load_into(encoder, what, exact="digest" in facts)  # timm's folders may have a head
    return encoder.eval()


def _check_size(spec: Spec, file: Path) -> None:
    """Raise TapetumError where facts describe a network of more numbers than their file has bytes, before any
    memory is taken for it."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            numbers = sum(p.numel() for p in _net(spec).parameters())
    except TapetumError:  # not to be built, or not without numbers: the next attempt says so
        return
    if file.is_file() and numbers > (length := file.stat().st_size):
        raise TapetumError(
            f"{file} is damaged: it has {length:,} bytes, and its facts tell of {numbers:,} numbers."
        )
