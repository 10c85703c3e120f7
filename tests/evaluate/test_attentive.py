"""The attentive probe against torch's attention, on tokens in portions, on images with one telling patch."""

import numpy as np
import pytest
import torch
from torch import nn

from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import attentive
from tapetum.evaluate.protocols.attentive import Heads, Tokens, moments, protocol, trained
from tapetum.features import Extractor

torch.manual_seed(0)


def test_torchs_attention_agrees():
    """With queries, keys and values projected as everybody writes it, and an output projection."""
    heads, dim, width, inner = 3, 12, 5, 4
    full = nn.MultiheadAttention(dim, heads, bias=False, batch_first=True)
    query, classifier = torch.randn(1, 1, dim), nn.Linear(dim, width)
    x = torch.randn(7, 10, dim)
    want = classifier(full(query.expand(7, -1, -1), x, x)[0][:, 0])

    ours = Heads(2, heads, dim, width, seed=0)
    to_query, to_key, to_value = full.in_proj_weight.detach().chunk(3)
    asked = (to_query @ query[0, 0]).view(heads, inner) / inner**0.5
    with torch.no_grad():
        ours.query[1].copy_(torch.einsum("he,hed->hd", asked, to_key.view(heads, inner, dim)))
        ours.value[1].copy_(to_value.view(heads, inner, dim))
        ours.weight[1].copy_(classifier.weight @ full.out_proj.weight)
        ours.bias[1].copy_(classifier.bias)
    torch.testing.assert_close(ours(x)[1], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("portion", [1, 2**12, 2**26])
def test_tokens_are_standardised_whatever_is_read_at_once(portion, monkeypatch):
    monkeypatch.setattr(attentive, "PORTION", portion)
    x = (3 * torch.randn(9, 4, 6) + torch.arange(6)).half().numpy()
    x[:, :, 2] = 7.0
    x[8] = np.nan  # an image that cannot be read
    rows = np.array([0, 2, 3, 5, 6, 7])
    mean, std = moments(x, rows)
    tokens = Tokens(x, rows, mean, std)
    whole = x[rows].astype(np.float64)
    want = (whole - whole.mean((0, 1))) / np.where(np.arange(6) == 2, 1.0, whole.std((0, 1)))
    np.testing.assert_allclose(tokens.read(torch.arange(6)).numpy(), want, atol=1e-4)
    some = tokens.take(torch.tensor([True, False, True, True, False, False]))
    np.testing.assert_allclose(some.read(torch.tensor([2, 0])).numpy(), want[[3, 0]], atol=1e-4)


def test_each_rate_trains_as_if_alone(monkeypatch):
    monkeypatch.setattr(attentive, "LEAST", 12)
    x = torch.randn(20, 5, 8).half().numpy()
    tokens = Tokens(x, np.arange(20), torch.zeros(8), torch.ones(8))
    y = torch.arange(20) % 3
    how = {"width": 3, "heads": 2, "decay": 0.1, "epochs": 1, "batch_size": 6, "seed": 4}
    both = trained(tokens, y, tokens, (1e-3, 3e-2), **how)
    for alone, rate in zip(both, (1e-3, 3e-2)):
        torch.testing.assert_close(trained(tokens, y, tokens, (rate,), **how)[0], alone, rtol=1e-4, atol=1e-5)


class Patches(nn.Module):
    """Maps of a frozen random embedding of patches of 4 pixels."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 4, 4)

    def forward(self, x):
        return self.embed(x).relu()


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Noise with one patch of colour somewhere; with `kind`, what the label is."""
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 16, 16, 3)).astype(np.uint8)
    y = np.arange(120) % 3
    for image, label in zip(pixels, y):
        top, left = 4 * rng.integers(0, 4, 2)
        image[top : top + 4, left : left + 4] = np.eye(3)[label] * 255
    test = np.arange(120) >= 90

    def made(kind: str = "class", names=("red", "green", "blue"), seed: int = 0) -> Case:
        images = open_data(pixels, labels="none").with_labels([names[i] for i in y], "by hand")
        torch.manual_seed(0)
        extractor = Extractor(Encoder.wrap(Patches(), 16), device="cpu", batch_size=32)
        parts = (images.take(np.flatnonzero(part)) for part in (~test, test))
        return Case(*parts, extractor, kind=kind, seed=seed)

    return made


@pytest.mark.parametrize("kind, names", [("class", ("r", "g", "b")), ("classes", ("a", "a;b", "b"))])
def test_it_finds_the_telling_patch(case, kind, names):
    found = protocol(case(kind, names), heads=2, rates=(1e-3, 1e-2), batch_size=30)
    assert found.value > 0.8 and found.n == 30
    assert found.details["rate"] in (1e-3, 1e-2) and found.protocol["head"]["rates"] == [1e-3, 1e-2]


def test_it_answers_in_the_numbers_own_unit(case):
    found = protocol(case("number", ("100", "120", "140")), heads=2, rates=(1e-2,), batch_size=30)
    assert found.value > 0.5 and 90 < found.answers.answers.mean() < 150


def test_it_repeats_itself_and_a_bad_rate_is_not_chosen(case):
    settings = {"heads": 2, "rates": (1e-6, 1e-2, 1e4), "epochs": 2}
    one, two = (protocol(case(), **settings) for _ in range(2))
    assert one.details["rate"] == 1e-2
    assert np.array_equal(one.answers.answers, two.answers.answers) and one.protocol_id == two.protocol_id
    assert protocol(case(), **settings | {"heads": 1}).protocol_id != one.protocol_id
