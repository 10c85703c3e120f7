"""Test images of only some of the classes, judged among these alone: the format of ImageNet-A."""

import torch

from tapetum.base.errors import TapetumError
from tapetum.evaluate.case import Case
from tapetum.evaluate.known import known
from tapetum.evaluate.regression import HEAD, regression
from tapetum.evaluate.result import Result

VERSION = 1


def protocol(case: Case) -> list[Result]:
    """The regression of the protocol "logistic" learns all classes of the training images. Each test image is
    then given one of the classes that the test images have, the others' logits being taken away (Hendrycks et
    al. 2021, arXiv:1907.07174, whose 200 classes are among ImageNet's 1,000). Beside the accuracy stand the
    expected calibration error and the accuracy among all classes.
    """
    data = known(case, "subset")
    there = data.truth.unique()
    if len(there) < 2:
        raise TapetumError(
            f"subset needs test images of at least 2 classes; there is {data.classes[int(there[0])]}."
        )
    fitted = regression(data.x, data.y, data.width, case.seed)
    logits = fitted(data.queries)
    confidence, at = logits[:, there].softmax(1).max(1)
    said = there[at]
    some, all_of_them = f"among {len(there)} classes", f"among all {data.width} classes"
    notes = [*data.notes, f"the test images have {len(there)} of the {data.width} classes that were learnt"]
    details = {"classes": [data.classes[i] for i in there.tolist()], "penalty": fitted.penalty}
    return [
        case.result(
            "subset", VERSION, metric, answers[None], data.truth, rows=data.rows, label=label, head=HEAD,
            notes=notes, details=details,
        )
        for label, metric, answers in (
            (f"accuracy {some}", "accuracy", said),
            (f"calibration error {some}", "calibration_error", torch.stack([said.double(), confidence], 1)),
            (f"accuracy {all_of_them}", "accuracy", logits.argmax(1)),
        )
    ]  # fmt: skip
