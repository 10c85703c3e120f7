"""The labelled images of a case without the test images of classes that training has not."""

from dataclasses import replace

import torch

from tapetum.base.errors import TapetumError
from tapetum.evaluate.case import Case
from tapetum.evaluate.targets import WRONG, Labelled


def known(case: Case, name: str) -> Labelled:
    """For the protocol `name`. Raises TapetumError for other labels than one class an image, and where no
    test image is left."""
    if case.kind != "class":
        raise TapetumError(f"{name} needs one class an image; labels of the kind {case.kind!r} have none.")
    data = case.labelled
    there = data.truth < data.width
    if there.all():
        return data
    if not there.any():
        raise TapetumError(f"{name} needs test images of classes that training has; there are none.")
    notes = [note for note in data.notes if WRONG not in note]
    notes.append(f"{int((~there).sum()):,} test images of classes without training images are left out")
    keep = torch.nonzero(there)[:, 0]
    return replace(
        data, queries=data.queries[keep], truth=data.truth[keep], rows=data.rows[keep.numpy()], notes=notes
    )
