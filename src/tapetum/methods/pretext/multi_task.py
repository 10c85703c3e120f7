"""Several methods learn over one encoder at once, their losses added up. arXiv:1708.07860"""

import inspect
import zlib
from dataclasses import replace

from torch import nn

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Amount, Count, check
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.methods.pretext.colourisation import Colourisation
from tapetum.views import Batch
from tapetum.views.nest import mapped


class MultiTask(Method):
    """The paper's tasks are context, colours, single images told apart (SimCLR in place of triplets), and
    the motion of pixels in videos, which has no place among images.

    Args:
    images, image_size, channels: from the data and the run, for the methods that ask for them.
    methods: names of the methods; none that needs classes.
    weights: of their losses, in the same order; all 1 where none are given.
    hidden: width of their hidden layers, for those that have such.
    settings: more settings of theirs, as `simclr.temperature=0.2`.
    harmonise: show all methods grey images, since colourisation sees no others.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        image_size: Count,
        channels: Count,
        methods: tuple[str, ...] = ("context", "colourisation", "simclr"),
        weights: tuple[Amount, ...] = (),
        hidden: Count = 4096,
        settings: tuple[str, ...] = (),
        harmonise: bool = True,
    ):
        super().__init__(encoder)
        if not methods or len(set(methods)) < len(methods) or len(weights) not in (0, len(methods)):
            raise TapetumError(
                f"multi_task takes different methods and as many weights, or none, not {', '.join(methods)} "
                f"with {len(weights)} weights."
            )
        if astray := [text for text in settings if text.partition(".")[0] not in methods or "=" not in text]:
            raise TapetumError(
                f"multi_task's setting {astray[0]!r} is not of the form `{methods[0]}.name=value`."
            )
        facts = {"images": images, "image_size": image_size, "channels": channels, "hidden": hidden}
        began = encoder.spec, encoder.blank is None
        tasks = {name: task(name, encoder, facts, settings) for name in methods}
        if (encoder.spec, encoder.blank is None) != began:  # copies made before are of another encoder
            tasks = {name: task(name, encoder, facts, settings) for name in methods}
        self.tasks = nn.ModuleDict(tasks)
        self.weights = dict(zip(methods, weights or len(methods) * (1.0,)))
        self.views, rates = {}, []
        for name, one in tasks.items():
            grey = harmonise and not isinstance(one, Colourisation)
            self.views[name] = mapped(one.views, drained) if grey else one.views
            for pattern, rate in one.rates:
                inner = pattern[1:] if pattern.startswith("^") else f".*(?:{pattern})"
                rates.append((rf"^tasks\.{name}\.{inner}", rate))
        self.rates = tuple(rates)

    def loss(self, batch, t):
        outs = {name: one.loss(self.part(batch, name), t) for name, one in self.tasks.items()}
        keep = {f"{name}.{k}": x for name, out in outs.items() for k, x in out.pop("keep", {}).items()}
        logged = {f"{name}.{k}": number for name, out in outs.items() for k, number in out.items()}
        total = sum(self.weights[name] * out["loss"] for name, out in outs.items())
        return {"loss": total, "keep": keep, **logged}

    def part(self, batch, name):
        """The batch that one of the methods sees, with random numbers of its own."""
        fields = {k: x for k, x in batch.items() if k not in self.views}
        draw = replace(batch.draw, seed=batch.draw.seed + zlib.crc32(name.encode()))
        return Batch(fields | batch[name], draw, batch.geometry and batch.geometry[name])

    def before_epoch(self, t, over):
        for one in self.tasks.values():
            one.before_epoch(t, over)

    def after_step(self, t, keep):
        for name, one in self.tasks.items():
            own = f"{name}."
            one.after_step(t, {k.removeprefix(own): x for k, x in keep.items() if k.startswith(own)})


def drained(view):
    return view + views.Gray(1.0)


def task(name, encoder, facts, settings):
    """One of the methods on the shared encoder, with the facts that it asks for and its own settings."""
    kind = find(name)
    asked = inspect.signature(kind).parameters
    if "." in name or kind is MultiTask or "classes" in asked or not encoder.gives(kind.needs):
        raise TapetumError(
            f"multi_task cannot hold {name}: a method in it is one of the package, holds no others, needs no "
            f"classes, and asks only for what {encoder.name} gives ({name} asks for {kind.needs})."
        )
    own = dict(text.partition(".")[2].split("=", 1) for text in settings if text.startswith(f"{name}."))
    facts = {n: fact for n, fact in facts.items() if n in asked and not isinstance(asked[n].default, float)}
    return kind(encoder, **facts | check(f"setting of {kind.__name__}", own, kind))
