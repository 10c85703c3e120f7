"""Dense parts against loops over positions, lightly's loss and the geometry of the views."""

import math

import pytest
import torch
from lightly.loss.detcon_loss import DetConBLoss, DetConSLoss
from lightly.models.utils import most_similar_index, select_most_similar
from torch import nn
from torch.nn import functional as F

from tapetum import encoders, views
from tapetum.base.random import uniform
from tapetum.parts import dense
from tapetum.parts.masks import take
from tapetum.views import Batch, Draw


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def place(geometry, i, side=3):
    """Where the middle of the i-th position of a map lies in the image."""
    return (geometry @ torch.tensor([(i % side + 0.5) / side, (i // side + 0.5) / side, 1.0]))[:2]


def two_views(view):
    """The geometry of two draws of a view, for four images."""
    pixels, size = torch.rand(4, 3, 40, 40), torch.full((4, 2), 40.0)
    return views.draw([view, view], pixels, size, Draw(0, 0, 0, torch.arange(4)), 32)[1]


def test_convolutions_are_an_mlp_at_every_position():
    net = dense.convs(6, 8, 4).double().eval()
    maps = rows(2, 6, 3, 3)
    got = net(maps)
    for b, i, j in [(0, 0, 0), (1, 2, 1)]:
        hidden = net[1].eval()((net[0].weight[:, :, 0, 0] @ maps[b, :, i, j])[None, :, None, None])
        want = net[3].weight[:, :, 0, 0] @ hidden.flatten().clamp(min=0) + net[3].bias
        torch.testing.assert_close(got[b, :, i, j], want)
    assert [type(m) for m in dense.convs(6, 8, 4, norm=None)] == [nn.Conv2d, nn.ReLU, nn.Conv2d]


def test_pixel_propagation_follows_its_formula():
    net = dense.PixelPropagation(5, 2.0).double()
    x = rows(2, 4, 5)
    got = net(x)
    for b in range(2):
        at = list(x[b])
        sent = [net.transform.weight @ x + net.transform.bias for x in at]
        for i in range(4):
            want = torch.zeros(5, dtype=torch.float64)
            for j in range(4):
                cosine = float(at[i] @ at[j] / at[i].norm() / at[j].norm())
                want += max(cosine, 0.0) ** 2 * sent[j]
            torch.testing.assert_close(got[b, i], want)


def test_the_adaptor_does_at_each_position_what_the_head_does_to_the_whole():
    encoder = encoders.build("convnext_atto", 64).eval()  # has a norm behind the pooling
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        got, maps = dense.SpatialAdaptor(encoder)(x), encoder.maps(x)
        norm = encoder.net.head.norm
        want = F.layer_norm(maps.movedim(1, -1), maps.shape[1:2], norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(got, want.movedim(-1, 1))
        assert not torch.allclose(got, maps)
        vit = encoders.build(
            "vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=1, num_heads=2
        ).eval()
        small = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(dense.SpatialAdaptor(vit)(small), vit.maps(small))


def test_self_attention_adds_what_positions_say_to_each_other():
    net = dense.SelfAttention(6, 2).double()
    maps = rows(2, 6, 2, 2)
    got, part = net(maps), net.attention
    for b in range(2):
        x = maps[b].flatten(1).T  # [4, 6]
        q, k, v = (x @ w.T + c for w, c in zip(part.in_proj_weight.chunk(3), part.in_proj_bias.chunk(3)))
        heads = []
        for h in (slice(0, 3), slice(3, 6)):
            heads.append((q[:, h] @ k[:, h].T / math.sqrt(3)).softmax(1) @ v[:, h])
        want = x + torch.cat(heads, 1) @ part.out_proj.weight.T + part.out_proj.bias
        torch.testing.assert_close(got[b].flatten(1).T, want)


def test_most_similar_is_lightlys():
    a, b, values = rows(3, 5, 4), rows(3, 5, 4, seed=1), rows(3, 5, 2, seed=2)
    index = dense.most_similar(a, b)
    assert torch.equal(index, most_similar_index(a, b))
    torch.testing.assert_close(take(values, index), select_most_similar(a, b, values))


@pytest.mark.parametrize(
    "view", [views.Crop() + views.Flip(), views.Crop() + views.Rotate()], ids=["box", "turned"]
)
def test_distances_are_in_diagonals_of_the_larger_views_positions(view):
    first, second = two_views(view)
    got, side = dense.distances(first, second, 3), 3
    for b in range(4):
        diagonal = max(
            float((g[b] @ torch.tensor([1.0, 1.0, 0.0]))[:2].norm()) / side for g in (first, second)
        )
        for i, j in [(0, 0), (4, 7), (8, 2)]:
            gap = float((place(first[b], i) - place(second[b], j)).norm())
            assert math.isclose(float(got[b, i, j]), gap / diagonal, rel_tol=1e-4, abs_tol=1e-5)


def test_segments_follow_the_crop():
    """A view of the right half, mirrored, shows the grid's right columns, mirrored."""
    geometry = torch.tensor([[[-0.5, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    batch = Batch({"index": torch.arange(1)}, Draw(0, 0, 0, torch.arange(1)))
    shares = dense.segments(dense.regions(batch, 4), 16, geometry, 4)[0]  # [16, 4, 4]
    for y in range(4):
        for x in range(4):
            want = torch.zeros(16)
            want[4 * y + (3 if x < 2 else 2)] = 1.0
            torch.testing.assert_close(shares[:, y, x], want)


def test_what_lies_in_no_segment_counts_for_none_and_borders_are_shared():
    masks = torch.tensor([[[0, 0, 1, 1]] * 2 + [[-1, -1, -1, -1]] * 2])
    shares = dense.segments(masks, 2, torch.eye(3)[None], 1)
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.25]).view(1, 2, 1, 1))


def test_drawn_segments_are_those_shown_each_as_likely():
    shares = torch.zeros(2, 6, 2, 2)
    shares[0, [1, 4]], shares[1, [0, 2, 5]] = 0.5, 1.0
    u = uniform(0, 0, torch.arange(2), "u", (3000,))
    ids, own = dense.drawn(shares, u)
    counts = [torch.bincount(row, minlength=6) / 3000 for row in ids]
    assert ((counts[0] - torch.tensor([0, 0.5, 0, 0, 0.5, 0])).abs() < 0.05).all()
    assert ((counts[1] - torch.tensor([1, 0, 1, 0, 0, 1]) / 3).abs() < 0.05).all()
    assert torch.equal(own[1, 7], shares[1, ids[1, 7]])


def test_pooling_is_the_weighted_mean():
    maps, shares = rows(2, 3, 2, 2), rows(2, 4, 2, 2, seed=1).abs()
    got = dense.pooled(maps, shares)
    for b, m in [(0, 0), (1, 3)]:
        cells = [(i, j) for i in range(2) for j in range(2)]
        total = sum(shares[b, m, i, j] for i, j in cells)
        want = sum(shares[b, m, i, j] * maps[b, :, i, j] for i, j in cells) / total
        torch.testing.assert_close(got[4 * b + m], want)


def test_agreement_is_the_mean_cosine_of_near_pairs():
    said, target, near = rows(3, 4, 5), rows(3, 4, 5, seed=1), rows(3, 4, 4, seed=2) > 0
    near[1] = False
    total = 0.0
    for b in (0, 2):
        pairs = [(i, j) for i in range(4) for j in range(4) if near[b, i, j]]
        total += (
            sum(float(F.cosine_similarity(said[b, i], target[b, j], 0)) for i, j in pairs) / len(pairs) / 3
        )
    assert math.isclose(float(dense.agreement(said, target, near)), total, rel_tol=1e-9)


@pytest.mark.parametrize("target", ["own", "other"])
def test_segment_contrast_is_lightlys_with_its_gradient(target):
    """DetCon-S compares with the projections themselves, DetCon-B with those of a slow copy."""
    ids = [torch.randint(0, 5, (3, 4), generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    values = []
    for ours in (True, False):
        said = [rows(3, 4, 6, seed=s).requires_grad_() for s in (2, 3)]
        slow = said if target == "own" else [rows(3, 4, 6, seed=s) for s in (4, 5)]
        if ours:
            loss = sum(
                dense.segment_contrast(said[a], slow[b], slow[a], ids[a], ids[b], 0.1)
                for a, b in ((0, 1), (1, 0))
            )
        elif target == "own":
            loss = DetConSLoss(0.1)(*said, *ids)
        else:
            loss = DetConBLoss(0.1)(*said, *slow, *ids)
        loss.backward()
        values.append([loss.detach(), *(x.grad for x in said)])
    for a, b in zip(*values):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
