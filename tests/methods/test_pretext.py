"""Pretext tasks against slow, independent writings of them, in float64; what they show and what they hide."""

import math
import re

import pytest
import torch
from safetensors.torch import load_file

from small_methods import prepared
from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.parts.lab import colours
from tapetum.train import checkpoint, contents, optimizer, sandbox, setup
from tapetum.train.optimizer import OptimizerSettings
from tapetum.views.nest import leaves, whole_patches


def cross_entropy(logits, label, smoothing=0.0):
    """The mean over rows, by exponentials."""
    total, classes = 0.0, logits.shape[1]
    for row, right in zip(logits.tolist(), label.tolist()):
        norm = sum(math.exp(v) for v in row)
        share = [smoothing / classes + (1 - smoothing) * (k == right) for k in range(classes)]
        total -= sum(s * math.log(math.exp(v) / norm) for s, v in zip(share, row)) / len(logits)
    return total


def said(head, pictures, method):
    """What a head says of the vectors of single images, side by side, all encoded in one batch."""
    return head(method.encoder(torch.stack(pictures)))


def test_rotation():
    method, batch = prepared("rotation")
    out = method.loss(batch, 0.0)
    pictures, turns = [], []
    for k in range(4):
        for x in batch["x"]:
            for _ in range(k):  # a quarter counter-clockwise: the last column becomes the first row
                x = x.transpose(1, 2).flip(1)
            pictures.append(x)
            turns.append(k)
    logits = said(method.classifier, pictures, method)
    assert math.isclose(float(out["loss"]), cross_entropy(logits, torch.tensor(turns)), rel_tol=1e-9)
    right = sum(int(row.argmax()) == k for row, k in zip(logits, turns)) / len(turns)
    assert math.isclose(float(out["accuracy"]), right, rel_tol=1e-6)


def test_diet():
    method, batch = prepared("diet")
    assert method.classifier.out_features == 64 and method.smoothing == 0.8
    logits = method.encoder(batch["x"]) @ method.classifier.weight.T
    total = cross_entropy(logits, batch["index"], 0.8)
    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), total, rel_tol=1e-9)


