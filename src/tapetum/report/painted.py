"""What a run has learnt to paint: images with parts hidden, and what its method puts there."""

from typing import Any

import torch

from tapetum.base.errors import TapetumError
from tapetum.report.page import Html, Section, paragraph, picture, tag
from tapetum.report.sheet import Sample, tile
from tapetum.report.story import Story
from tapetum.train import checkpoint, contents

SIDE = 112  # of a picture, in pixels


def section(told: Story, sample: Sample | str) -> Section:
    """Each image, what was shown of it and what was painted, by the weights of the last checkpoint; an empty
    section for methods that paint nothing."""
    made = Section("What it paints", "painted")
    if isinstance(sample, str) or not hasattr(sample.method, "paint"):
        return made
    method: Any = sample.method
    try:
        newest = checkpoint.newest(told.folder / "checkpoints")
        if newest is None:
            return made
        path, facts = newest
        contents.restore_method(path, method)
        method.eval()
        with torch.no_grad():
            made.parts += _figures(method.paint(sample.batch), facts["step"])
    except (TapetumError, RuntimeError) as error:
        made.parts.append(paragraph(f"It cannot be shown: {error}"))
    return made


def _figures(pictures: dict[str, torch.Tensor], step: int) -> list[Html]:
    words = f"For each image: {', '.join(pictures)}; by the weights of step {step:,}."
    rows = [
        [picture(tile(x.float(), SIDE), f"{name} {i}") for name, x in zip(pictures, together)]
        for i, together in enumerate(zip(*pictures.values(), strict=True))
    ]
    return [paragraph(words), tag("div", [tag("figure", row) for row in rows], class_="patches")]
