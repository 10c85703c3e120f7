"""The methods that group images, against slow, independent writings of their papers' equations in float64."""

import importlib
import math

import numpy as np
import pytest
import torch
from lightly.loss import SwaVLoss
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from small_methods import prepared
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.train import alike, check, sandbox, setup
from tapetum.views import nest

NAMES = ("swav", "deepclusterv2", "sela", "deepercluster", "nat", "scan")


def looked(method, t=0.0):
    """Let a method look at the easy images, as before an epoch."""
    pixels = sandbox.easy_pixels().double() / 255

    @torch.no_grad()
    def over(f):
        method.eval()
        found = f(pixels)
        method.train()
        return found

    method.before_epoch(t, over)
    return over


def projected(method, batch):
    """What a method with large and small crops makes of them: unit vectors [V, B, D]."""
    sizes = [torch.cat(batch[name]) for name in ("large", "small")]
    z = method.projector(torch.cat([method.encoder(x) for x in sizes]))
    return (z / z.norm(dim=1, keepdim=True)).view(-1, len(batch), z.shape[1])


def slow_cross_entropy(scores, target):
    """-sum q log p of one row, both as lists."""
    top = max(scores)
    bottom = top + math.log(sum(math.exp(s - top) for s in scores))
    return -sum(q * (s - bottom) for q, s in zip(target, scores))


def one_hot(label, count):
    return [float(k == label) for k in range(count)]


# ---- SwAV ----


def slow_sinkhorn(rows, temperature):
    q = [[math.exp(float(s) / temperature) for s in row] for row in rows]
    for _ in range(3):
        columns = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[x / columns[k] for k, x in enumerate(row)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


def full_queues(method, size):
    g = torch.Generator().manual_seed(4)
    rows = [F.normalize(torch.randn(size, 16, generator=g, dtype=torch.float64), dim=1) for _ in range(2)]
    for queue, items in zip(method.queues, rows):
        queue.push(items)
    return rows if size else [torch.zeros(0, 16)] * 2


@pytest.mark.parametrize("queue", [0, 20])
def test_swav(queue):
    method, batch = prepared("swav", queue=queue)
    old = full_queues(method, queue)
    loss = method.loss(batch, 0.5)["loss"]
    z = projected(method, batch).tolist()
    directions = F.normalize(method.prototypes.weight, dim=1).tolist()

    def score(row):
        return [sum(a * b for a, b in zip(row, direction)) for direction in directions]

    total, pairs = 0.0, 0
    scores = [[score(row) for row in crop] for crop in z]
    for i in range(2):
        codes = slow_sinkhorn(scores[i] + [score(row) for row in old[i].tolist()], 0.05)
        for j in range(len(z)):
            if j != i:
                pairs += 1
                for b in range(len(batch)):
                    total += slow_cross_entropy([s / 0.1 for s in scores[j][b]], codes[b]) / len(batch)
    assert pairs == 6
    assert math.isclose(loss.item(), total / pairs, rel_tol=1e-9)


@pytest.mark.parametrize("queue", [0, 20])
def test_swav_is_lightlys_with_its_gradient(queue):
    method, batch = prepared("swav", queue=queue)
    old = full_queues(method, queue)
    weights = [*method.projector.parameters(), method.prototypes.weight]
    ours = method.loss(batch, 0.5)["loss"]
    scores = list(method.prototypes(projected(method, batch)))
    queued = [method.prototypes(rows.double()) for rows in old] if queue else None
    theirs = SwaVLoss()(scores[:2], scores[2:], queued)[0]
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights)):
        torch.testing.assert_close(x, y)


