"""Fine-tuning: a copy of an encoder, whole or in part, learns labels together with a linear head."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.base.settings import Amount, Count, Positive, Share
from tapetum.data.canvas import Canvas
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.encoders.layers import layers
from tapetum.evaluate.targets import Kind
from tapetum.features import Extractor
from tapetum.methods.supervised.supervised import Supervised
from tapetum.parts import lora
from tapetum.parts.losses import soft_cross_entropy, squared_error
from tapetum.parts.mixing import partner
from tapetum.parts.schedule import constant
from tapetum.parts.state import BatchNorm
from tapetum.train import defaults, optimizer
from tapetum.train.feed import Feed
from tapetum.train.loop import fit

What = Literal["full", "last", "lora", "head"]
Statistics = Literal["kept", "batch"]
Augment = Literal["auto", "crop", "shift", "none", "randaugment", "trivialaugment", "three_augment"]
POLICIES: dict[str, Callable[[], Any]] = {
    "crop": views.light,
    "shift": views.shifted,
    "none": views.crop_only,
    "randaugment": views.randaugment,
    "trivialaugment": views.trivialaugment,
    "three_augment": views.three_augment,
}
RATES = {"full": 3e-4, "last": 3e-4, "lora": 1e-3, "head": 1e-3}  # of the encoder, by AdamW
OF_VITS = 1 / 3  # their share of it where all their weights or whole blocks learn
STEPS, EPOCHS = 1000, (5, 100)


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune; what each setting means stands in protocols/finetune.py."""

    what: What = "full"
    blocks: Count = 1
    rank: Count = 8
    alpha: Positive = 16.0
    pattern: str = ""
    statistics: Statistics = "kept"
    epochs: Count | None = None
    batch_size: Count = 32
    lr: Positive | None = None
    head_lr: Positive = 1e-2
    layer_decay: Share | None = None
    weight_decay: Amount = 0.05
    augment: Augment = "auto"
    smoothing: Share = 0.1
    mixup: Share = 0.0
    cutmix: Share = 0.0


class FineTuning(Supervised):
    """Supervised learning by a head on standardised features, for all kinds of targets.

    Args:
        extractor: of the encoder that learns; what it takes of the encoder is the head's input.
        kind: of the labels.
        target: [N, K] float, what the images' answers shall be: shares of classes that sum to 1 ("class"),
            each class's own share ("classes"), or a number [N, 1].
        x: [N, D] features of the same images; their means and deviations bring the head's input to a length
            of about 1, so that one rate suits all encoders.
    """

    target: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, extractor: Extractor, kind: Kind, target: Tensor, x: Tensor, recipe: Recipe):
        encoder = extractor.encoder
        mixing = {"smoothing": recipe.smoothing, "mixup": recipe.mixup, "cutmix": recipe.cutmix}
        super().__init__(encoder, classes=target.shape[1], image_size=encoder.image_size, **mixing)
        self.kind, self.extractor, self.kept = kind, extractor, recipe.statistics == "kept"
        if recipe.augment != "auto":
            self.views = {"x": POLICIES[recipe.augment]()}
        std = x.std(0, correction=0)
        self.register_buffer("target", target.float(), persistent=False)
        self.register_buffer("mean", x.mean(0), persistent=False)
        self.register_buffer(
            "scale", 1 / (std + 1e-3 * std.max() + 1e-12) / x.shape[1] ** 0.5, persistent=False
        )
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        _choose(encoder.net, recipe)

    def train(self, mode: bool = True) -> "FineTuning":
        """Batch norms keep their statistics, if asked.

        By 32 images a step they cost much where labels are few: EfficientNet-Lite0, tuned as a whole for 15
        epochs on 300 photos of clothes, tells 81 % of others with them kept and 67 % without.
        """
        super().train(mode)
        for module in self.encoder.modules():
            if self.kept and isinstance(module, BatchNorm):
                module.eval()
        return self

    def predict(self, x: Tensor) -> Tensor:
        return self.classifier((self.extractor.given(x).float() - self.mean) * self.scale)  # [B, K]

    def loss(self, batch: views.Batch, t: float) -> dict[str, Any]:
        x, share = self.mix(batch)
        whole = self.target[batch["label"]]  # the feed's labels are the rows of the targets
        if self.kind != "number":
            even = 1 / whole.shape[1] if self.kind == "class" else 0.5
            whole = (1 - self.smoothing) * whole + self.smoothing * even
        target = share[:, None] * whole + (1 - share[:, None]) * partner(whole)
        answer = self.predict(x).float()
        if self.kind == "classes":
            return {"loss": F.binary_cross_entropy_with_logits(answer, target)}
        return {"loss": (soft_cross_entropy if self.kind == "class" else squared_error)(answer, target)}

    def head(self) -> nn.Linear:
        """The head by itself, for the encoder's features as they are."""
        out = copy.deepcopy(self.classifier).requires_grad_(False)
        out.weight.mul_(self.scale)
        out.bias.sub_(out.weight @ self.mean)
        return out


