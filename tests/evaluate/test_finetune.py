"""Fine-tuning changes what it names and nothing else, follows its formulas, learns, and repeats itself."""

import copy
import inspect
from dataclasses import asdict
from itertools import chain

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.settings import documented
from tapetum.data.open import open_data
from tapetum.encoders import build
from tapetum.encoders.layers import layers
from tapetum.evaluate import finetuning
from tapetum.evaluate.baselines import pixels
from tapetum.evaluate.case import Case
from tapetum.evaluate.finetuning import FineTuning, Recipe, finetune, rates
from tapetum.evaluate.protocols.finetune import protocol
from tapetum.features import Extractor
from tapetum.methods.supervised.supervised import mixed_cross_entropy
from tapetum.train import optimizer
from tapetum.views import Batch, Draw


@pytest.fixture(scope="module")
def cnn():
    torch.manual_seed(0)
    encoder = build("resnet10_w32", 16).eval()
    for name, p in encoder.named_parameters():
        if name.endswith("bn2.weight"):  # zero in a new ResNet: its branches would not learn for a while
            torch.nn.init.ones_(p)
    return encoder


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return build("vit_mini", 16, depth=2, embed_dim=24).eval()


@pytest.fixture(scope="module")
def shades():
    """36 grey images of three shades and a little noise: an array, its classes, the shades."""
    rng = np.random.default_rng(0)
    y = np.arange(36) % 3
    pixels = 60.0 + 60 * y[:, None, None, None] + rng.normal(0, 20, (36, 16, 16, 3))
    return open_data(pixels.clip(0, 255).astype(np.uint8), labels="none"), torch.from_numpy(y)


def vectors(encoder, source) -> torch.Tensor:
    pixels = torch.stack([torch.from_numpy(encoder.prepare(source.read(i))) for i in range(len(source))])
    with torch.no_grad():
        return encoder(pixels.float() / 255)


def run(encoder, shades, recipe: Recipe, kind="class", y=None, seed=0, **settings):
    source, shade = shades
    y, x = shade if y is None else y, vectors(encoder, source)
    width = y.shape[1] if kind == "classes" else {"class": 3, "number": 1}[kind]
    extractor = Extractor(encoder, device="cpu", **settings)
    tuned, head = finetune(extractor, source, kind, y, x, recipe, width=width, seed=seed)
    return tuned.encoder, head


def changed(before, after) -> set[str]:
    """The names of parameters and buffers that are not the same to the bit."""
    now = after.state_dict()
    return {name for name, value in before.state_dict().items() if not torch.equal(value, now[name])}


def small(**settings) -> Recipe:
    return Recipe(**{"epochs": 1, "batch_size": 12, **settings})


