"""The conformance suite: what every method must do, whoever wrote it. `tapetum check` runs it on one file."""

import inspect
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum import encoders
from tapetum.base import distributed
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.methods.method import Method
from tapetum.parts.state import EMA
from tapetum.train import launch, online, optimizer, setup, sync_norm
from tapetum.train.feed import Feed
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings
from tapetum.views import Batch
from tapetum.views.specs import leaves

SMALL = {"hidden": 32, "dim": 16, "width": 32, "depth": 1, "prototypes": 24, "queue": 64, "small_crops": 2}
CLASSES, BATCH = 4, 16


class Broken(AssertionError):
    """A method does not do what every method must; the sentence says what."""


# ---- a small world to try a method in ----


def easy_images(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] uint8 whose class is their colour and stripe, and their labels [N]."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    colour = np.array([[220, 60, 60], [60, 200, 80], [70, 80, 220], [210, 200, 60]])[labels]
    ramp = np.linspace(0, 1, 32)
    stripes = 0.5 + 0.5 * np.sin(
        2 * np.pi * (2 + labels[:, None, None]) * ramp[None, :, None] + rng.uniform(0, 6, (count, 1, 1))
    )
    images = colour[:, None, None] * (0.3 + 0.7 * (stripes + 0 * ramp)[..., None]) + rng.normal(
        0, 12, (count, 32, 32, 3)
    )
    return images.clip(0, 255).astype(np.uint8), labels


def small_encoder(needs: str, seed: int = 0) -> encoders.Encoder:
    """A small ViT where tokens are needed, else a small ResNet."""
    torch.manual_seed(seed)
    if needs == "tokens":
        return encoders.build("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
    return encoders.build("resnet10_w32", 32, channels=(8, 16, 32, 64))


def build(kind: type[Method], seed: int = 0, **settings: Any) -> Method:
    """A small instance of a method: wide settings that are whole numbers become small ones."""
    small = {
        name: SMALL[name]
        for name, p in inspect.signature(kind).parameters.items()
        if name in SMALL and isinstance(p.default, int)
    }
    encoder = small_encoder(kind.needs, seed)
    return setup.build_method(kind, encoder, source(), 32, {**small, **settings})


def source():
    images, labels = easy_images()
    return open_data(images).with_labels([str(label) for label in labels], "how they were made")


def feed(method: Method, batch: int = BATCH, micro: int | None = None) -> Feed:
    data = source()
    return Feed(
        Canvas(data, 32, workers=0),
        data.labels,
        method.views,
        image_size=32,
        batch_size=batch,
        micro_batch=micro or batch // distributed.world(),
        seed=0,
        device=torch.device("cpu"),
    )


def one_batch(method: Method, step: int = 0):
    return next(feed(method).batches(step, step + 1))[0]


def train(
    method: Method, steps: int, lr: float = 1e-3, start: int = 0, precision: str = "fp32"
) -> list[dict]:
    """Train in place on the easy images; gives the numbers of each step."""
    settings = OptimizerSettings(lr=lr, warmup=0.1)
    opt = optimizer.build(method, settings, lr)
    set_rates = lambda t: optimizer.set_rates(opt, method, settings, lr, t)  # noqa: E731
    steps_iterator = fit(
        method,
        opt,
        feed(method),
        steps=steps,
        start=start,
        set_rates=set_rates,
        clip=3.0,
        precision=precision,
    )
    return [{n: float(v) for n, v in step.numbers.items()} for step in steps_iterator]


def state(method: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach().clone() for name, t in method.state_dict().items()}


def statistics(method: nn.Module) -> set[str]:
    """Names of normalisation statistics, which alone may change in a loss."""
    return {
        f"{name}.{buffer}" if name else buffer
        for name, m in method.named_modules()
        if isinstance(m, sync_norm.BatchNorm)
        for buffer, _ in m.named_buffers(recurse=False)
    }


def changed(before: dict, after: dict) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]


# ---- the checks ----


def loss_is_one_finite_number(kind: type[Method]) -> None:
    """One finite loss that reaches every learning parameter."""
    method = build(kind).train()
    out = method.loss(one_batch(method), 0.5)
    if not isinstance(out, dict) or "loss" not in out:
        raise Broken('loss must return {"loss": number, ...}')
    loss = out["loss"]
    if loss.shape != () or not torch.isfinite(loss):
        raise Broken(
            f"the loss must be one finite number; it is {loss.detach()} of shape {tuple(loss.shape)}"
        )
    for name, value in out.items():
        if name != "keep" and torch.as_tensor(value).numel() != 1:
            raise Broken(f"loss returns {name} of shape {tuple(value.shape)}; what is logged is one number")
    loss.backward()
    dead = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    if dead:
        raise Broken(
            f"the loss does not reach {dead[0]} and {len(dead) - 1} other parameters that should learn"
        )