def test_swavs_queue_holds_the_large_crops_and_waits_for_its_time():
    method, batch = prepared("swav", queue=40, queue_from=0.2)
    without = prepared("swav", queue=0)[0].loss(batch, 0.5)["loss"]
    for pushed in (16, 32, 48):
        out = method.loss(batch, 0.5)
        assert torch.equal(out["loss"], without)  # not yet full
        method.after_step(0.5, out["keep"])
        assert int(method.queues[0].next) == pushed
    z = projected(method, batch)
    for queue, crop in zip(method.queues, z):
        torch.testing.assert_close(queue.items[:8], crop[8:])  # the oldest are overwritten
        torch.testing.assert_close(queue.items[16:32], crop)
    assert torch.equal(method.loss(batch, 0.19)["loss"], without)
    assert not torch.equal(method.loss(batch, 0.2)["loss"], without)


def test_swavs_prototypes_stand_still_at_first():
    method, _ = prepared("swav", frozen=0.3)
    ((pattern, rate),) = method.rates
    assert pattern == r"^prototypes\."
    assert [rate(t) for t in (0.0, 0.29, 0.3, 1.0)] == [0, 0, 1, 1]
    before = method.prototypes.weight.detach().clone()
    method.rates = ((pattern, lambda t: 0.0),)
    sandbox.train(method, 2)
    assert torch.equal(method.prototypes.weight, before)


# ---- DeepCluster v2 ----


def test_deepclusterv2():
    method, batch = prepared("deepclusterv2", heads=2, temperature=0.2)
    looked(method)
    loss = method.loss(batch, 0.5)["loss"]
    z, total = projected(method, batch).tolist(), 0.0
    for head in range(2):
        centres = method.centres[head].tolist()
        for b, index in enumerate(batch["index"].tolist()):
            target = one_hot(int(method.labels[head, index]), 24)
            for crop in z:
                scores = [sum(x * y for x, y in zip(crop[b], centre)) / 0.2 for centre in centres]
                total += slow_cross_entropy(scores, target) / (2 * len(batch) * len(z))
    assert math.isclose(float(loss), total, rel_tol=1e-9)


def test_deepclusterv2_groups_what_it_remembers():
    method, batch = prepared("deepclusterv2")
    over = looked(method)
    whole = over(lambda x: F.normalize(method.projector(method.encoder(x)), dim=1))
    torch.testing.assert_close(method.memory, whole[:, None].expand(-1, 2, -1))
    method.after_step(0.1, method.loss(batch, 0.0)["keep"])
    z = projected(method, batch)
    rest = torch.ones(64, dtype=torch.bool).index_fill_(0, batch["index"], False)
    for crop in range(2):
        torch.testing.assert_close(method.memory[batch["index"], crop], z[crop])
        torch.testing.assert_close(method.memory[rest, crop], whole[rest])
    before = method.memory.clone()
    looked(method, 0.25)
    assert torch.equal(method.memory, before)  # it looks at whole images once
    for head, (centres, labels) in enumerate(zip(method.centres, method.labels)):
        memory = before[:, head % 2]
        torch.testing.assert_close(centres.norm(dim=1), torch.ones(24, dtype=torch.float64))
        assert torch.equal((memory @ centres.T).argmax(1), labels)
        for group in labels.unique():
            mean = memory[labels == group].mean(0)
            torch.testing.assert_close(centres[group], mean / mean.norm())
    assert not torch.equal(method.labels[0], method.labels[2])  # each head begins elsewhere


@pytest.mark.parametrize("name", ["deepclusterv2", "sela"])
def test_it_says_when_there_are_too_few_images(name):
    with pytest.raises(TapetumError, match="prototypes is 65; 64 images make at most as many"):
        sandbox.build(find(name), prototypes=65)


# ---- SeLa ----