def test_the_encoder_given_is_untouched_and_a_seed_repeats_itself(cnn, shades):
    before, state = copy.deepcopy(cnn), torch.random.get_rng_state()
    (one, head), (two, again), (three, _) = (run(cnn, shades, small(), seed=s) for s in (0, 0, 1))
    assert changed(before, cnn) == set() and all(p.requires_grad for p in cnn.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.digest() == two.digest() != three.digest() and torch.equal(head.weight, again.weight)
    assert not one.training and all(p.requires_grad for p in one.parameters())


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_what_learns_is_what_is_named(name, shades, request):
    encoder = request.getfixturevalue(name)
    assert changed(encoder, run(encoder, shades, small(what="head"))[0]) == set()
    everything = {n for n, p in encoder.named_parameters()}
    assert changed(encoder, run(encoder, shades, small(epochs=2))[0]) == everything
    moved = changed(encoder, run(encoder, shades, small(what="last", blocks=1))[0])
    block = "net.layer4" if name == "cnn" else "net.blocks.1."
    assert moved and all(n.startswith((block, "net.norm")) for n in moved)
    assert {n for n in everything if n.startswith(block)} <= moved


def test_batch_statistics_are_kept_unless_not_wanted(cnn, shades):
    moved = changed(cnn, run(cnn, shades, small(statistics="batch"))[0])
    assert {n for n, _ in cnn.named_buffers() if "running" in n} <= moved
    moved = changed(cnn, run(cnn, shades, small(statistics="batch", what="last"))[0])
    assert {n for n in moved if "running" in n} == {
        f"net.layer4.0.{norm}.running_{of}"
        for norm in ("bn1", "bn2", "downsample.1")
        for of in ("mean", "var")
    }


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_adapters_move_weights_by_matrices_of_their_rank(name, shades, request):
    encoder = request.getfixturevalue(name)
    tuned, _ = run(encoder, shades, small(what="lora", rank=3))
    moved = changed(encoder, tuned)
    assert len(moved) > 5 and all(n.endswith("weight") for n in moved)  # no norm's statistics either
    for n in moved:
        apart = (tuned.state_dict()[n] - encoder.state_dict()[n]).flatten(1).double()
        assert torch.linalg.matrix_rank(apart, rtol=1e-3) <= 3, n


@pytest.mark.parametrize(
    "name", ["resnet10_w32", "vit_mini", "convnext_mini", "tf_efficientnet_lite0", "vit_small_patch16_dinov3"]
)
def test_layers_hold_every_parameter_once_the_first_first(name):
    net = build(name, 32).net
    found = layers(net)
    assert sorted(chain(*found)) == sorted(n for n, _ in net.named_parameters()) and len(found) > 3
    last = ("layer4.0.conv2.weight", "blocks.5.norm1.weight", "stages.3.blocks.0.mlp.fc1.weight")
    last += ("blocks.6.0.conv_dw.weight", "blocks.11.norm1.weight")
    first = ("conv1.weight", "patch_embed.proj.weight", "stem.0.weight", "conv_stem.weight")
    assert set(last) & set(found[-1]) and set(first) & set(found[0])


def test_rates_fall_from_layer_to_layer(vit):
    recipe = Recipe(lr=1e-3, head_lr=2e-3, layer_decay=0.5)
    method = FineTuning(Extractor(copy.deepcopy(vit)), "class", torch.eye(3), torch.randn(3, vit.dim), recipe)
    settings = rates(vit, recipe)
    learner = optimizer.build(method, settings, settings.peak(8))
    optimizer.set_rates(learner, method, settings, settings.peak(8), settings.warmup)
    found = {id(p): group["lr"] for group in learner.param_groups for p in group["params"]}
    want = {"classifier": 2e-3, "encoder.net.norm": 1e-3, "encoder.net.blocks.1": 1e-3}
    want |= {"encoder.net.blocks.0": 5e-4, "encoder.net.patch_embed": 2.5e-4, "encoder.net.pos_embed": 2.5e-4}
    for name, p in method.named_parameters():
        expected = (
            next(rate for start, rate in want.items() if name.startswith(start))
            if "cls" not in name
            else 2.5e-4
        )
        assert found[id(p)] == pytest.approx(expected), name
    decays = {id(p): group["decays"] for group in learner.param_groups for p in group["params"]}
    assert decays[id(vit_weight(method))] and not decays[id(method.classifier.bias)]


def vit_weight(method):
    return method.encoder.net.blocks[0].mlp.fc1.weight


def batch(n: int, seed: int = 0) -> Batch:
    rows = torch.arange(n)
    x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Batch({"x": x, "label": rows, "index": rows}, Draw(seed, 0, 0, rows))


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8}, {"cutmix": 0.8}])
def test_losses_follow_their_formulas(cnn, mixing):
    y, b = torch.tensor([2, 0, 1, 1, 2]), batch(5)
    x = torch.randn(5, cnn.dim)

    def made(kind, target):
        method = FineTuning(
            Extractor(copy.deepcopy(cnn)), kind, target, x, Recipe(smoothing=0.2, **mixing)
        ).eval()
        torch.nn.init.normal_(method.classifier.weight)
        mixed, share = method.mix(b)
        return method.loss(b, 0.0)["loss"], method.predict(mixed), share

    loss, answer, share = made("class", F.one_hot(y).float())
    other = y[[1, 0, 3, 2, 4]]
    torch.testing.assert_close(loss, mixed_cross_entropy(answer, y, other, share, 0.2))

    several = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]]).float()
    loss, answer, share = made("classes", several)
    want, smooth = 0.0, 0.8 * several + 0.1
    for i, j in enumerate([1, 0, 3, 2, 4]):
        for c in range(2):
            goal, p = share[i] * smooth[i, c] + (1 - share[i]) * smooth[j, c], answer[i, c].sigmoid()
            want = want - (goal * p.log() + (1 - goal) * (1 - p).log()) / 10
    torch.testing.assert_close(loss, want)

    number = torch.tensor([0.3, -1.0, 2.0, 0.5, 0.1])
    loss, answer, share = made("number", number[:, None])
    goals = share * number + (1 - share) * number[[1, 0, 3, 2, 4]]
    torch.testing.assert_close(loss, ((answer[:, 0] - goals) ** 2).mean())


