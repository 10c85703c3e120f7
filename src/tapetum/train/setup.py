"""Builds everything a run needs from its settings: data, method, optimiser, feed."""

import inspect
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch

from tapetum import encoders
from tapetum.base import settings
from tapetum.base.console import say, warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import digest
from tapetum.data import Source, open_data
from tapetum.data.canvas import Canvas
from tapetum.encoders.chunks import mixes
from tapetum.encoders.layers import freeze
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.parts.schedule import Ramp
from tapetum.train import defaults, launch, optimizer, recompute, sharding, sync_norm
from tapetum.train.anchor import anchored
from tapetum.train.attempt import parted
from tapetum.train.compiled import compile_blocks
from tapetum.train.feed import Feed
from tapetum.train.optimizer import OptimizerSettings
from tapetum.views import nest


@dataclass
class Job:
    """A run, ready to start."""

    config: dict[
        str, Any
    ]  # every resolved setting, flat: {"method": "simclr", "method.temperature": 0.1, ...}
    choices: dict[str, defaults.Choice]
    source: Source
    canvas: Canvas
    method: Method
    optimizer: torch.optim.Optimizer
    settings: OptimizerSettings
    peak: float
    feed: Feed
    steps: int
    device: torch.device
    groups: dict[str, dict] = field(default_factory=dict)

    def set_rates(self, t: float) -> None:
        optimizer.set_rates(self.optimizer, self.method, self.settings, self.peak, t)


def source_of(data: Any, labels: str, split: str | None) -> Source:
    """The images to train on: of train/ val/ test/ folders only train/, unless a split is named."""
    source = open_data(data, labels=labels, split=split)
    if split is None and "train" in source.splits:
        source = open_data(data, labels=labels, split="train")
    return source


def prepare(given: dict[str, Any], groups: dict[str, dict], quiet: bool = False) -> Job:
    """Resolve all settings and build the run.

    Args:
        given: the settings of `pretrain` by name; None where the user left one open.
        groups: the settings "method", "optimizer", "views" and "encoder", as config.parsed gives them.
        quiet: print nothing.

    Raises TapetumError with one sentence for whatever cannot be.
    """
    source = source_of(given["data"], given["labels"], given["split"])
    if not quiet:
        say(source.summary())
    choices, value, method, source = settled(given, groups, source)
    world, device = launch.count(value["devices"]), launch.device(value["devices"])
    method.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if world > 1:
        sync_norm.synchronise(method)
    if value.get("grad_checkpointing"):
        recompute.blockwise(method)
    if device.type == "cpu" and value["precision"] == "bf16":
        _plain_attention(method)
    if value["compile"]:
        compile_blocks(method)
    if value.get("parallel") == "sharded":
        sharding.shard(method, device)

    tuned = OptimizerSettings(**groups.get("optimizer", {}))
    if tuned.heads_first is None:
        tuned = replace(tuned, heads_first=0.05 if value["weights"] != "none" else 0.0)
    peak = tuned.peak(value["batch_size"])
    choices["optimizer.lr"] = defaults.Choice(
        peak, "given" if tuned.lr else f"{tuned.name}'s usual rate for a batch of {value['batch_size']}"
    )
    share = value["batch_size"] // world
    micro = value["micro_batch"] if isinstance(value["micro_batch"], int) else share
    if micro < share and mixes(method) and not quiet:
        warn(f"{parted(micro, share)}.")
    side = canvas_side(source, method, value["image_size"])
    canvas = Canvas(
        source,
        side,
        workers=value["workers"],
        fit=method.encoder.spec.fit,
        timeout=value.get("read_timeout"),
    ).to(device)
    feed = Feed(
        canvas,
        source.labels,
        method.views,
        image_size=value["image_size"],
        batch_size=value["batch_size"],
        micro_batch=min(micro, share),
        seed=value["seed"],
        device=device,
    )
    steps = value["steps"] or value["epochs"] * feed.steps_per_epoch
    job = Job(
        {},
        choices,
        source,
        canvas,
        method,
        optimizer.build(method, tuned, peak),
        tuned,
        peak,
        feed,
        steps,
        device,
        groups,
    )
    job.config = resolved(job, value, find(given["method"]))
    return job


def settled(
    given: dict[str, Any], groups: dict[str, dict], source: Source
) -> tuple[dict[str, defaults.Choice], dict[str, Any], Method, Source]:
    """Every open setting with its reason, all settings by name, the method, and the images in its form.

    For all that a run is refused for before images are read, this raises TapetumError.
    """
    choices = defaults.choose(given, source, find(given["method"]))
    value = {**given, **{name: choice.value for name, choice in choices.items()}}
    _check_numbers(value, launch.count(value["devices"]))
    if value["precision"] == "fp16" and launch.device(value["devices"]).type == "cpu":
        raise TapetumError("precision fp16 needs a GPU; on a CPU use bf16 or fp32.")
    if value.get("parallel") == "sharded":
        share = value["batch_size"] // launch.count(value["devices"])
        sharding.check(groups.get("optimizer", {}).get("name"), value["micro_batch"], share)
    if value["keep_close"] and value["weights"] == "none":
        raise TapetumError("keep_close holds a run to the weights that it began with; give --weights, too.")
    return choices, value, *network(value, groups, source)


