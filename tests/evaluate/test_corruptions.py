"""Corruption errors, flip rates and top-5 distances against their definitions, written slowly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders.build import build
from tapetum.evaluate import baselines, robust
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import corruptions, knn, logistic, perturbations
from tapetum.evaluate.result import differences
from tapetum.evaluate.robust import Judge
from tapetum.features import Extractor, in_order
from tapetum.features.extract import seed
from tapetum.views import corruptions as pictures
from tapetum.views.corruptions import Draws
from tapetum.views.perturbations import frame

WHICH = ("gaussian_noise", "contrast", "pixelate")


def write_hard(folder: Path, per_class: int, seed: int) -> Path:
    """Class folders of noisy images of three colours that overlap."""
    g = np.random.default_rng(seed)
    for name, channel in (("blue", 2), ("green", 1), ("red", 0)):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            colour = g.normal(120, 12, 3) + 22 * np.eye(3)[channel]
            pixels = (colour + g.normal(0, 40, (12, 12, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def case(tmp_path, monkeypatch, encoder) -> Case:
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    parts = [
        open_data(write_hard(tmp_path / name, n, i)) for i, (name, n) in enumerate((("a", 12), ("b", 9)))
    ]
    return Case(*parts, Extractor(encoder, workers=1))


def by_hand(case: Case, change) -> np.ndarray:
    """Which test images scikit-learn's regression has wrong when `change` (pixels, key) is done to them."""
    encoder, train, test = case.extractor.encoder, case.train, in_order(case.test.source)
    scale = StandardScaler().fit(train.x)
    penalty = logistic.choose(
        torch.from_numpy(np.array(train.x)).double(), torch.from_numpy(train.labels), 3, logistic.PENALTIES, 0
    )
    model = LogisticRegression(C=1 / (len(train) * penalty), tol=1e-9, max_iter=9000)
    model.fit(scale.transform(train.x), train.labels)
    x = []
    for row, key in enumerate(test.digests()):
        pixels = encoder.prepare(test.read(row)).transpose(1, 2, 0)
        x.append(
            torch.from_numpy(change(np.ascontiguousarray(pixels), seed(key))).permute(2, 0, 1).float() / 255
        )
    with torch.no_grad():
        return model.predict(scale.transform(encoder(torch.stack(x)).numpy())) != test.labels


def test_errors_are_those_of_corrupted_images(case):
    found = corruptions.protocol(case, which=WHICH, severities=(2, 5))
    each = np.array(
        [
            [by_hand(case, lambda x, key, n=n, s=s: pictures.corrupt(x, n, s, Draws(key))) for s in (2, 5)]
            for n in WHICH
        ]
    )
    clean = by_hand(case, lambda x, key: x)
    mean, relative = found
    assert mean.value == pytest.approx(each.mean()) and relative.value == pytest.approx(
        each.mean() - clean.mean()
    )
    assert mean.details["error"]["contrast"] == pytest.approx(each[1].mean(1).tolist(), abs=1e-6)
    assert mean.details["clean error"] == pytest.approx(clean.mean())
    assert (each != clean).any() and 0.1 < each.mean() < 0.9 and mean.n == 27
    assert mean.answers.answers[0] == pytest.approx(each.mean((0, 1)))
    assert mean.name == "mean corruption error" and relative.name == "relative corruption error"


@pytest.mark.parametrize("name", ["pixels", "alexnet"])
def test_errors_are_divided_by_those_of_a_reference(case, name):
    plain, _ = corruptions.protocol(case, which=WHICH, head="knn")
    mean, relative = corruptions.protocol(case, which=WHICH, relative_to=name, head="knn")
    base = np.array([mean.details["reference"][n] for n in WHICH])
    ours = np.array([np.mean(plain.details["error"][n]) for n in WHICH])
    kept = base > 0
    assert kept.any() and mean.value == pytest.approx((ours[kept] / base[kept]).mean())
    worse = base - mean.details["reference"]["clean"]
    left = worse > 0
    clean = plain.details["clean error"]
    assert relative.value == pytest.approx(((ours[left] - clean) / worse[left]).mean())
    assert "head.relative to" in differences(plain.protocol, mean.protocol)
    if name == "alexnet":
        assert base.tolist() == pytest.approx([0.886428, 0.853204, 0.71784])