def test_the_head_alone_answers_as_the_method(cnn):
    x = 3 * torch.randn(20, cnn.dim) + 5
    x[:, 0] = 1.0  # a feature that never changes
    method = FineTuning(Extractor(copy.deepcopy(cnn)), "class", torch.eye(20), x, Recipe(what="head")).eval()
    torch.nn.init.normal_(method.classifier.weight)
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(method.head()(cnn(images)), method.predict(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("what", ["full", "last", "lora", "head"])
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_it_learns_shades(name, what, shades, request):
    source, y = shades
    encoder = request.getfixturevalue(name)
    tuned, head = run(encoder, shades, small(what=what, epochs=15, lr=3e-3, augment="none"))
    right = head(vectors(tuned, source)).argmax(1) == y
    assert right.float().mean() > 0.9


def test_bf16_learns_too(cnn, shades):
    source, y = shades
    recipe = small(epochs=6, lr=3e-3, augment="none")
    tuned, head = run(cnn, shades, recipe, precision="bfloat16")
    assert tuned.digest() != run(cnn, shades, recipe)[0].digest()
    assert (head(vectors(tuned, source)).argmax(1) == y).float().mean() > 0.6


def test_epochs_are_many_where_images_are_few():
    assert [finetuning.epochs(Recipe(), n) for n in (40, 320, 3200, 320_000)] == [100, 100, 10, 5]
    assert finetuning.epochs(Recipe(epochs=3), 40) == 3


def test_bad_settings_are_said(cnn, shades):
    with pytest.raises(TapetumError, match="blocks is 9, but ResNet has 5"):
        run(cnn, shades, small(what="last", blocks=9))
    with pytest.raises(TapetumError, match="a lower lr usually cures it"):
        run(cnn, shades, small(lr=1e6, epochs=3, layer_decay=1.0))


def case_of(encoder, images, labels, kind="class", **settings) -> Case:
    """Every fourth image judges."""
    names = images.with_labels([str(label) for label in labels], "by hand")
    test = np.arange(len(names)) % 4 == 3
    parts = (names.take(np.flatnonzero(part)) for part in (~test, test))
    return Case(*parts, Extractor(encoder, device="cpu"), kind=kind, **settings)


def test_the_protocol_reports_each_seed(cnn, shades):
    source, _ = shades
    labels = np.arange(36) % 5 // 3  # of no shade: chance
    case = case_of(cnn, source, labels, seed=5)
    found = protocol(case, epochs=2, batch_size=8, seeds=2, augment="none")
    assert found.seeds == [5, 6] and found.answers.answers.shape == (2, 9) and found.n == 9
    assert found.protocol["schedule"] == {"epochs": 2} and found.protocol["head"]["batch_size"] == 8
    each = (found.answers.answers == found.answers.truth).mean(1)
    assert found.value == pytest.approx(each.mean()) and found.subject == case.test.subject
    assert protocol(case, epochs=2, batch_size=8, seeds=2, augment="none").value == found.value
    assert protocol(case, epochs=2, batch_size=8, what="lora").protocol_id != found.protocol_id


def test_the_protocol_learns_and_answers_for_numbers(cnn, shades):
    source, y = shades
    number = case_of(cnn, source, 30 + 7 * y.numpy(), "number")
    assert protocol(number, epochs=20, batch_size=9, lr=3e-3, augment="none").value > 0.6
    several = case_of(cnn, source, [("a", "a;b", "b")[i] for i in y.tolist()], "classes")
    assert protocol(several, epochs=12, batch_size=9, lr=3e-3, augment="none").value > 0.8


def test_raw_pixels_train_a_head(shades):
    source, y = shades
    for what in ("full", "last", "lora", "head"):
        found = protocol(case_of(pixels(), source, y), what=what, epochs=2, batch_size=12)
        assert 0 <= found.value <= 1


def test_flags_are_the_recipes_settings():
    own = {
        n: p.default for n, p in inspect.signature(protocol).parameters.items() if n not in ("case", "seeds")
    }
    assert list(own.items()) == list(asdict(Recipe()).items())
    assert set(documented(protocol)[1]) == {*own, "seeds"}


def test_vectors_computed_once_are_those_of_the_store(cnn, shades, tmp_path, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path))
    extractor = Extractor(cnn, device="cpu", batch_size=10)
    source = shades[0].take(np.arange(25))
    found = extractor.computed(source)
    assert not (tmp_path / "features").exists()
    assert np.array_equal(found, extractor.features(source).x)
    (tmp_path / "x.png").write_bytes(b"\x89PNG broken")
    with_one = open_data(str(tmp_path / "x.png"))
    assert np.isnan(extractor.computed(with_one)).all()