def test_jigsaw():
    method, batch = prepared("jigsaw")
    out = method.loss(batch, 0.0)
    place, order = batch.random("place", (9, 2)), (8 * batch.random("order")).long()
    mean, std = method.encoder.mean, method.encoder.std
    tiles = []
    for b, x in enumerate(batch["x"].double()):
        for slot in range(9):
            n = int(method.orders[order[b], slot])  # the tile that stands in this slot
            left, top = (10 * at + int(2 * u) for at, u in zip((n % 3, n // 3), place[b, n].tolist()))
            tile = x[:, top : top + 9, left : left + 9]
            for c in range(3):
                spread = tile[c].std(correction=0).clamp(min=1e-3)
                tile = tile.index_copy(0, torch.tensor([c]), ((tile[c] - tile[c].mean()) / spread)[None])
            tiles.append(tile * std + mean)
    each = method.each(method.encoder(torch.stack(tiles)))
    logits = method.classifier(each.view(len(batch), -1))
    assert math.isclose(float(out["loss"]), cross_entropy(logits, order), rel_tol=1e-5)  # pixels are float32


def test_jigsaw_hides_the_tiles_brightness_and_contrast():
    method, batch = prepared("jigsaw")
    before = method.loss(batch, 0.0)["loss"]
    ramp = torch.linspace(0.5, 0.9, 3).repeat_interleave(10)
    batch["x"] = batch["x"].clone()
    batch["x"][..., :30, :30] *= ramp  # each column of tiles darker than the next
    torch.testing.assert_close(method.loss(batch, 0.0)["loss"], before, rtol=1e-3, atol=0)


def test_context():
    method, batch = prepared("context")
    out = method.loss(batch, 0.0)
    place, label = batch.random("place", (3, 2)), (8 * batch.random("side")).long()
    around = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]
    side, step, loose = 12, 18, 1  # 32 pixels hold two of 12, a gap of 6 and one pixel of jitter on each side
    pair = method.pair(batch["x"], label, place)
    assert pair.shape == (len(batch), 2, 3, side, side)
    for b, x in enumerate(batch["x"]):
        first, second = [], []
        for axis in (0, 1):
            towards = around[label[b]][axis]
            free = 32 - side - abs(towards) * step - 2 * loose
            start = loose + int(float(place[b, 0, axis]) * (free + 1)) + (step if towards < 0 else 0)
            for at, where, row in ((first, start, 1), (second, start + towards * step, 2)):
                at.append(where - loose + min(2 * loose, int(3 * float(place[b, row, axis]))))
        for got, (left, top) in zip(pair[b], (first, second)):
            assert 0 <= left <= 32 - side and 0 <= top <= 32 - side
            assert torch.equal(got, x[:, top : top + side, left : left + side])
    colour = batch.random("colour", (2, 3))
    shown = []
    for b in range(len(batch)):
        for k in range(2):
            shown.append(
                one_colour(pair[b, k], int(3 * colour[b, k, 0]), colour[b, k, 1:], method.encoder.mean)
            )
    logits = method.classifier(method.encoder(torch.stack(shown)).view(len(batch), -1))
    assert math.isclose(float(out["loss"]), cross_entropy(logits, label), rel_tol=1e-5)


def one_colour(patch, left, u, mean):
    """A patch of which one channel is left, and noise in the others."""
    from tapetum.base import random

    noise = random.normal(random.key(u[None]), tuple(patch.shape))[0]
    channels = [
        patch[c] if c == left else mean[c] + 0.01 * patch[left].std(correction=0) * noise[c] for c in range(3)
    ]
    return torch.stack([c.double() for c in channels])


def test_colourisation():
    from skimage.color import rgb2lab

    method, batch = prepared("colourisation")
    middles = colours(10.0).double()
    with torch.no_grad():
        method.frequency.copy_(torch.rand(len(middles), generator=torch.Generator().manual_seed(0)))
        method.frequency.div_(method.frequency.sum())
    out = method.loss(batch, 0.0)
    true = torch.from_numpy(rgb2lab(batch["x"].double().movedim(1, -1).numpy())).movedim(-1, 1)
    grey = (true[:, :1] / 100).repeat(1, 3, 1, 1)
    maps = method.encoder.maps(grey)
    side = maps.shape[-1]
    cell = 32 // side
    weight = [1 / (0.5 * p + 0.5 / len(middles)) for p in method.frequency.tolist()]
    mean = sum(p * w for p, w in zip(method.frequency.tolist(), weight))
    total, counted = 0.0, torch.zeros(len(middles), dtype=torch.float64)
    for b in range(len(batch)):
        for i in range(side):
            for j in range(side):
                ab = true[b, 1:, cell * i : cell * (i + 1), cell * j : cell * (j + 1)].mean((1, 2))
                gaps = (middles - ab).square().sum(1)
                near = gaps.argsort()[:5]
                target = torch.zeros_like(gaps)
                target[near] = (-gaps[near] / 50).exp() / (-gaps[near] / 50).exp().sum()
                logits = method.head.weight[:, :, 0, 0] @ maps[b, :, i, j] + method.head.bias
                logp = logits - logits.exp().sum().log()
                total -= weight[int(near[0])] / mean * float((target * logp).sum())
                counted += target / (len(batch) * side**2)
    assert math.isclose(
        float(out["loss"]), total / (len(batch) * side**2), rel_tol=1e-4
    )  # pixels are float32
    before = method.frequency.clone()
    method.after_step(0.0, out["keep"])
    torch.testing.assert_close(method.frequency, 0.99 * before + 0.01 * counted, rtol=1e-4, atol=1e-6)


def test_colourisation_shows_the_encoder_no_colour():
    method, batch = prepared("colourisation")
    seen = []
    maps = method.encoder.maps
    method.encoder.maps = lambda x: seen.append(x) or maps(x)
    method.loss(batch, 0.0)
    assert torch.equal(seen[0][:, 0], seen[0][:, 1]) and torch.equal(seen[0][:, 0], seen[0][:, 2])


def test_colourisation_needs_colours():
    grey = encoders.build("resnet10_w32", 32, in_chans=1)
    with pytest.raises(TapetumError, match="images of 3 channels; this encoder takes 1"):
        find("colourisation")(grey)


VIT = {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize("name", ["rotation", "diet", "jigsaw", "context", "colourisation", "multi_task"])
def test_vits_learn_it_too(name):
    torch.manual_seed(0)
    vit = encoders.build("vit_tiny_patch16_224", 32, **VIT)
    small = {"permutations": 8} if name == "jigsaw" else {}
    small |= {"hidden": 32} if name in ("jigsaw", "context", "multi_task") else {}
    method = setup.build_method(find(name), vit, sandbox.source(), 32, small).train()
    out = method.loss(sandbox.one_batch(method), 0.0)
    out["loss"].backward()
    assert torch.isfinite(out["loss"]) and all(p.grad is not None for p in method.parameters())


def test_multi_task_is_the_weighted_sum_of_its_methods():
    method, batch = prepared("multi_task", methods=("rotation", "diet"), weights=(1.0, 0.25), harmonise=False)
    out = method.loss(batch, 0.0)
    rotation, diet = method.tasks["rotation"], method.tasks["diet"]
    turned = torch.cat([batch["rotation"]["x"].rot90(k, (2, 3)) for k in range(4)])
    turns = torch.arange(64) // 16
    first = cross_entropy(rotation.classifier(method.encoder(turned)), turns)
    second = cross_entropy(method.encoder(batch["diet"]["x"]) @ diet.classifier.weight.T, batch["index"], 0.8)
    assert math.isclose(float(out["loss"]), first + 0.25 * second, rel_tol=1e-9)
    assert math.isclose(float(out["rotation.loss"]), first, rel_tol=1e-9)
    assert math.isclose(float(out["diet.loss"]), second, rel_tol=1e-9)


SMALL_DINO = ("dino.prototypes=24", "dino.dim=16", "dino.small_crops=1")
SMALL_SWAV = ("swav.prototypes=24", "swav.dim=16", "swav.small_crops=1", "swav.queue=0")


def test_multi_task_hands_everything_on():
    """A method that remembers, follows, looks at all images and ramps does so inside another, too."""
    method, batch = prepared("multi_task", methods=("dino", "colourisation"), settings=SMALL_DINO)
    dino = method.tasks["dino"]
    out = method.loss(batch, 0.5)
    assert {"dino.centre", "colourisation.frequency"} == set(out["keep"])
    centre, teacher = dino.centre.clone(), dino.teacher.chain[0].net.conv1.weight.clone()
    frequency = method.tasks["colourisation"].frequency.clone()
    with torch.no_grad():
        method.encoder.net.conv1.weight.add_(1.0)
    method.after_step(0.5, out["keep"])
    assert not torch.equal(dino.centre, centre) and not torch.equal(
        dino.teacher.chain[0].net.conv1.weight, teacher
    )
    assert not torch.equal(method.tasks["colourisation"].frequency, frequency)
    looked = []
    dino.before_epoch = lambda t, over: looked.append((t, over))
    method.before_epoch(0.25, "all")
    assert looked == [(0.25, "all")]


@pytest.mark.parametrize(
    ("first", "settings", "at"),
    [("dino", SMALL_DINO, "projector.1.weight"), ("swav", SMALL_SWAV, "prototypes.weight")],
)
def test_multi_task_leaves_its_methods_rates_where_they_belong(first, settings, at):
    method, _ = prepared("multi_task", methods=(first, "rotation"), settings=settings)
    ((pattern, rate),) = method.rates
    found = [n for n, _ in method.named_parameters() if re.search(pattern, n)]
    assert found == [f"tasks.{first}.{at}"] and rate(0.0) == 0 and rate(1.0) == 1


@pytest.mark.parametrize(
    ("second", "settings"), [("ibot", ("ibot.prototypes=24", "ibot.small_crops=1")), ("nepa", ())]
)
def test_multi_tasks_methods_copy_the_encoder_as_all_of_them_want_it(second, settings):
    """iBOT gives it a blank, NEPA another pooling; BYOL, named before them, follows both."""
    vit = sandbox.small_encoder("tokens")
    given = {"methods": ("byol", second), "hidden": 32, "settings": settings}
    method = setup.build_method(find("multi_task"), vit, sandbox.source(), 32, given)
    method.views = whole_patches(method.views, 32, vit.patch)
    sandbox.train(method, 1)
    teacher = method.tasks["byol"].teacher.chain[0]
    assert teacher.spec == vit.spec and teacher.state_dict().keys() == vit.state_dict().keys()
    assert all(one.encoder is vit for one in method.tasks.values())


def test_multi_tasks_methods_draw_numbers_of_their_own():
    method, batch = prepared("multi_task", methods=("jigsaw", "context"), settings=("jigsaw.permutations=8",))
    draws = [method.part(batch, name).random("place", (2,)) for name in ("jigsaw", "context")]
    assert not torch.equal(*draws)
    again = method.part(batch, "jigsaw")
    assert torch.equal(draws[0], again.random("place", (2,))) and again["index"] is batch["index"]


def test_multi_task_shows_grey_images_where_colourisation_does():
    method, batch = prepared("multi_task")
    for name in ("context", "simclr"):
        for x in leaves_of(batch[name]):
            torch.testing.assert_close(x[:, 0], x[:, 1])
    assert (batch["colourisation"]["x"][:, 0] != batch["colourisation"]["x"][:, 1]).any()
    assert len(list(leaves(method.views))) == 4
    _, batch = prepared("multi_task", harmonise=False)
    assert (batch["context"]["x"][:, 0] != batch["context"]["x"][:, 1]).any()


def leaves_of(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [x for part in tree for x in leaves_of(part)] if isinstance(tree, list) else [tree]


def test_multi_task_is_saved_with_one_name_for_the_encoder_and_restored(tmp_path):
    def made(seed):
        method = sandbox.build(find("multi_task"), seed=seed, methods=("rotation", "byol"))
        return method, optimizer.build(method, OptimizerSettings(), 1e-3)

    method, opt = made(0)
    sandbox.train(method, 2)
    path = checkpoint.save(tmp_path, 2, method, opt, {}, keep=1)
    names = load_file(path / "method.safetensors")
    assert not any("tasks.rotation.encoder" in n or "tasks.byol.encoder" in n for n in names)
    other, opt = made(1)
    folder, facts = checkpoint.newest(tmp_path)
    contents.restore(folder, facts, other, opt)
    assert sandbox.changed(sandbox.state(method), sandbox.state(other)) == []
    assert other.tasks["byol"].encoder is other.encoder is other.tasks["rotation"].encoder


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"methods": ("rotation", "rotation")}, "different methods"),
        ({"weights": (1.0,)}, "as many weights"),
        ({"methods": ("rotaton",)}, "rotation"),
        ({"methods": ("supervised",)}, "cannot hold supervised"),
        ({"methods": ("multi_task",)}, "cannot hold multi_task"),
        ({"methods": ("mae",)}, "cannot hold mae.*tokens"),
        ({"settings": ("dino.dim=3",)}, "not of the form `context.name=value`"),
        ({"settings": ("simclr.temprature=0.5",)}, "did you mean 'temperature'"),
    ],
)
def test_multi_task_refuses_in_a_sentence(settings, says):
    with pytest.raises(TapetumError, match=says):
        sandbox.build(find("multi_task"), **settings)
