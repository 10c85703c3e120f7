"""What tells without labels how well an encoder has learnt, over the methods of the learning table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tapetum.measure.metrics import spearman


def correlations(found: Sequence[Mapping[str, Any]], draws: int = 2000) -> str:
    """Spearman's correlation of each label-free measure, and of the loss, with linear accuracy, as a table.

    found: a row for each method.
    """
    lines = [
        "| measure | encoders | methods | rank correlation | 95 % interval |",
        "|---|---|---:|---:|---:|",
    ]
    for what, kinds in (("ResNet", ("one view", "two views", "many views")), ("ViT", ("tokens",))):
        some = [row for row in found if row["kind"] in kinds]
        names = sorted({n for r in some for n in r["labelfree"]})
        measures = [("loss", [r["loss"] for r in some])]
        measures += [(n, [r["labelfree"].get(n, float("nan")) for r in some]) for n in names]
        accuracy = torch.tensor([r["linear"] for r in some])
        for name, values in measures if len(some) > 4 else []:
            x = torch.tensor(values)
            drawn = np.random.default_rng(0).integers(0, len(x), (draws, len(x)))
            each = [spearman(x[i], accuracy[i]) for i in map(torch.from_numpy, drawn)]
            low, high = np.nanquantile(each, [0.025, 0.975])
            lines.append(
                f"| {name} | {what} | {len(x)} | {spearman(x, accuracy):+.2f} | {low:+.2f} to {high:+.2f} |"
            )
    words = "Intervals: bootstrap over methods. The loss is compared although each method has its own."
    return "\n".join([*lines, "", words])