def _choose(net: nn.Module, recipe: Recipe) -> None:
    """Let those parameters learn that the recipe names; raw pixels have none."""
    if not any(True for _ in net.parameters()):
        return
    if recipe.what == "lora":
        lora.attach(net, recipe.rank, recipe.alpha, recipe.pattern)
        return
    net.requires_grad_(recipe.what == "full")
    if recipe.what == "last":
        blocks = layers(net)
        if recipe.blocks > len(blocks):
            raise TapetumError(f"blocks is {recipe.blocks}, but {type(net).__name__} has {len(blocks)}.")
        for name in chain(*blocks[-recipe.blocks :]):
            net.get_parameter(name).requires_grad_(True)


def rates(encoder: Encoder, recipe: Recipe) -> optimizer.OptimizerSettings:
    """How fast each parameter learns."""
    vit = encoder.patch is not None
    lr = recipe.lr or RATES[recipe.what] * (OF_VITS if vit and recipe.what in ("full", "last") else 1)
    decay = recipe.layer_decay if recipe.layer_decay is not None else 0.75 if vit else 0.9
    return optimizer.OptimizerSettings(
        lr=lr,
        weight_decay=constant(recipe.weight_decay),
        lr_scale=f"^classifier={recipe.head_lr / lr}",
        layer_decay=decay if recipe.what == "full" else 1.0,
    )


def epochs(recipe: Recipe, images: int) -> int:
    """How often each of so many images is seen."""
    a_pass = max(1, images // recipe.batch_size)
    return recipe.epochs or min(max(-(-STEPS // a_pass), EPOCHS[0]), EPOCHS[1])


def targets(kind: Kind, y: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What FineTuning learns [N, K] of labels y [N, ...], and the (centre, spread) that a number has lost."""
    centre, spread = torch.tensor(0.0), torch.tensor(1.0)
    if kind == "class":
        return F.one_hot(y, width).float(), centre, spread
    if kind == "number":
        centre, spread = y.mean(), y.std(correction=0).clamp(min=1e-12)
        y = ((y - centre) / spread)[:, None]
    return y.float(), centre, spread


def finetune(
    extractor: Extractor,
    source: Source,
    kind: Kind,
    y: Tensor,
    x: Tensor,
    recipe: Recipe,
    *,
    width: int,
    seed: int = 0,
) -> tuple[Extractor, nn.Linear]:
    """A tuned copy of the encoder, and the head on its features, after the last epoch.

    Args:
        extractor: the encoder, which is left as it was, what is taken of it, precision, device and workers.
        source: N images that can be read.
        kind, y: their labels: classes int64 [N], 0 and 1 float [N, C], or numbers float [N].
        x: [N, D] their features by `extractor`.
        recipe: how.
        width: how many classes; 1 for numbers.
        seed: of adapters, views and the order of images; on one machine it decides the outcome.

    Raises TrainingFailed when the loss is not finite.
    """
    where, size = extractor.device, extractor.encoder.image_size
    source = source.formed(extractor.encoder.spec.form)
    target, centre, spread = targets(kind, y, width)
    tuned = copy.copy(extractor)
    tuned.encoder = copy.deepcopy(extractor.encoder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method = FineTuning(tuned, kind, target, x, recipe)
        method.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = min(recipe.batch_size, len(source))
        side = defaults.canvas_side(defaults.typical_side(source), views.largest(method.views, size))
        feed = Feed(
            Canvas(source, side, workers=extractor.workers, fit=tuned.encoder.spec.fit).to(where),
            np.arange(len(source)),
            method.views,
            image_size=size,
            batch_size=batch,
            micro_batch=batch,
            seed=seed,
            device=where,
        )
        _run(method, feed, rates(extractor.encoder, recipe), epochs(recipe, len(source)), extractor.precision)
    lora.merge(tuned.encoder.net)
    tuned.encoder.eval()
    head = method.head()
    head.weight.mul_(spread.to(where))
    head.bias.mul_(spread.to(where)).add_(centre.to(where))
    return extractor.of(tuned.encoder), head.cpu()


def _run(
    method: FineTuning, feed: Feed, settings: optimizer.OptimizerSettings, epochs: int, precision: str
) -> None:
    """All steps of the training."""
    peak = settings.peak(feed.batch_size)
    learner = optimizer.build(method, settings, peak)
    steps = epochs * feed.steps_per_epoch
    loop = fit(
        method,
        learner,
        feed,
        steps=steps,
        set_rates=lambda t: optimizer.set_rates(learner, method, settings, peak, t),
        precision="bf16" if precision == "bfloat16" else "fp32",
        clip=settings.clip,
        seed=feed.seed,
    )
    with Progress(steps * feed.batch_size, "fine-tuning") as progress:
        for step in loop:
            loss = float(step.numbers["loss"])
            if not np.isfinite(loss):
                raise TrainingFailed(
                    f"fine-tuning failed in step {step.number}: the loss is {loss}; "
                    "a lower lr usually cures it."
                )
            progress.advance(feed.batch_size, loss=loss)
