"""Classifiers as files for other tools, each read back and compared before it takes its name."""

import json
from pathlib import Path
from typing import Any

from tapetum.adapt.classifier import Classifier
from tapetum.base.console import say
from tapetum.base.errors import TapetumError
from tapetum.encoders.export import write_onnx


def export(folder: str | Path, out: Path, format: str) -> dict[str, Any]:
    """Write a classifier as one ONNX file of pixels [N, C, S, S] in [0, 1].

    It gives calibrated `probabilities` [N, classes], `features` [N, D] and `unlike` [N], true of what is
    unlike anything in training; its metadata hold the classes' names and the preprocessing as JSON.

    Raises TapetumError for another format, and when `out` exists or the file gives other numbers; nothing is
    then left at `out`.
    """
    if format != "onnx":
        raise TapetumError(
            f"a classifier is exported with --format onnx, head and all; {folder} itself holds its "
            "encoder and its head as safetensors."
        )
    if out.exists():
        raise TapetumError(f"{out} exists already and is not overwritten: choose another --out.")
    made = Classifier.load(folder).portable()
    outputs = ["probabilities", "features", *["unlike"] * (made.threshold is not None)]
    spec = made.encoder.spec
    facts = {"classes": json.dumps(made.classes), "preprocessing": json.dumps(spec.preprocessing())}
    difference = write_onnx(made, spec, outputs, out, facts)
    checked = "" if difference is None else f"; read back, its numbers differ by at most {difference:.1e}"
    say(f"wrote {out} (onnx), which gives {', '.join(outputs)} of pixels in [0, 1]{checked}")
    return {
        "out": str(out),
        "format": format,
        "outputs": outputs,
        "classes": made.classes,
        "difference": difference,
    }