def test_sela():
    method, batch = prepared("sela", heads=2, prototypes=4)
    over = looked(method)
    features = over(method.encoder)
    for labels, head in zip(method.labels, method.classifiers):
        logp = (features @ head.weight.T + head.bias).log_softmax(1)
        q = (25 * logp).exp()
        for _ in range(2000):  # the paper's alternation: scale columns, scale rows
            q = q / q.sum(0) * 16
            q = q / q.sum(1, keepdim=True)
        assert float((q.argmax(1) == labels).double().mean()) > 0.9  # but for rows on the border
        assert labels.bincount().max() < logp.argmax(1).bincount().max()
    loss, z, total = method.loss(batch, 0.5)["loss"], method.encoder(batch["x"]), 0.0
    for labels, head in zip(method.labels, method.classifiers):
        for b, index in enumerate(batch["index"].tolist()):
            scores = (head.weight @ z[b] + head.bias).tolist()
            total += slow_cross_entropy(scores, one_hot(int(labels[index]), 4)) / (2 * len(batch))
    assert math.isclose(float(loss), total, rel_tol=1e-9)


@pytest.mark.parametrize(("relabel", "at"), [(1, [0]), (2, [0, 5]), (3, [0, 4, 7]), (80, list(range(10)))])
def test_sela_labels_anew_at_even_times(relabel, at):
    method, _ = prepared("sela", relabel=relabel, heads=1)
    looks = []
    for epoch in range(10):
        method.before_epoch(epoch / 10, lambda f, e=epoch: (looks.append(e), torch.randn(64, 64).double())[1])
    assert looks == at


# ---- DeeperCluster ----


def test_deepercluster():
    method, batch = prepared("deepercluster", clusters=2, prototypes=3)
    looked(method)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in (*method.coarse.parameters(), *method.fine.parameters()):
            assert not p.any()  # new classes are learnt from nothing
            p.normal_(generator=g)
    loss = method.loss(batch, 0.5)["loss"]
    turns = (4 * batch.random("turn")).long().tolist()
    assert set(turns) == {0, 1, 2, 3}
    x = torch.stack([image.rot90(turn, (1, 2)) for image, turn in zip(batch["x"], turns)])
    total = 0.0
    for z, index, turn in zip(method.encoder(x), batch["index"].tolist(), turns):
        large, small = method.labels[index, turn].tolist()
        assert large % 4 == turn
        total += slow_cross_entropy((method.coarse(z)).tolist(), one_hot(large, 8)) / len(batch)
        own = method.fine(z)[3 * large : 3 * large + 3].tolist()
        total += slow_cross_entropy(own, one_hot(small, 3)) / len(batch)
    assert math.isclose(float(loss), total, rel_tol=1e-9)


