"""Segmentation's numbers against torchmetrics, and against counting by hand."""

import math

import pytest
import torch

import tapetum.base.torchvision_compat  # noqa: F401 - torchmetrics imports torchvision by itself
from tapetum.measure.segmentation import class_iou, counts, mean_iou, pixel_accuracy


@pytest.fixture
def pictures():
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(5, (7, 12, 9), generator=g)
    noise = torch.rand(7, 12, 9, generator=g)
    predicted = torch.where(noise < 0.6, truth, torch.randint(5, (7, 12, 9), generator=g))
    truth[torch.rand(7, 12, 9, generator=g) < 0.1] = 255
    return predicted, truth


def test_torchmetrics_agrees(pictures):
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    predicted, truth = pictures
    counted = counts(predicted, truth, 5)
    settings = {"num_classes": 5, "ignore_index": 255}
    each = MulticlassJaccardIndex(**settings, average="none")(predicted, truth)
    torch.testing.assert_close(class_iou(*counted).float(), each)
    assert mean_iou(*counted) == pytest.approx(float(each.mean()), abs=1e-6)
    micro = MulticlassAccuracy(**settings, average="micro")(predicted, truth)
    assert pixel_accuracy(*counted) == pytest.approx(float(micro), abs=1e-6)


def test_counts_are_those_of_each_image(pictures):
    predicted, truth = pictures
    told, true = counts(predicted, truth, 5)
    for b in range(len(truth)):
        for c in range(5):
            known = truth[b] != 255
            right = ((predicted[b] == c) & (truth[b] == c)).sum()
            assert told[b, c].tolist() == [right, (known & (predicted[b] == c)).sum()]
            assert true[b, c] == (truth[b] == c).sum()


def test_classes_that_are_nowhere_do_not_count_and_never_told_ones_do():
    truth = torch.tensor([[[0, 0, 1, 3]]])
    predicted = torch.tensor([[[0, 1, 1, 1]]])
    iou = class_iou(*counts(predicted, truth, 5))
    assert iou[:2].tolist() == [0.5, 1 / 3] and iou[3] == 0 and math.isnan(iou[2]) and math.isnan(iou[4])
    assert mean_iou(*counts(predicted, truth, 5)) == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert pixel_accuracy(*counts(predicted, truth, 5)) == 0.5
