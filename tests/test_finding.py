"""The search for a learning rate: planted best rates, collapses, and the verb with its files."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import small_runs
import tapetum
from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.report.sweep import drawn, rows
from tapetum.train import sandbox
from tapetum.train.sweep import Sweep, geometric, proposed, sweep

GIVEN = {name: value for name, value in small_runs.SMALL.items() if name != "log_every"} | {"devices": "cpu"}


class Bowl(Method):
    """A quadratic of one curvature: descent is fastest at 1 / curvature and diverges at twice that."""

    def __init__(self, curvature: float):
        super().__init__(nn.Linear(3, 2))  # type: ignore[arg-type]
        self.views = sandbox.build(find("simclr")).views
        self.curvature, self.place = curvature, nn.Parameter(torch.ones(8))

    def loss(self, batch, t):
        return {"loss": self.curvature * self.place.square().sum() / 2}


def swept(curvature: float) -> Sweep:
    bowl = Bowl(curvature)
    opt = torch.optim.SGD([bowl.place], lr=0.0)

    def set_rate(t: float, rate: float) -> None:
        opt.param_groups[0]["lr"] = rate

    rates = geometric(1e-5 / curvature, 1e3 / curvature, 100)
    return sweep(bowl, opt, sandbox.feed(bowl), rates, set_rate, lambda: 5.0, steps=50)


@pytest.mark.parametrize("curvature", [0.1, 30.0])
def test_the_rate_of_a_quadratic_is_found(curvature):
    found = swept(curvature)
    advice = proposed(found)
    assert found.ended.startswith("the loss diverged") and len(found.rates) < 100
    assert found.losses[0] == pytest.approx(4 * curvature, rel=1e-3)
    assert 0.5 < advice.lowest * curvature < 4  # it diverges at 2
    assert 0.02 < advice.rate * curvature < 1
    assert advice.rate == min(advice.steepest, advice.lowest / 10)
    assert found.collapsed is None and set(found.ranks.values()) == {5.0}


class Steep(Bowl):
    """Its loss is a number always, its gradient from some step on none."""

    def loss(self, batch, t):
        loss = super().loss(batch, t)["loss"]
        return {"loss": loss + (0 * loss).sqrt() if t > 0.3 else loss}


def test_steps_that_were_left_out_say_nothing_of_their_rates():
    steep = Steep(1.0)
    opt = torch.optim.SGD([steep.place], lr=0.0)
    rates = geometric(1e-5, 1e-3, 50)
    found = sweep(steep, opt, sandbox.feed(steep), rates, lambda t, rate: None, lambda: 5.0, steps=50)
    assert found.ended.startswith("the gradient is not finite in 3 steps")
    assert len(found.rates) == 16 and found.losses == [4.0] * 16  # of 51 steps those up to 0.3


def made(losses, ranks=None) -> Sweep:
    return Sweep(geometric(1e-5, 10.0, len(losses)), list(map(float, losses)), ranks or {})


def test_what_a_collapsed_loss_does_counts_for_nothing():
    at = np.arange(100)
    losses = 5 - 2 / (1 + np.exp(-(at - 40) / 5)) - 3 / (1 + np.exp(-(at - 80) / 3))  # falls twice
    healthy = proposed(made(losses))
    ranks = {i: 30.0 if i < 70 else 1.5 for i in range(0, 100, 5)}
    ill = made(losses, ranks)
    assert ill.collapsed == 70
    advice = proposed(ill)
    assert healthy.lowest > ill.rates[80] > ill.rates[70] > advice.lowest
    assert ill.rates[35] < advice.steepest < ill.rates[45]
    assert "collapse (rank 1.5 after 30)" in advice.why and "collapse" not in healthy.why
    assert [row[4] for row in rows(ill, advice)][-1] == "collapsed"


def test_where_nothing_is_learnt_nothing_is_proposed():
    noise = np.random.default_rng(0).normal(3, 1, 100)
    advice = proposed(made(noise))
    assert advice.rate is None and "falls at no rate" in advice.why
    assert drawn(made(noise), advice, "noise").size[0] > 500


def test_a_loss_that_falls_to_the_end_asks_for_higher_rates():
    assert "larger --high" in proposed(made(5 - np.arange(100) / 50)).why


def test_the_verb_draws_and_says_a_rate(tmp_path, capsys):
    images, _ = sandbox.easy_images(48)
    out = tmp_path / "found"
    answer = tapetum.lr_find(images, out=str(out), points=24, **GIVEN)
    assert json.loads((out / "lr.json").read_text()) == answer
    assert Image.open(out / "lr.png").size[0] > 500
    assert len(answer["rates"]) == len(answer["losses"]) == len(answer["smoothed"]) <= 24
    assert all(map(math.isfinite, answer["losses"])) and len(answer["ranks"]) > 10
    assert answer["rate"] is None or answer["rates"][0] <= answer["rate"] <= answer["rates"][-1]
    assert answer["batch_size"] == 16 and answer["settings"]["method"] == "simclr"
    said = capsys.readouterr().out
    assert "rank" in said and str(out / "lr.png") in said
    assert (answer["rate"] is None) != (f"--optimizer.lr {answer['rate'] or 0:.2g}" in said)
    with pytest.raises(TapetumError, match=r"lr\.png exists"):
        tapetum.lr_find(images, out=str(out), **GIVEN)


def test_a_rate_that_breaks_everything_ends_it(tmp_path):
    images, _ = sandbox.easy_images(48)
    with pytest.raises(TapetumError, match="start at a lower --low"):
        tapetum.lr_find(images, out=str(tmp_path), low=1e8, high=1e30, points=20, **GIVEN)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"low": 1.0, "high": 0.1}, "low is 1 and high is 0.1"),
        ({"points": 5}, "at least 20"),
        ({"optimizer_settings": {"lr": 0.1}}, "leave it out"),
    ],
)
def test_what_makes_no_sweep_is_refused(tmp_path, wrong, why):
    with pytest.raises(TapetumError, match=why):
        tapetum.lr_find(sandbox.easy_images(48)[0], out=str(tmp_path), **GIVEN, **wrong)


def test_it_is_typed_with_a_dash(capsys):
    assert cli.main(["lr-find", "--help"]) == 0
    assert "tapetum lr-find DATA [--FLAG VALUE ...]" in capsys.readouterr().out
    assert cli.main(["lr-fnd"]) == 2
    assert "did you mean 'lr-find'" in capsys.readouterr().err