def test_pixels_as_a_reference_see_the_same_pictures(case):
    """Its errors are those of the protocol on the same images shrunk by hand."""
    mean, _ = corruptions.protocol(case, which=("contrast",), relative_to="pixels", head="knn")
    pixels = robust._pixels(case.extractor.encoder)
    assert pixels.dim == 3 * 32 * 32 and pixels.image_size == case.extractor.encoder.image_size
    own = Case(case.train.source, case.test.source, Extractor(pixels, workers=1))
    alone, _ = corruptions.protocol(own, which=("contrast",), head="knn")
    assert mean.details["reference"]["contrast"] == pytest.approx(alone.value)


def test_what_has_no_weights_is_its_own_reference(case):
    own = Case(
        case.train.source, case.test.source, Extractor(robust._pixels(case.extractor.encoder), workers=1)
    )
    mean = corruptions.protocol(own, which=("contrast",), relative_to="random weights", head="knn")[0]
    assert mean.value == pytest.approx(1)


def test_random_weights_are_those_of_the_baseline_and_of_the_same_layer(case):
    fresh = baselines.random_weights(build("vit_tiny_patch16_224", 8, patch_size=4, depth=2), 0)
    own = Case(case.train.source, case.test.source, Extractor(fresh, workers=1, layer=0))
    for result in corruptions.protocol(own, which=("fog",), relative_to="random weights", head="knn")[:1]:
        assert result.value == pytest.approx(1)


def test_settings_name_the_protocol(case):
    base = corruptions.protocol(case, which=("fog",), severities=(1,), head="knn")[0]
    assert base.protocol["head"]["corruptions"]["fog"]["strengths"] == "cifar"  # images of 8 pixels
    for other in (
        {"severities": (2,)},
        {"strengths": "imagenet"},
        {"head": "logistic"},
        {"images": 5},
        {"which": ("snow",)},
    ):
        again = corruptions.protocol(
            case, **({"which": ("fog",), "severities": (1,), "head": "knn"} | other)
        )[0]
        assert again.protocol_id != base.protocol_id, other
    assert again.subject_id == base.subject_id
    assert len(corruptions._names(("common",))) == 15 and len(corruptions._names(("all", "fog"))) == 19


def test_fewer_images_are_drawn_and_said(case):
    few, _ = corruptions.protocol(case, which=("contrast",), severities=(5,), head="knn", images=10)
    assert few.n == 10 and "17 test images are left out: 10 were asked for" in few.notes
    whole, _ = corruptions.protocol(case, which=("contrast",), severities=(5,), head="knn")
    assert np.array_equal(few.answers.answers[0], whole.answers.answers[0, few.answers.rows])


def test_frost_says_that_it_is_made(case):
    assert any(
        "frost is made" in note for note in corruptions.protocol(case, which=("frost",), head="knn")[0].notes
    )


def test_bad_requests_are_one_sentence(case, pair):
    with pytest.raises(TapetumError, match="unknown corruption 'fgo'; did you mean 'fog'"):
        corruptions.protocol(case, which=("fgo",))
    with pytest.raises(TapetumError, match="AlexNet's errors are known of the 15"):
        corruptions.protocol(case, which=("spatter",), relative_to="alexnet")
    with pytest.raises(TapetumError, match="needs the encoder itself"):
        corruptions.protocol(pair)
    with pytest.raises(TapetumError, match="cannot be built again with random weights"):
        corruptions.protocol(case, which=("fog",), head="knn", relative_to="random weights")
    with pytest.raises(TapetumError, match="takes at least 2 frames"):
        perturbations.protocol(case, frames=1)
    with pytest.raises(TapetumError, match="unknown perturbation 'tlit'"):
        perturbations.protocol(case, which=("tlit",), head="knn")