@pytest.mark.parametrize("prototypes", [3, 24])
def test_deepercluster_groups_all_turns_and_then_each_group(prototypes):
    """A part has ten images or more; as many parts as images would teach nothing."""
    method, _ = prepared("deepercluster", clusters=2, prototypes=prototypes, dim=6)
    over = looked(method)
    x = torch.stack([over(lambda x, q=q: method.encoder(x.rot90(q, (2, 3)))) for q in range(4)], 1)
    x = x.flatten(0, 1).numpy()
    x = x - x.mean(0)
    directions, _, _ = np.linalg.svd(x, full_matrices=False)  # of variance 1 but for a factor
    x = directions[:, :6] / np.linalg.norm(directions[:, :6], axis=1, keepdims=True)
    large, small = method.labels.view(-1, 2).numpy().T
    assert (large % 4 == np.tile(range(4), 64)).all()
    at_nearest(x, large // 4)
    for group in np.unique(large):
        at_nearest(x[large == group], small[large == group])
        assert len(np.unique(small[large == group])) == min(prototypes, max(1, sum(large == group) // 10))


def at_nearest(x, labels):
    """Nearly every row stands at the nearest of its groups' means, as k-means leaves them."""
    groups = np.unique(labels)
    means = np.stack([x[labels == group].mean(0) for group in groups])
    nearest = groups[((x[:, None] - means) ** 2).sum(2).argmin(1)]
    assert (nearest == labels).mean() > 0.95


def test_deepercluster_groups_anew_in_every_third_epoch():
    method, _ = prepared("deepercluster")
    looks = []
    for epoch in range(7):
        method.before_epoch(
            epoch / 7, lambda f, e=epoch: (looks.append(e), torch.randn(64, 4, 64).double())[1]
        )
    assert looks == [0, 3, 6]


# ---- NAT ----


@pytest.mark.parametrize("epoch", [0, 1])
def test_nat(epoch):
    method, batch = prepared("nat", every=2)
    method.epoch.fill_(epoch)
    with torch.no_grad():
        method.own.copy_(torch.randperm(64, generator=torch.Generator().manual_seed(1)))
    index, before = batch["index"], method.own.clone()
    points = method.points(method.own).double()
    torch.testing.assert_close(points.norm(dim=1), torch.ones(64, dtype=torch.float64), atol=1e-6, rtol=0)
    out = method.loss(batch, 0.5)
    z = F.normalize(method.projector(method.encoder(batch["x"])), dim=1).detach()
    cost = (z[:, None] - points[index]).square().sum(2) / 2
    rows, columns = linear_sum_assignment(cost.numpy()) if epoch == 0 else (range(16), range(16))
    want = sum(float(cost[r, c]) for r, c in zip(rows, columns)) / 16
    assert math.isclose(float(out["loss"]), want, rel_tol=1e-6)
    method.after_step(0.5, out["keep"])
    assert method.own[index].tolist() == before[index][list(columns)].tolist()
    assert method.own.sort().values.tolist() == list(range(64))
    assert (epoch == 1) == torch.equal(method.own, before)


def test_nats_points_are_spread_evenly_over_the_sphere():
    method, _ = prepared("nat", dim=8)
    points = method.points(torch.arange(4000)).double()
    assert float(points.mean(0).abs().max()) < 0.03
    torch.testing.assert_close(points.T @ points / 4000, torch.eye(8).double() / 8, atol=0.01, rtol=0)
    cosines = (points[:-1] * points[1:]).sum(1)  # neighbours' points have nothing in common
    assert abs(float(cosines.mean())) < 0.03 and float(cosines.std()) == pytest.approx(8**-0.5, abs=0.02)


def test_nat_counts_epochs():
    method, _ = prepared("nat")
    method.before_epoch(0.0, None)
    assert int(method.epoch) == 0
    method.before_epoch(0.5, None)
    assert int(method.epoch) == 1


# ---- SCAN ----


def test_scan_agrees_with_neighbours_and_uses_all_clusters():
    method, batch = prepared("scan", clusters=5, neighbours=7)
    over = looked(method)
    features = over(method.encoder)
    near = NearestNeighbors(n_neighbors=8, metric="cosine").fit(features).kneighbors(features)[1]
    assert [set(row) - {i} for i, row in enumerate(near.tolist())] == [
        set(r) for r in method.neighbours.tolist()
    ]
    torch.testing.assert_close(method.bank, method.classifier(features).softmax(1))
    out = method.loss(batch, 0.0)
    p = method.classifier(method.encoder(batch["strong"])).softmax(1)
    total = 0.0
    for b, index in enumerate(batch["index"].tolist()):
        for other in method.bank[method.neighbours[index]].tolist():
            total -= math.log(sum(float(p[b, k]) * other[k] for k in range(5))) / (7 * len(batch))
    mean = [float(p[:, k].mean()) for k in range(5)]
    total += 5 * (math.log(5) + sum(x * math.log(x) for x in mean))
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-9)
    before = method.bank.clone()
    method.after_step(0.1, out["keep"])
    torch.testing.assert_close(method.bank[batch["index"]], p)
    rest = torch.ones(64, dtype=torch.bool).index_fill_(0, batch["index"], False)
    assert torch.equal(method.bank[rest], before[rest])


def test_scan_learns_from_sure_images_with_each_label_counting_alike():
    method, batch = prepared("scan", clusters=5, confidence=0.4, labelling=0.5)
    with torch.no_grad():
        method.classifier.weight.mul_(8)
    weak = method.classifier(method.encoder(batch["weak"])).softmax(1)
    strong = method.classifier(method.encoder(batch["strong"]))
    of_label = {}
    for b in range(len(batch)):
        if float(weak[b].max()) > 0.4:
            label = int(weak[b].argmax())
            of_label.setdefault(label, []).append(slow_cross_entropy(strong[b].tolist(), one_hot(label, 5)))
    sure = sum(map(len, of_label.values()))
    assert len(of_label) > 1 and sure < 16
    out = method.loss(batch, 0.5)
    want = sum(sum(errors) / len(errors) for errors in of_label.values()) / len(of_label)
    assert math.isclose(float(out["loss"]), want, rel_tol=1e-9)
    assert float(out["sure"]) == pytest.approx(sure / 16)
    assert float(method.loss(batch, 0.49)["sure"]) == 0


def test_scan_goes_on_as_before_while_none_is_sure():
    method, batch = prepared("scan", confidence=1.0)
    before, after = method.loss(batch, 0.0)["loss"], method.loss(batch, 1.0)["loss"]
    assert torch.equal(before, after)
    after.backward()
    assert method.classifier.weight.grad.any() and method.classifier.weight.grad.isfinite().all()


# ---- all ----


@pytest.mark.parametrize("name", NAMES)
def test_on_a_vit(name):
    encoder = sandbox.small_encoder("tokens")
    small = {"prototypes": 4, "hidden": 32, "dim": 16, "small_crops": 2, "queue": 32}
    known = setup.settings.allowed(find(name))
    given = {key: value for key, value in small.items() if key in known}
    method = setup.build_method(find(name), encoder, sandbox.source(), 32, given)
    method.views = nest.whole_patches(method.views, 32, encoder.patch)
    assert all(math.isfinite(numbers["loss"]) for numbers in sandbox.train(method, 6))


SAFEGUARDS = [
    ("swav", "sinkhorn", lambda scores, temperature: (scores / temperature).softmax(1)),
    ("scan", "imbalance", lambda scores: 0 * scores.sum()),
]


@pytest.mark.parametrize(("name", "part", "without"), SAFEGUARDS, ids=[name for name, _, _ in SAFEGUARDS])
def test_without_its_safeguard_it_collapses(name, part, without, monkeypatch):
    kind = find(name)
    monkeypatch.setattr(importlib.import_module(kind.__module__), part, without)
    with pytest.raises(check.Broken, match=r"tell images apart|collapse"):
        check.training_learns(kind)


@pytest.mark.parametrize("balanced", [True, False])
def test_without_equal_shares_sela_gives_all_images_one_label(balanced, monkeypatch):
    kind = find("sela")
    if not balanced:
        monkeypatch.setattr(importlib.import_module(kind.__module__), "equal_partition", lambda logp, _: logp)
    method = sandbox.build(kind, heads=2)
    loss = sandbox.train(method, 60, lr=3e-3)[-1]["loss"]
    used = [len(labels.unique()) for labels in method.labels]
    assert (min(used) > 20 and loss > 2) if balanced else (used == [1, 1] and loss < 0.2)


VARIANTS = {
    "swav": '{"queue": 16, "queue_from": 0.0}',  # full after one step
    "scan": '{"confidence": 0.0, "labelling": 0.0}',  # all images label themselves, the clusters unevenly
}

VARIANT = '''"""The method with other settings."""

from functools import wraps

from tapetum.methods import find


class Variant(find("NAME")):
    @wraps(find("NAME").__init__)
    def __init__(self, encoder, **settings):
        super().__init__(encoder, **settings | SETTINGS)
'''


def test_what_begins_later_is_the_same_on_two_processes(tmp_path):
    """SwAV's queue and SCAN's labels, from the first step on."""
    files = [tmp_path / f"{name}.py" for name in VARIANTS]
    for file in files:
        file.write_text(VARIANT.replace("NAME", file.stem).replace("SETTINGS", VARIANTS[file.stem]))
    assert alike.wrong(list(map(str, files))) == {}
