"""Guesses among prototypes against slow writings of their formulas, and against lightly's."""

import math

import torch
from lightly.loss import IBOTPatchLoss

from tapetum.parts import prototypes

MASK = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()  # [B, N], an image without any


def scores(seed: int, rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_patches_count_by_image():
    logits, target = scores(0), scores(1).softmax(1)
    total = 0.0
    for row, share in zip(range(4), (1 / 3, 1 / 3, 1 / 3, 1)):
        bottom = sum(math.exp(float(x)) for x in logits[row])
        for k in range(7):
            total -= share / 3 * float(target[row, k]) * math.log(math.exp(float(logits[row, k])) / bottom)
    assert math.isclose(float(prototypes.patch_cross_entropy(logits, target, MASK)), total, rel_tol=1e-12)


def test_without_hidden_patches_nothing_is_asked():
    none = scores(0, 0).requires_grad_()
    loss = prototypes.patch_cross_entropy(none, scores(0, 0), torch.zeros(3, 4).bool())
    loss.backward()
    assert loss.item() == 0


def test_patch_loss_is_lightlys_with_its_gradient():
    """Centre at zero, as at the first step of both."""
    said, seen = scores(0).requires_grad_(), scores(1)
    target = prototypes.centred(seen, torch.zeros(7, dtype=torch.float64), 0.05)
    ours = prototypes.patch_cross_entropy(said / 0.2, target, MASK)
    theirs = IBOTPatchLoss(7, teacher_temp=0.05, student_temp=0.2)(seen, said, MASK.view(3, 2, 2))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, said)[0] for loss in (ours, theirs)))


def test_centring_takes_the_centre_away():
    row, centre = scores(0)[0], scores(1)[0]
    parts = [math.exp(float(s - c) / 0.3) for s, c in zip(row, centre)]
    got = prototypes.centred(row, centre, 0.3)
    assert all(math.isclose(float(p), part / sum(parts), rel_tol=1e-12) for p, part in zip(got, parts))
    assert prototypes.centred(row.bfloat16(), centre.float(), 0.3).dtype == torch.float32


def test_mean_entropy():
    p = scores(2).softmax(1)
    mean = [sum(float(p[i, k]) for i in range(4)) / 4 for k in range(7)]
    want = -sum(q * math.log(q) for q in mean)
    assert math.isclose(float(prototypes.mean_entropy(scores(2))), want, rel_tol=1e-12)
    assert math.isclose(float(prototypes.mean_entropy(100 * torch.eye(7))), math.log(7), rel_tol=1e-6)


def test_guesser_is_dinos_head():
    head = prototypes.guesser(6, 5, 4, 7).double()
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    assert head(x).shape == (3, 2, 7) and head(x).abs().max() <= 1
    z = head[0](x[0, 0])
    for k, direction in enumerate(head[1].weight):
        cosine = float(z @ direction) / math.hypot(*z.tolist()) / math.hypot(*direction.tolist())
        assert math.isclose(float(head(x)[0, 0, k]), cosine, rel_tol=1e-9)
    names = [type(layer).__name__ for layer in prototypes.guesser(6, 5, 4, 7, batch_norm=True)[0]]
    assert names == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]


def test_a_centred_teacher_guesses_evenly_where_it_preferred_one():
    """Why there is a centre: what all images share is taken away."""
    common = 5 * torch.eye(7, dtype=torch.float64)[2]
    seen = scores(3, 200) + common
    before = prototypes.centred(seen, torch.zeros(7, dtype=torch.float64), 1.0).mean(0)
    after = prototypes.centred(seen, seen.mean(0), 1.0).mean(0)
    assert before[2] > 0.8 and after.max() < 0.25
