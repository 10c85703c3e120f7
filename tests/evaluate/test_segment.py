"""Dense protocols against slow writings, on images whose every pixel's class is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder, build
from tapetum.evaluate.case import Case
from tapetum.evaluate.dense import Annotated, Dense, dense, judge
from tapetum.evaluate.protocols import segment, segment_neighbours
from tapetum.evaluate.run import evaluate
from tapetum.features import Extractor
from tapetum.measure.segmentation import mean_iou


class Patches(nn.Module):
    """Maps of a frozen random embedding of patches of 2 pixels."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 2, 2)

    def forward(self, x):
        return self.embed(x).relu()


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder.wrap(Patches(), 16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """24 x 16 pixels in three colours and noise: class 7 stands on 2, and a corner is not annotated."""
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(15):
        classes = np.full((16, 24), 2, dtype=np.uint8)
        top, left = rng.integers(0, 8), rng.integers(4, 12)
        classes[top : top + 8, left : left + 8] = 7
        classes[:, 18:20] = 1
        colours = np.zeros((256, 3))
        colours[[1, 2, 7]] = [(200, 60, 60), (60, 200, 60), (60, 60, 200)]
        pixels = (colours[classes] + rng.normal(0, 10, (16, 24, 3))).clip(0, 255).astype(np.uint8)
        classes[:3, :6] = 255
        for name, array in (("images", pixels), ("masks", classes)):
            part = tmp_path / name / ("train" if i < 10 else "test")
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(part / f"{i:02d}.png")
    return tmp_path


def case_of(folder, encoder, parts=True, **settings) -> Case:
    images, extractor = open_data(folder / "images", labels="none"), Extractor(encoder, device="cpu")
    if parts:
        return Case(images.part("train"), images.part("test"), extractor, **settings)
    return Case(images, images, extractor, alone=True, **settings)


BOTH = pytest.mark.parametrize("protocol", [segment.protocol, segment_neighbours.protocol])


@BOTH
def test_colours_are_told_apart(protocol, folder, encoder):
    iou, right = protocol(case_of(folder, encoder), masks=str(folder / "masks"))
    assert iou.value > 0.85 and right.value > 0.95 and iou.n == 5
    assert 0 < iou.error_bar < 0.1 and iou.name.endswith("mean iou") and right.name.endswith("pixel accuracy")
    assert set(iou.details["iou of classes"]) == {"1", "2", "7"} and iou.notes == []
    assert iou.value == pytest.approx(np.mean(list(iou.details["iou of classes"].values())))
    again = protocol(case_of(folder, encoder), masks=str(folder / "masks"))[0]
    assert again.value == iou.value and again.protocol_id == iou.protocol_id


def test_a_vits_tokens_lie_as_its_image(folder):
    torch.manual_seed(0)
    vit = build("vit_mini", 16, depth=1, embed_dim=24, patch_size=2).eval()
    iou, _ = segment.protocol(case_of(folder, vit), masks=str(folder / "masks"))
    assert iou.value > 0.7


@BOTH
def test_without_test_images_some_are_held_out(protocol, folder, encoder):
    found = protocol(case_of(folder, encoder, parts=False, seed=3), masks=str(folder / "masks"))[0]
    assert found.n == 3 and found.notes == ["3 of the images are held out and judge, seed 3"]
    assert found.protocol["head"]["held_out"] == 0.2 and len(found.answers.rows) == 3
    other = protocol(case_of(folder, encoder, parts=False, seed=4), masks=str(folder / "masks"))[0]
    assert (
        other.protocol_id != found.protocol_id and other.answers.rows.tolist() != found.answers.rows.tolist()
    )


def test_what_is_annotated_counts(folder, encoder):
    case, masks = case_of(folder, encoder), folder / "masks"
    whole = dense(case, str(masks), 255)
    assert whole.names == [1, 2, 7] and whole.known == 3
    with_two = dense(case, str(masks), 2)
    assert with_two.names == [1, 7] and with_two.facts["masks"] == whole.facts["masks"]
    assert torch.equal(
        with_two.train.classes == 255, (whole.train.classes == 255) | (whole.train.classes == 1)
    )
    (masks / "train" / "03.png").unlink()
    image = np.array(Image.open(masks / "test" / "11.png"))
    image[8:, :] = 9
    Image.fromarray(image).save(masks / "test" / "11.png")
    found = dense(case, str(masks), 255)
    assert found.train.rows.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9] and found.facts != whole.facts
    assert found.names == [1, 2, 7, 9] and found.known == 3 and (found.test.classes == 3).any()
    assert found.notes == [
        "1 training images without annotation, or that cannot be read, are left out",
        "classes without training pixels are told wrongly: 9",
    ]
    iou = segment.protocol(case, masks=str(masks))[0]
    assert iou.details["iou of classes"]["9"] == 0


def test_what_is_wrong_is_said(folder, encoder):
    case = case_of(folder, encoder)
    with pytest.raises(TapetumError, match=r"give --segment\.masks PATH"):
        segment.protocol(case)
    (folder / "other").mkdir()
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(folder / "other" / "x.png")
    with pytest.raises(TapetumError, match=r"no annotation for any of the training images, such as 00\.png"):
        segment.protocol(case, masks=str(folder / "other"))
    for file in (folder / "masks" / "train").iterdir():
        Image.fromarray(np.full((16, 24), 4, np.uint8)).save(file)
    with pytest.raises(TapetumError, match="at least 2 classes"):
        segment_neighbours.protocol(case, masks=str(folder / "masks"))


