"""The conformance suite: what every method must do, whoever wrote it. `tapetum check` runs it on one file."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum import encoders
from tapetum.methods.method import Method
from tapetum.parts.state import EMA
from tapetum.train import alike, online
from tapetum.train.sandbox import build, changed, easy_pixels, mismatched, one_batch, state, statistics, train
from tapetum.views.nest import leaves


class Broken(AssertionError):
    """A method does not do what every method must; the sentence says what."""


def loss_is_one_finite_number(kind: type[Method]) -> None:
    """One finite loss that reaches every learning parameter, early, midway or late in training."""
    method = build(kind).train()
    for t in (0.0, 0.5, 1.0):
        _one_finite_number(method, t)
    dead = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    if dead:
        more = f" and {len(dead) - 1} more parameters" if len(dead) > 1 else ""
        raise Broken(f"the loss does not reach {dead[0]}{more}; freeze what should not learn")


def _one_finite_number(method: Method, t: float) -> None:
    out = method.loss(one_batch(method), t)
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


def still_parameters_get_no_gradient(kind: type[Method]) -> None:
    """What does not learn gets no gradient, and what follows does not learn."""
    method = build(kind).train()
    method.loss(one_batch(method), 0.5)["loss"].backward()
    wrong = [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]
    wrong += [name for name, p in followers(method).items() if p.requires_grad]
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
            "loss called twice on one batch gives two values: it remembers something outside buffers, or "
            "draws random numbers of its own (batch.random gives the batch's)"
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
    following = set(followers(method))
    before = state(method)
    train(method, 4, lr=1e-2)
    moved = set(changed(before, state(method))) & still
    if stray := sorted(moved - following):
        raise Broken(f"{stray[0]} moves although it neither learns nor follows")
    if lazy := sorted(following - moved):
        raise Broken(f"{lazy[0]} is an average that never follows; call follow in after_step")


def followers(method: Method) -> dict[str, nn.Parameter]:
    """The parameters of averages that follow, by name."""
    averages = [(name, m) for name, m in method.named_modules() if isinstance(m, EMA)]
    return {f"{name}.{n}": p for name, m in averages for n, p in m.named_parameters()}


def training_learns(kind: type[Method]) -> None:
    """On easy images the loss falls, unless a teacher moves with it, and nothing collapses."""
    method = build(kind)
    pixels = easy_pixels()
    before = spread(online.embed(method.product(), pixels))
    losses = [numbers["loss"] for numbers in train(method, 100, lr=3e-3)]
    hint = "Is a stop-gradient, a predictor, a centre or a negative missing?"
    if not all(map(math.isfinite, losses)):
        raise Broken(f"the loss is not finite after {sum(map(math.isfinite, losses))} steps of training")
    if (after := spread(online.embed(method.product(), pixels))) < 0.5 * before:
        raise Broken(
            f"the features collapse on easy images: spread {before:.3g} before, {after:.3g} after. {hint}"
        )
    if all(p.requires_grad for p in method.parameters()) and sum(losses[-6:]) >= sum(losses[:6]):
        raise Broken(
            f"the loss does not fall on easy images: {losses[0]:.4g} at first, {losses[-1]:.4g} at last"
        )
    if len(list(leaves(method.views))) > 1:
        right, wrong = told_apart(method)
        fell = losses[0] - float(right.mean())
        # Measured without a stop-gradient: 0.0006 of the fall, and with the cosine as loss 0.0102.
        if fell > 0 and (wrong - right).abs().max() < 0.01 * fell:
            raise Broken(
                f"the loss fell from {losses[0]:.4g} to {right[0]:.4g}, but it does not tell images apart: "
                f"with the views of different images it is {wrong[0]:.4g}. {hint}"
            )


@torch.no_grad()
def told_apart(method: Method) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of four batches as they are, and with the views of different images put together."""
    method.train()
    batches = [one_batch(method, step) for step in range(4)]
    right = [method.loss(batch, 1.0)["loss"] for batch in batches]
    wrong = [method.loss(mismatched(batch, method.views), 1.0)["loss"] for batch in batches]
    return torch.stack(right), torch.stack(wrong)


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
    pixels = easy_pixels(8)
    with tempfile.TemporaryDirectory() as folder:
        product.save(Path(folder))
        again = encoders.load(folder)
        if not torch.allclose(online.embed(product, pixels), online.embed(again, pixels), atol=1e-5):
            raise Broken("the product, saved and loaded, gives other features")


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
        problem = None
        try:
            one(kind)
        except Broken as error:
            problem = str(error)
        except Exception as error:  # somebody's own code may fail in any way
            problem = f"{type(error).__name__}: {error}"
        yield (one.__doc__ or one.__name__).splitlines()[0], problem
    yield "The same on two processes as on one.", alike.wrong([name]).get(name)
    yield "The same with weights split over two processes.", alike.wrong([name], way="split").get(name)
