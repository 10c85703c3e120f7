"""The numbers by which a run's health is judged, measured without changing one bit of the run."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tapetum.base import distributed
from tapetum.measure.hypersphere import alignment, uniformity
from tapetum.measure.knn import knn_scores
from tapetum.measure.spectrum import effective_rank
from tapetum.methods.method import Method
from tapetum.parts.heads import Prototypes
from tapetum.parts.state import EMA, Frozen
from tapetum.train import online
from tapetum.train.feed import Feed
from tapetum.train.loop import PRECISIONS
from tapetum.train.sandbox import mismatched
from tapetum.train.sharding import opened
from tapetum.views import Batch
from tapetum.views.nest import leaves, tensors

IMAGES = 512  # whose features are looked at
ROUNDS, PART = 4, 32  # times that the loss is measured, and images each time
ROOM = 2**26  # bytes of pixels held for it
SHARP = 0.1  # temperature at which prototypes are chosen


class Probe:
    """A few fixed images, as training sees them and as they are, and what a method makes of them.

    Args:
        method: what trains.
        feed: of the run; its pixels of the images are read once.
        sample: images as the encoder takes them; the first ones are looked at.
        precision: that of training.
    """

    def __init__(self, method: Method, feed: Feed, sample: online.Sample, precision: str):
        self.method, self.feed, self.dtype = method, feed, PRECISIONS[precision]
        self.plain, self.labels = sample.pixels[:IMAGES], sample.labels[:IMAGES]
        world, canvas = distributed.world(), feed.canvas
        room = ROOM // (canvas.source.form.channels * canvas.side**2)
        most = max(1, min(len(self.plain), ROUNDS * PART, room) // world)
        part = min(PART, feed.micro_batch, most)
        rows = torch.arange(most // part * part * world).chunk(world)[distributed.rank()]
        self.index = sample.index[rows]
        self.pixels, self.sizes = canvas.fetch(self.index)
        self.rows, self.groups = rows, torch.arange(len(rows)).split(part)
        self.facts = pixel_facts(self.plain) | label_facts(self.labels)

    def measure(self, t: float) -> dict[str, Any]:
        """All numbers at progress t; a process's own are averaged over processes."""
        with undisturbed(self.method):
            features = online.embed(self.method.product(), self.plain)
            if not features.isfinite().all():
                return self.facts | {"finite": 0.0}
            losses, other = self._losses(t)
            close = self._alignment(features)
            own = distributed.mean(torch.cat([losses.flatten(), torch.tensor([close]).double()]))
            right, wrong = own[:-1].view(2, ROUNDS)
        if not (right + wrong).isfinite().all():
            return self.facts | other | {"finite": 0.0}
        numbers = self.facts | other | loss_numbers(right, wrong) | {"alignment": float(own[-1])}
        if len(list(leaves(self.method.views))) < 2 and not numbers["reads_labels"]:
            del numbers["gap"], numbers["gap_error"]  # nothing that could be put to another image
        numbers |= feature_numbers(features, self.labels) | weight_numbers(self.method)
        return numbers | {"resting": resting(self.method, t)}

    def _batch(self, turn: int) -> "Noted":
        group = self.groups[turn % len(self.groups)]
        step = -1 - turn * self.feed.steps_per_epoch  # views of their own, which training never draws
        batch = self.feed.batch(step, self.index[group], self.pixels[group], self.sizes[group])
        return Noted(dict(batch), batch.draw, batch.geometry)

    def _losses(self, t: float) -> tuple[Tensor, dict[str, float]]:
        """The loss [2, ROUNDS] of images as they are, and of views and labels of different images put
        together; and what else shows on the way."""
        self.method.train()
        right, wrong, read = [], [], set()
        said: list[Tensor] = []
        for turn in range(ROUNDS):
            batch = self._batch(turn)
            with prototypes_noted(self.method, said):
                right.append(self._loss(batch, t))
            read |= batch.read
            wrong.append(self._loss(mismatched(batch, self.method.views), t))
        facts = {"reads_labels": float("label" in read), **prototype_numbers(said)}
        return torch.tensor([right, wrong]).double(), facts

    def _loss(self, batch: Batch, t: float) -> float:
        with torch.autocast(self.feed.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return float(self.method.loss(batch, t)["loss"])

    def _alignment(self, features: Tensor) -> float:
        """How far a view's features lie from those of its image, of the first images."""
        encoder, group = self.method.product().eval(), self.groups[0]
        view = next(tensors({name: self._batch(0)[name] for name in self.method.views}))
        seen = encoder(view.float()).float().cpu()
        return float(alignment(torch.stack([features[self.rows[group]], seen], 1)).mean())


class Noted(Batch):
    """A batch that notes which of its fields are read."""

    def __init__(self, fields: dict[str, Any], draw: Any, geometry: Any = None):
        super().__init__(fields, draw, geometry)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


@contextlib.contextmanager
def undisturbed(method: nn.Module) -> Iterator[None]:
    """Inside, losses may be computed; afterwards buffers, modes and torch's generators are as they were."""
    modes = [(part, part.training) for part in method.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
    gpus = {p.device for p in method.parameters() if p.device.type == "cuda"}
    with opened(method), torch.random.fork_rng(list(gpus)), torch.no_grad():
        torch.manual_seed(0)  # dropout's: the same at every look
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            for part, mode in modes:
                part.training = mode


@contextlib.contextmanager
def prototypes_noted(method: nn.Module, said: list[Tensor]) -> Iterator[None]:
    """Inside, what prototypes say [B, K] is added to a list; a teacher's where there is one."""
    averaged = [m for e in method.modules() if isinstance(e, EMA) for m in e.modules()]
    there = [m for m in averaged if isinstance(m, Prototypes)]
    there = there or [m for m in method.modules() if isinstance(m, Prototypes)]

    def note(module: nn.Module, inputs: Any, out: Tensor) -> None:
        said.append(out.detach().float().flatten(0, -2))

    handles = [m.register_forward_hook(note) for m in there]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---- numbers of tensors ----


def prototype_numbers(said: list[Tensor]) -> dict[str, float]:
    """Of cosines [B, K] with prototypes: `prototypes_used`, the share of those there could be that are some
    image's nearest, and `prototypes_entropy` of the mean choice, as a share of the most it could be."""
    if not said:
        return {}
    x = torch.cat(said)
    mean = (x / SHARP).softmax(1).mean(0)
    entropy = -(mean * mean.clamp(min=1e-30).log()).sum() / max(math.log(x.shape[1]), 1e-9)
    return {
        "prototypes_used": len(x.argmax(1).unique()) / min(x.shape),
        "prototypes_entropy": float(entropy),
    }


def pixel_facts(pixels: Tensor) -> dict[str, float]:
    """Of uint8 images [N, C, S, S]: how much they differ from one another (`differ`), and the pixels within
    an image (`within`), both as mean standard deviations in grey levels."""
    x = pixels.float()
    return {"differ": float(x.std(0, correction=0).mean()), "within": float(x.flatten(2).std(2).mean())}


def label_facts(labels: Tensor) -> dict[str, float]:
    """Of labels [N], -1 = unknown: how many are known, how many classes, the commonest one's share."""
    known = labels[labels >= 0]
    counts = known.bincount()
    share = float(counts.max() / len(known)) if len(known) else 0.0
    return {"labelled": float(len(known)), "classes": float((counts > 0).sum()), "commonest": share}


def loss_numbers(right: Tensor, wrong: Tensor) -> dict[str, Any]:
    """Of losses [R] of images as they are and wrongly put together: the mean, by how much the wrong ones are
    more (`gap`), and the standard error of that; and each loss, to be compared with those of other looks."""
    gap = wrong - right
    return {
        "loss": float(right.mean()),
        "losses": right.tolist(),
        "gap": float(gap.mean()),
        "gap_error": float(gap.std() / len(gap) ** 0.5),
    }


def feature_numbers(x: Tensor, labels: Tensor) -> dict[str, float]:
    """Of features [N, D] and labels [N]: `rank` of `dim`; `spread` of directions, one minus the length of
    their mean; `dimension_spread`, the median standard deviation of a dimension over the root mean square;
    `uniformity`; `knn`, how often neighbours name the class."""
    size = x.square().mean().sqrt().clamp(min=1e-12)
    numbers = {
        "finite": 1.0,
        "dim": float(x.shape[1]),
        "rank": effective_rank(x),
        "spread": float(1 - nn.functional.normalize(x, dim=1).mean(0).norm()),
        "dimension_spread": float(x.std(0).median() / size),
    }
    if len(x) > 1:
        numbers["uniformity"] = uniformity(x)
    known = labels >= 0
    if len(labels[known].unique()) > 1:
        votes = knn_scores(x[known], labels[known], x[known], leave_one_out=True)
        numbers["knn"] = float((votes.argmax(1) == labels[known]).double().mean())
    return numbers


def weight_numbers(method: Method) -> dict[str, float]:
    """Lengths of all that learns and of the encoder; `teacher`, the distance of averages from their originals
    as a share of those, where there are averages."""
    numbers = {
        "weights": length(p for p in method.parameters() if p.requires_grad),
        "encoder_weights": length(method.encoder.parameters()),
    }
    pairs = [(own, original) for own in averages(method) if (original := nearest(method, own))]
    if pairs:
        apart = sum(distance(own, original) ** 2 for own, original in pairs) ** 0.5
        numbers["teacher"] = apart / max(length(p for _, o in pairs for p in o.parameters()), 1e-12)
    return numbers


def resting(method: Method, t: float) -> float:
    """1 where by the method's rates nothing of the encoder is to learn at progress t, else 0."""
    names = [f"encoder.{name}" for name, _ in method.encoder.named_parameters()]
    rates = [next((rate for pattern, rate in method.rates if re.search(pattern, n)), None) for n in names]
    return float(all(rate is not None and rate(t) == 0 for rate in rates))


def length(tensors: Any) -> float:
    """Of all these tensors as one vector."""
    return sum(float(torch.linalg.vector_norm(p.detach(), dtype=torch.float64)) ** 2 for p in tensors) ** 0.5


def distance(one: nn.Module, other: nn.Module) -> float:
    """Between the weights of two modules of the same shapes."""
    return length(a.detach() - b.detach() for a, b in zip(one.parameters(), other.parameters()))


def averages(method: nn.Module) -> list[nn.Module]:
    """The modules that follow others as averages."""
    return [part for m in method.modules() if isinstance(m, EMA) for part in m.chain]


def nearest(method: nn.Module, own: nn.Module) -> nn.Module | None:
    """What an average follows: of the modules of its kind and shapes that are no copies, the nearest."""
    copies = {id(p) for m in method.modules() if isinstance(m, EMA | Frozen) for p in m.modules()}
    shapes = [p.shape for p in own.parameters()]
    alike = [
        m
        for m in method.modules()
        if type(m) is type(own) and id(m) not in copies and [p.shape for p in m.parameters()] == shapes
    ]
    return min(alike, key=lambda m: distance(own, m), default=None) if shapes else None