def random_maps(n: int, classes: int, side: int = 12, seed: int = 0) -> Annotated:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n + 2, 6, 4, 4, generator=g).half()
    truth = torch.randint(classes, (n, 2, 2), generator=g).repeat_interleave(6, 1).repeat_interleave(6, 2)
    for c in range(classes):
        place = F.interpolate((truth == c).float()[:, None], (4, 4), mode="area")
        x[2:, c] += 2 * place[:, 0].half()
    truth[torch.rand(n, side, side, generator=g) < 0.1] = 255
    return Annotated(x.numpy(), np.arange(2, n + 2), truth.byte())


def test_pixels_have_the_features_of_the_enlarged_maps():
    part = random_maps(5, 3)
    part.classes[2] = 255
    x, y, image = segment.sampled(part, 200, seed=1)
    large = F.interpolate(part.maps(np.arange(5)), (12, 12), mode="bilinear", align_corners=False)
    assert torch.bincount(image, minlength=5).tolist() == [40, 40, 0, 40, 40]
    for i in image.unique():
        mine = image == i
        far = (x[mine][:, None] - large[i].flatten(1).T).abs().sum(2)  # each pixel is one of its image
        same = far < 1e-4  # at the corners several
        assert same.any(1).all() and len(far.argmin(1).unique()) > 30
        assert (same & (part.classes[i].flatten() == y[mine][:, None])).any(1).all()


def test_linear_segmentation_is_logistic_regression_on_enlarged_features(folder, encoder, monkeypatch):
    train, test = random_maps(9, 3), random_maps(4, 3, seed=1)
    monkeypatch.setattr(segment, "dense", lambda *_: Dense(train, test, [0, 1, 2], 3, {}, []))
    found = segment.protocol(case_of(folder, encoder), penalties=(0.01,), pixels=10**6)[0]

    def enlarged(part):
        maps = F.interpolate(part.maps(np.arange(len(part))), (12, 12), mode="bilinear", align_corners=False)
        return maps.movedim(1, 3), part.classes

    x, y = enlarged(train)
    x, y = x[y != 255].numpy(), y[y != 255].numpy()
    mean, std = x.mean(0), x.std(0)
    model = LogisticRegression(C=1 / (len(x) * 0.01), tol=1e-8, max_iter=1000).fit((x - mean) / std, y)
    queries, truth = enlarged(test)
    predicted = model.predict((queries.reshape(-1, 6).numpy() - mean) / std).reshape(truth.shape)
    right = []
    for c in range(3):
        union = ((predicted == c) | (truth.numpy() == c)) & (truth.numpy() != 255)
        right.append(((predicted == c) & (truth.numpy() == c)).sum() / union.sum())
    assert found.value == pytest.approx(np.mean(right), abs=2e-3) and found.value > 0.5


def test_the_penalty_is_chosen_by_images_held_out():
    part = random_maps(10, 3)
    x, y, image = segment.sampled(part, 10**6, seed=0)
    noise = torch.randn(len(x), 200, generator=torch.Generator().manual_seed(0))
    assert segment.choose(torch.cat([x, noise], 1), y, image, 3, [1.0, 0.1, 1e-6], 0) > 1e-6
    assert segment.choose(x, y, torch.zeros_like(image), 3, [1.0, 0.1], 0) == 1.0


def test_neighbours_are_weighted_as_written(folder, encoder, monkeypatch):
    train, test = random_maps(5, 3), random_maps(2, 3, seed=1)
    monkeypatch.setattr(segment_neighbours, "dense", lambda *_: Dense(train, test, [0, 1, 2], 3, {}, []))
    settings = {"k": 4, "temperature": 0.3}
    found = segment_neighbours.protocol(case_of(folder, encoder), **settings)[0]

    bank, shares = [], []
    for maps, classes in zip(train.maps(np.arange(5)), train.classes):
        for i in range(4):
            for j in range(4):
                inside = classes[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
                inside = inside[inside != 255]
                if len(inside):
                    bank.append(maps[:, i, j] / maps[:, i, j].norm())
                    shares.append([float((inside == c).float().mean()) for c in range(3)])
    scores = torch.zeros(2, 3, 4, 4)
    for b, maps in enumerate(test.maps(np.arange(2))):
        for i in range(4):
            for j in range(4):
                query = maps[:, i, j] / maps[:, i, j].norm()
                near = sorted(range(len(bank)), key=lambda n: -float(bank[n] @ query))[:4]
                weights = [np.exp(float(bank[n] @ query) / 0.3) for n in near]
                for c in range(3):
                    total = sum(w * shares[n][c] for w, n in zip(weights, near))
                    scores[b, c, i, j] = total / sum(weights)
    told, true = judge(Dense(train, test, [0, 1, 2], 3, {}, []), lambda maps: scores)
    assert found.value == pytest.approx(mean_iou(told, true), abs=1e-6)


def test_a_small_memory_takes_from_every_image():
    part = random_maps(5, 3)
    bank, shares = segment_neighbours.remembered(part, 3, 20, seed=0)
    assert len(bank) == 20 and torch.allclose(shares.sum(1), torch.ones(20))
    whole = part.maps(np.arange(5)).flatten(2).mT  # [5, 16, D]
    for i in range(5):
        mine = bank[4 * i : 4 * i + 4]
        assert (torch.cdist(mine, whole[i]).min(1).values == 0).all()


@pytest.mark.parametrize("data", ["images", "images/train"])
def test_it_runs_beside_others_and_asks_no_pixels_for_maps(data, folder, encoder):
    settings = {name: {"masks": str(folder / "masks")} for name in ("segment", "segment_neighbours")}
    found = evaluate(encoder, folder / data, protocols=[*settings], protocol_settings=settings)
    assert [r.name for r in found] == [
        "segment mean iou", "segment pixel accuracy",
        "segment neighbours mean iou", "segment neighbours pixel accuracy",
    ]  # fmt: skip
    assert {r.row for r in found} == {"encoder"}
