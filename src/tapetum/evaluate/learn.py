"""What protocols share that learn from labelled features and answer for each test image."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result

# (x [n, D], y [n, ...], queries [m, D], width, seed) -> scores [m, width]
Learner = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def learn(
    case: Case, name: str, version: int, head: dict[str, Any], learner: Learner, **facts: Any
) -> Result:
    """Train `learner` on the case's training images and judge it by the test images."""
    data = case.labelled
    scores = learner(data.x, data.y, data.queries, data.width, case.seed)
    notes = [*data.notes, *facts.pop("notes", [])]
    answered = answers(scores, case)[None]
    return case.result(
        name, version, case.metric, answered, truth(case), rows=data.rows, head=head, notes=notes, **facts
    )


def answers(scores: Tensor, case: Case) -> Tensor:
    """What the case's metric wants of scores [m, C]: classes [m], one score [m], scores [m, C] or numbers."""
    if case.metric == "auroc":
        return scores[:, 1] - scores[:, 0]
    if case.kind == "class":
        return scores.argmax(1)
    return scores[:, 0] if case.kind == "number" else scores


def truth(case: Case) -> Tensor:
    """What is right, in the form that the metric wants."""
    return case.labelled.truth == 1 if case.metric == "auroc" else case.labelled.truth
