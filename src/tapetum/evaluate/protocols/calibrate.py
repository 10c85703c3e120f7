"""Do the probabilities of a logistic regression mean what they say, before and after temperature scaling?"""

from typing import Any

import torch
from torch import Tensor

from tapetum.evaluate.case import Case
from tapetum.evaluate.known import known
from tapetum.evaluate.regression import HEAD, regression
from tapetum.evaluate.result import Result
from tapetum.measure import calibration

VERSION = 1


def protocol(case: Case) -> list[Result]:
    """The regression is that of the protocol "logistic". One temperature is chosen on training images that it
    was not fitted to (Guo et al. 2017, arXiv:1706.04599). The test images report the expected calibration
    error in 15 bins, the Brier score and the negative log-likelihood, before and after it. The reliability
    diagram, the largest error of a bin and the error in bins of equal mass stand in the details.

    Test images of classes without training images have no right probability and are left out.
    """
    data = known(case, "calibrate")
    fitted = regression(data.x, data.y, data.width, case.seed)
    temperature, notes = 1.0, data.notes
    if len(fitted.held):
        temperature = calibration.temperature(fitted.logits, data.y[fitted.held])
    else:
        notes = [*notes, "each class has one training image: none is left for a temperature, which stays 1"]
    logits, found = fitted(data.queries), []
    for when, scaled in (("before scaling", logits), ("after scaling", logits / temperature)):
        confidence, said = scaled.softmax(1).max(1)
        details = {
            "temperature": temperature,
            "penalty": fitted.penalty,
            **_diagram(confidence, said == data.truth),
        }
        for name, metric, answers in (
            ("calibration error", "calibration_error", torch.stack([said.double(), confidence], 1)),
            ("Brier score", "mean", calibration.brier(scaled, data.truth)),
            ("negative log-likelihood", "mean", calibration.surprise(scaled, data.truth)),
        ):
            facts: dict[str, Any] = {"head": HEAD | {"scaled": when}, "notes": notes, "details": details}
            label = f"{name} {when}"
            found.append(
                case.result(
                    "calibrate",
                    VERSION,
                    metric,
                    answers[None],
                    data.truth,
                    rows=data.rows,
                    label=label,
                    **facts,
                )
            )
    return found


def _diagram(confidence: Tensor, right: Tensor) -> dict[str, Any]:
    bins = calibration.reliability(confidence, right)
    return {
        "accuracy": float(right.double().mean()),
        "maximum_error": calibration.maximum_error(confidence, right),
        "error_in_bins_of_equal_mass": calibration.expected_error(confidence, right, by="mass"),
        "reliability": {name: values.tolist() for name, values in bins._asdict().items()},
    }