def still_parameters_get_no_gradient(kind: type[Method]) -> None:
    """What does not learn gets no gradient, and what follows does not learn."""
    method = build(kind).train()
    method.loss(one_batch(method), 0.5)["loss"].backward()
    wrong = [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]
    wrong += [
        f"{name}.{n}"
        for name, m in method.named_modules()
        if isinstance(m, EMA)
        for n, p in m.named_parameters()
        if p.requires_grad
    ]
    if wrong:
        raise Broken(
            f"{wrong[0]} gets a gradient, but it should only follow: freeze it and stop the gradient"
        )


def loss_writes_nothing(kind: type[Method]) -> None:
    """Calling the loss changes no weight and no buffer, normalisation statistics excepted."""
    method = build(kind).train()
    before, batch = state(method), one_batch(method)
    first = method.loss(batch, 0.5)["loss"]
    second = method.loss(batch, 0.5)["loss"]
    wrong = set(changed(before, state(method))) - statistics(method)
    if wrong:
        raise Broken(f"loss changes {sorted(wrong)[0]}; state changes in after_step alone")
    if not torch.equal(first, second):
        raise Broken(
            "loss called twice on one batch gives two values: it remembers something outside buffers"
        )


def randomness_is_the_batchs(kind: type[Method]) -> None:
    """The loss draws no random number but through batch.random."""
    method = build(kind).train()
    batch = one_batch(method)
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        values.append(method.loss(batch, 0.5)["loss"])
    if not torch.equal(*values):
        raise Broken("the loss depends on torch's own random numbers; draw with batch.random(name, shape)")


def saved_and_loaded_continues(kind: type[Method]) -> None:
    """A method saved and loaded into a fresh one continues bit for bit: all it remembers is a buffer."""
    method = build(kind)
    train(method, 3)
    other = build(kind, seed=9)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "method.safetensors"
        save_file({n: t.contiguous() for n, t in state(method).items()}, file)
        other.load_state_dict(load_file(file))
    numbers = [train(m, 5, start=3) for m in (method, other)]
    if numbers[0] != numbers[1] or changed(state(method), state(other)):
        raise Broken("after saving and loading it continues differently: something it remembers is not saved")


def followers_follow(kind: type[Method]) -> None:
    """What does not learn stays, unless it is an average that follows, which moves."""
    method = build(kind)
    still = {n for n, p in method.named_parameters() if not p.requires_grad}
    followers = {
        f"{name}.{n}"
        for name, m in method.named_modules()
        if isinstance(m, EMA)
        for n, _ in m.named_parameters()
    }
    before = state(method)
    train(method, 4, lr=1e-2)
    moved = set(changed(before, state(method))) & still
    if stray := sorted(moved - followers):
        raise Broken(f"{stray[0]} moves although it neither learns nor follows")
    if lazy := sorted(followers - moved):
        raise Broken(f"{lazy[0]} is an average that never follows; call follow in after_step")


def training_learns(kind: type[Method]) -> None:
    """On easy images the loss falls, unless a teacher moves with it, and nothing collapses."""
    method = build(kind)
    pixels, _ = easy_images()
    views = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    before = spread(online.embed(method.product(), views))
    losses = [numbers["loss"] for numbers in train(method, 60, lr=3e-3)]
    hint = "Is a stop-gradient, a predictor, a centre or a negative missing?"
    if not all(map(math.isfinite, losses)):
        raise Broken(f"the loss is not finite after {sum(map(math.isfinite, losses))} steps of training")
    if (after := spread(online.embed(method.product(), views))) < 0.5 * before:
        raise Broken(
            f"the features collapse on easy images: spread {before:.3g} before, {after:.3g} after. {hint}"
        )
    if all(p.requires_grad for p in method.parameters()) and sum(losses[-6:]) >= sum(losses[:6]):
        raise Broken(
            f"the loss does not fall on easy images: {losses[0]:.4g} at first, {losses[-1]:.4g} at last"
        )
    method.train()
    batch = one_batch(method)
    with torch.no_grad():
        right = float(method.loss(batch, 1.0)["loss"])
        wrong = float(method.loss(mismatched(batch, method.views), 1.0)["loss"])
    several = len(list(leaves(method.views))) > 1
    if several and right < 0.1 * losses[0] and abs(wrong - right) < 0.05 * losses[0]:
        raise Broken(
            f"the loss fell from {losses[0]:.4g} to {right:.4g}, but it does not tell images apart: with the views "
            f"of different images it is {wrong:.4g}. {hint}"
        )