def test_the_judge_answers_as_the_protocols_do(pair):
    data = pair.labelled
    for head in ("logistic", "knn"):
        judge = Judge(pair, head, 10**6)
        want = {"logistic": logistic, "knn": knn}[head].learner()(data.x, data.y, data.queries, data.width, 0)
        assert torch.allclose(judge.scores(judge.clean), want, atol=1e-5)


# ---- sequences ----


def test_flips_are_those_of_the_frames(case):
    found, distance = perturbations.protocol(case, which=("shot_noise", "brightness"), frames=6, head="knn")
    noise = np.stack([answers(case, "shot_noise", i) for i in range(6)])
    light = np.stack([answers(case, "brightness", i) for i in range(12, 18)])
    flips = [(noise[1:] != noise[0]).mean(), (light[1:] != light[:-1]).mean()]
    assert found.value == pytest.approx(np.mean(flips)) and found.name == "flip rate"
    assert found.details["each"] == pytest.approx(dict(zip(("shot_noise", "brightness"), flips)))
    assert distance.name == "top-5 distance" and distance.value >= 0
    assert found.protocol["head"]["sequences"]["brightness"]["frame"] == list(range(12, 18))


def answers(case: Case, name: str, number: int) -> np.ndarray:
    """The class of each test image in a frame."""
    judge = Judge(case, "knn", 100)
    encoder, test = case.extractor.encoder, in_order(case.test.source)
    x = []
    for row, key in enumerate(test.digests()):
        pixels = np.ascontiguousarray(encoder.prepare(test.read(row)).transpose(1, 2, 0))
        x.append(torch.from_numpy(frame(pixels, name, number, seed(key))).permute(2, 0, 1).float() / 255)
    with torch.no_grad():
        return judge.scores(encoder(torch.stack(x))).argmax(1).numpy()


def slow_distance(a: np.ndarray, b: np.ndarray) -> int:
    """The paper's sum over the first five of how many of the first five borders each class passes."""
    place_a, place_b = ({c: i + 1 for i, c in enumerate(order)} for order in (a, b))
    total = 0
    for c, i in place_a.items():
        if i <= 5:
            low, high = sorted((i, place_b[c]))
            total += sum(1 <= j - 1 <= 5 for j in range(low + 1, high + 1))
    return total


@pytest.mark.parametrize("noisy", [True, False])
def test_the_top_5_distance_is_the_papers(noisy):
    scores = torch.rand(7, 4, 12, generator=torch.Generator().manual_seed(0))
    order = scores.argsort(dim=2, descending=True).numpy()
    want = [
        np.mean([slow_distance(order[0 if noisy else t - 1, m], order[t, m]) for t in range(1, 7)])
        for m in range(4)
    ]
    assert perturbations.moved(scores, noisy).tolist() == pytest.approx(want)
    assert perturbations.moved(scores[:1].expand(3, -1, -1), noisy).sum() == 0


def test_nothing_moves_where_nothing_changes():
    still = torch.tensor([[1, 2], [1, 2], [1, 0]])
    assert perturbations.flips(still, False).tolist() == [0, 0.5]
    assert perturbations.flips(torch.tensor([[1], [2], [1]]), True).tolist() == [0.5]
    assert perturbations.flips(torch.tensor([[1], [2], [1]]), False).tolist() == [1.0]


def test_sequences_relative_to_pixels(case):
    plain = perturbations.protocol(case, which=("rotate", "gaussian_noise"), frames=8, head="knn")
    other = perturbations.protocol(
        case, which=("rotate", "gaussian_noise"), frames=8, head="knn", relative_to="pixels"
    )
    for a, b in zip(plain, other):
        base = {n: v for n, v in b.details["reference"].items() if v > 0}
        assert base and b.value == pytest.approx(np.mean([a.details["each"][n] / base[n] for n in base]))
