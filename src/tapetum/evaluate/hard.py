"""Adversarial filtration: the test images that a reference gets wrong, as a list that is a test set again.

Hendrycks et al. 2021, "Natural adversarial examples", arXiv:1907.07174.
"""

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError
from tapetum.base.files import write_atomic
from tapetum.data.open import open_data
from tapetum.data.stores import Files
from tapetum.evaluate.result import Result
from tapetum.features import in_order


def hard_images(result: Result, test_data: Any, out: str | Path, labels: Any = "auto") -> int:
    """Write the hard ones of `test_data`, image files, into the list `out` (.csv); gives how many there are.

    `result` is a reference's, from `evaluate`, and of a metric that asks for classes; or of the protocol
    "unknown". See `hard_rows` for what is hard. The list has the columns path and label, and is test data for
    other encoders: numbers on it say nothing of the reference itself.

    Raises TapetumError where the result has no answers, is of other images, or nothing is hard.
    """
    source = in_order(open_data(test_data, labels))
    if (judged := result.protocol["test"]["images"]) != len(source):
        raise TapetumError(f"{result.name} is of {judged:,} test images; {source.name} has {len(source):,}.")
    if not isinstance(source.store, Files):
        raise TapetumError(f"a list names image files; {source.name} holds its images in another way.")
    rows = hard_rows(result)
    if not len(rows):
        raise TapetumError(f"{result.name}: no image of {source.name} is hard.")
    names, folder = source.label_names(), Path(out).absolute().parent
    table = io.StringIO()
    write = csv.writer(table, lineterminator="\n")
    write.writerow(["path", "label"])
    for row in rows.tolist():
        write.writerow([os.path.relpath(f"{source.store.root}/{source.keys[row]}", folder), names[row] or ""])
    write_atomic(out, table.getvalue())
    return len(rows)


def hard_rows(result: Result) -> np.ndarray:
    """The test images that every draw gets wrong; of "unknown" the unknown ones that look more known than
    half of the known ones (ImageNet-A's and ImageNet-O's rule)."""
    if result.answers is None:
        raise TapetumError(f"{result.name} has no answers for single images.")
    answers, truth, rows = result.answers.answers, result.answers.truth, result.answers.rows
    if result.protocol["name"] == "unknown":
        score = answers.mean(0)
        return rows[truth & (score < np.median(score[~truth]))]
    if result.answers.metric not in ("accuracy", "balanced_accuracy"):
        raise TapetumError(f"{result.name} does not say which images are wrong; accuracy does.")
    return rows[(answers != truth).all(0)]
