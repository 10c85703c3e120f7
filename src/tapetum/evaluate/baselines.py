"""What an encoder must beat: raw pixels, random weights, the weights that it began from."""

import torch
from torch import nn

from tapetum.data.form import RGB, Form
from tapetum.encoders import Encoder
from tapetum.encoders.build import SIZED, again, build
from tapetum.encoders.spec import Spec


def pixels(form: Form = RGB) -> Encoder:
    """Raw pixels as an encoder: 32 x 32 numbers in [-1, 1] a channel, larger images shrunk first.

    One half is subtracted so that cosine similarity is not all brightness: kNN on CIFAR-10 gives 46 % so,
    36 % without, and 43 % when each image loses its own mean colour instead.
    """
    half = form.channels * (0.5,)
    spec = Spec("pixels", "", image_size=32, mean=half, std=half, fit="squash", levels=form.levels)
    return Encoder(nn.Flatten(), spec).eval()


def random_weights(encoder: Encoder, seed: int = 0) -> Encoder | None:
    """The same network with the weights that it has before training; None where only Python can build it."""
    if not encoder.spec.model:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return again(encoder.spec).eval()


def start(encoder: Encoder) -> Encoder | None:
    """The weights that training began from, untouched; None when it began from random ones.

    Raises TapetumError when they are no longer to be had.
    """
    spec = encoder.spec
    if spec.began_from == "none" or not spec.model:
        return None
    args = {name: value for name, value in spec.args.items() if name not in SIZED}
    stem = spec.stem or "timm"
    first = build(spec.name, spec.image_size, weights=spec.began_from, stem=stem, **args).eval()
    return None if first.digest() == encoder.digest() else first