def mismatched(batch: Batch, views: Any) -> Batch:
    """The batch with each view after the first, and the labels, taken from another image."""
    count = 0

    def roll(tree: Any) -> Any:
        nonlocal count
        if isinstance(tree, dict):
            return {name: roll(part) for name, part in tree.items()}
        if isinstance(tree, list):
            return [roll(part) for part in tree]
        count += 1
        return tree.roll(count - 1, 0)

    fields = {name: roll(batch[name]) for name in views}
    return Batch({**batch, **fields, "label": batch["label"].roll(1, 0)}, batch.draw, batch.geometry)


def spread(features: torch.Tensor) -> float:
    """How far images' directions stand apart: one minus the length of their mean direction."""
    return float(1 - nn.functional.normalize(features, dim=1).mean(0).norm())


def half_precision_trains(kind: type[Method]) -> None:
    """It trains in bf16 as it does in float32, with all that it keeps left in float32."""
    method = build(kind)
    losses = [numbers["loss"] for numbers in train(method, 3, precision="bf16")]
    if not all(map(math.isfinite, losses)):
        raise Broken(f"in bf16 the loss is {losses}")
    narrow = [name for name, t in state(method).items() if t.dtype in (torch.float16, torch.bfloat16)]
    if narrow:
        raise Broken(f"{narrow[0]} is kept in half precision, where small changes are lost")


def product_is_exported(kind: type[Method]) -> None:
    """The product is an encoder that is saved and loaded with the same features."""
    method = build(kind)
    train(method, 2)
    product = method.product().eval()
    pixels, _ = easy_images(8)
    views = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with tempfile.TemporaryDirectory() as folder:
        product.save(Path(folder))
        again = encoders.load(folder)
        if not torch.allclose(online.embed(product, views), online.embed(again, views), atol=1e-5):
            raise Broken("the product, saved and loaded, gives other features")


def accumulated(method: Method, world: int) -> dict[str, torch.Tensor]:
    """Two steps in float64; gives the state after them and the losses."""
    method.double()
    if world > 1:
        sync_norm.synchronise(method)
    losses = [n["loss"] for n in train(method, 2)]
    return state(method) | {"loss": torch.tensor(losses, dtype=torch.float64)}


def _share(names: list[str], folder: str) -> None:
    """What each of several processes does for same_on_two_processes."""
    from tapetum.methods import find

    torch.set_num_threads(1)
    with launch.group():
        for i, name in enumerate(names):
            after = accumulated(build(find(name)), distributed.world())
            if distributed.rank() == 0:
                save_file({n: t.contiguous() for n, t in after.items()}, Path(folder) / f"{i}.safetensors")


def same_on_two_processes(names: list[str]) -> dict[str, str]:
    """Train each method two steps on one and on two processes in float64.

    Returns a sentence for each that differs by more than 1e-9 in any weight, teacher, buffer or loss.
    """
    from tapetum.methods import find

    wrong = {}
    with tempfile.TemporaryDirectory() as folder:
        launch.spawn(2, _share, {"names": names, "folder": folder})
        for i, name in enumerate(names):
            one = accumulated(build(find(name)), 1)
            two = load_file(Path(folder) / f"{i}.safetensors")
            gaps = {n: float((one[n].double() - two[n].double()).abs().max()) for n in one}
            worst = max(gaps, key=lambda n: gaps[n])
            if not gaps[worst] < 1e-9:
                wrong[name] = f"on two processes {worst} differs by {gaps[worst]:.2g} from one process"
    return wrong


CHECKS: tuple[Callable[[type[Method]], None], ...] = (
    loss_is_one_finite_number,
    still_parameters_get_no_gradient,
    loss_writes_nothing,
    randomness_is_the_batchs,
    saved_and_loaded_continues,
    followers_follow,
    training_learns,
    half_precision_trains,
    product_is_exported,
)


def check(name: str) -> Iterator[tuple[str, str | None]]:
    """Run every check on a method by name or file: (what is checked, None or what is wrong)."""
    from tapetum.methods import find

    kind = find(name)
    for one in CHECKS:
        try:
            one(kind)
            yield (one.__doc__ or one.__name__).splitlines()[0], None
        except Broken as error:
            yield (one.__doc__ or one.__name__).splitlines()[0], str(error)
        except Exception as error:  # somebody's own code may fail in any way
            yield (one.__doc__ or one.__name__).splitlines()[0], f"{type(error).__name__}: {error}"
    yield "The same on two processes as on one.", same_on_two_processes([name]).get(name)