def network(
    value: dict[str, Any], groups: dict[str, dict], source: Source, filled: bool = True
) -> tuple[Method, Source]:
    """The method of a run on its encoder, with the run's views, and the images in the encoder's form.

    filled: whether the encoder is to have the weights that the run begins with, or only their shape.
    """
    torch.manual_seed(value["seed"])
    looks = {"fit": value["fit"], "levels": value["levels"]}
    if value["channels"] not in (None, 3) or (
        value["channels"] and value["weights"] not in ("none", "public")
    ):
        looks["in_chans"] = value["channels"]
    encoder = encoders.build(
        value["encoder"],
        value["image_size"],
        weights=value["weights"],
        filled=filled,
        **looks,
        **groups.get("encoder", {}),
    )
    freeze(encoder.net, groups.get("optimizer", {}).get("frozen_layers", 0))
    source = source.formed(encoder.spec.form)
    kind = find(value["method"])
    kind = anchored(kind, value["keep_close"]) if value["keep_close"] else kind
    method = build_method(kind, encoder, source, value["image_size"], groups.get("method", {}))
    method.views = nest.configured(method.views, groups.get("views", {}))
    if encoder.patch:  # 0.43 of 32 pixels is no whole number of patches
        method.views = nest.whole_patches(method.views, value["image_size"], encoder.patch)
    return method, source


def canvas_side(source: Source, method: Method, image_size: int) -> int:
    """The side of the squares that the images are kept as, for the views of a method."""
    return defaults.canvas_side(defaults.typical_side(source), nest.largest(method.views, image_size))


def facts_of(source: Source, size: int) -> dict[str, int | None]:
    """What a method can ask for that comes from the data and the run, by the name it asks with."""
    classes = len(source.classes) if source.classes else None
    return {"classes": classes, "images": len(source), "image_size": size, "channels": source.form.channels}


def build_method(
    kind: type[Method], encoder: encoders.Encoder, source: Source, size: int, given: dict
) -> Method:
    """The method on its encoder, its settings checked, facts of the data filled in.

    Raises TapetumError where the encoder cannot give what the method needs, or the data lack labels.
    """
    if not encoder.gives(kind.needs):
        raise TapetumError(
            f"{kind.__name__} needs {kind.needs}, which {encoder.name} cannot give; "
            + ("use a ViT, for instance --encoder vit_small_patch16_224." if kind.needs == "tokens" else "")
        )
    facts = facts_of(source, size)
    wanted = inspect.signature(kind).parameters
    keywords = settings.check(f"setting of {kind.__name__}", given, kind)
    for name, fact in facts.items():
        if name in wanted and name not in keywords:
            if fact is None:
                raise TapetumError(
                    f"{kind.__name__} learns from labels, and {source.name} has none; "
                    "use class folders or --labels FILE."
                )
            keywords[name] = fact
    for name in encoders_asked(kind):
        if isinstance(text := keywords.get(name), str):
            keywords[name] = encoders.load(text, size)
    if "classes" in wanted and keywords["classes"] < (facts["classes"] or 0):
        raise TapetumError(
            f"method.classes is {keywords['classes']}, but {source.name} has {facts['classes']}."
        )
    return kind(encoder, **keywords)


def encoders_asked(kind: type[Method]) -> list[str]:
    """The names of a method's settings that are encoders."""
    hints = settings.annotations(kind)
    return [n for n, hint in hints.items() if n != "encoder" and encoders.Encoder in get_args(hint)]


def _plain_attention(method: Method) -> None:
    """Attention as plain matrix products, timm's other way: on a CPU torch's fused kernel takes 1.4 (257
    tokens) to 12 times (16 tokens) as long in bf16, forwards and backwards (docs/log.md)."""
    for part in method.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]


def _check_numbers(value: dict[str, Any], world: int) -> None:
    for name in ("epochs", "steps", "batch_size", "micro_batch", "image_size"):
        if isinstance(value[name], int) and value[name] < 1:
            raise TapetumError(f"{name} is {value[name]}; it must be at least 1.")
    if value["batch_size"] % world:
        raise TapetumError(
            f"batch_size {value['batch_size']} is for all {world} processes together and must be a "
            "multiple of that."
        )


def resolved(job: Job, value: dict[str, Any], kind: type[Method]) -> dict[str, Any]:
    """Every setting that the run uses, as plain values."""
    config = {
        name: value[name]
        for name in value
        if name not in ("out", "resume", "plan", "budget", "logger", "stop_when")
    }
    config["data"] = str(value["data"]) if isinstance(value["data"], str | Path) else job.source.name
    spec = job.method.encoder.spec
    config |= {"channels": spec.form.channels, "levels": plain(spec.levels), "fit": spec.fit}
    config["epochs"] = -(-job.steps // job.feed.steps_per_epoch)
    config["steps"] = job.steps
    config["fingerprint"] = job.source.fingerprint()
    if value["method"].endswith(".py"):
        config["method_sha256"] = digest(Path(value["method"]))
    given = job.groups.get("method", {})
    facts = facts_of(job.source, value["image_size"])
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = facts.get(name) if parameter.default is parameter.empty else parameter.default
            config[f"method.{name}"] = plain(given.get(name, default))
    for name in asdict(job.settings):
        config[f"optimizer.{name}"] = plain(getattr(job.settings, name) if name != "lr" else job.peak)
    for group in ("views", "encoder"):
        for name, setting in job.groups.get(group, {}).items():
            config[f"{group}.{name}"] = plain(setting)
    return config


def plain(value: Any) -> Any:
    """A setting as JSON and YAML have it: schedules as text, tuples as lists."""
    if isinstance(value, encoders.Encoder):
        return f"{value.name} {value.digest()[:12]}"
    if isinstance(value, Ramp):
        return value.start if value.start == value.end else str(value)
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value
