"""The health of a run: numbers that disturb nothing, verdicts on histories, runs made sick on purpose."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import small_runs
import tapetum
from benchmark_modules import load
from run_files import rows
from tapetum.base import files
from tapetum.base.errors import TrainingFailed
from tapetum.methods import find
from tapetum.parts.state import EMA
from tapetum.train import checkpoint, feed, online, run, sandbox
from tapetum.train.feed import Feed
from tapetum.train.health import probe, watch
from tapetum.train.health.judge import Verdict, judge

SMALL: dict[str, Any] = {**small_runs.SMALL, "logger": [], "steps": 30}


def pretrain(out, data=None, **settings):
    images = sandbox.easy_images(48)[0] if data is None else data
    return tapetum.pretrain(images, out=str(out), **{**SMALL, **settings})


def looks(folder) -> list[dict]:
    return rows(folder, watch.FILE)


# ---- the judge ----


def history(**last: Any) -> list[dict]:
    """A healthy history of four looks, the last with some numbers changed; (a, b) changes first and last."""
    found = []
    for i, step in enumerate((0, 25, 50, 100)):
        loss = 5.0 - 0.5 * i
        found.append(
            {
                "step": step,
                "finite": 1.0,
                "loss": loss,
                "losses": [loss + 0.1, loss - 0.1, loss + 0.2, loss - 0.2],
                "gap": 0.2 * (i + 1),
                "gap_error": 0.05,
                "reads_labels": 0.0,
                "labelled": 500.0,
                "classes": 10.0,
                "commonest": 0.12,
                "knn": 0.2 + 0.05 * i,
                "differ": 50.0,
                "within": 40.0,
                "rank": 50.0,
                "dim": 128.0,
                "spread": 0.1 + 0.01 * i,
                "weights": 10.0 + i,
                "encoder_weights": 7.0 + i,
                "steps": 25,
                "overflows": 0,
                "reading": 0.1,
            }
        )
    for name, value in last.items():
        if isinstance(value, tuple):
            found[0][name], found[-1][name] = value
        elif value is None:
            for row in found:
                row.pop(name, None)
        else:
            found[-1][name] = value
    return found


def everywhere(**values: Any) -> list[dict]:
    return [row | values for row in history()]


STILL = everywhere(loss=5.0, losses=[5.0, 5.1, 4.9, 5.0], gap=0.0)
STILL[-1]["step"] = 200

SICK = {
    "broken": (history(broken="the loss is nan at step 99"), "diverging", "nan at step 99"),
    "not finite": (history(finite=0.0), "diverging", "not finite"),
    "weights": (history(weights=500.0), "diverging", "between steps 50 and 100"),
    "back": (history(loss=7.0, losses=[7.0] * 4), "diverging", "fell from 5 to 4"),
    "overflow": (history(overflows=20), "diverging", "20 of 25 steps"),
    "constant": (everywhere(differ=0.0), "flat", "all alike"),
    "one colour": (everywhere(within=0.0), "flat", "one colour"),
    "frozen": (everywhere(encoder_weights=7.0), "flat", "no weight of the encoder"),
    "still": (STILL, "flat", "as at first"),
    "no label": (everywhere(reads_labels=1.0, classes=0.0), "not learning from its labels", "no image has"),
    "one class": (
        everywhere(reads_labels=1.0, classes=1.0),
        "not learning from its labels",
        "only one class",
    ),
    "shuffled": (everywhere(reads_labels=1.0, knn=0.13), "not learning from its labels", "guessing 12.0%"),
    "merged": (history(gap=0.001), "collapsing", "rank 50 of 128"),
    "contracted": (history(spread=0.001), "collapsing", "0.1 to 0.001"),
    "starved": (history(reading=0.8), "starved for data", "80%"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_made_history_gets_its_word(name):
    rows, word, why = SICK[name]
    found = judge(rows)
    assert found.word == word and why in found.why and found.attempt and found.sick
    assert found.stops is (word != "starved for data")


def test_healthy_histories_are_called_healthy():
    assert judge(history()).word == "learning"
    assert "loss 5 -> 3.5" in judge(history()).why and "20.0% -> 35.0%" in judge(history()).why
    assert judge(history()[:2]) == Verdict("beginning")
    for healthy in (
        history(gap=None, gap_error=None),  # one view, no labels
        history(knn=None, classes=0.0, labelled=0.0),
        history(rank=2.0),  # as of a network that has learnt to tell two classes
        history(spread=0.9),
        history(spread=0.02),  # as of masked methods
        everywhere(encoder_weights=7.0, resting=1.0),  # as of BEiT while it learns its codes
        everywhere(knn=0.13),  # labels that nothing reads
        [*STILL[:3], history(loss=5.0, losses=[5.0] * 4, step=200)[-1]],  # its gap grows
        [row | {"loss": loss, "losses": [loss] * 4} for row, loss in zip(history(), (1.0, 6.5, 6.4, 6.3))],
    ):
        assert not judge(healthy).sick, judge(healthy)


def test_a_loss_is_compared_while_it_asks_for_the_same():
    back = history(loss=7.0, losses=[7.0] * 4)
    assert judge(back).word == "diverging"
    for row, targets in zip(back, (0, 1, 1, 2)):
        row["targets"] = targets  # set anew just before the last look
    assert judge(back).word == "learning"
    back[-2]["targets"] = 2
    assert judge(back).word == "learning"  # as a first loss may be below the second
    back[-3]["targets"], back[-3]["loss"], back[-2]["loss"] = 2, 5.0, 3.0
    assert judge(back).word == "diverging"
    slow = everywhere(loss=5.0, losses=[5.0, 5.1, 4.9, 5.0], gap=0.0)
    assert judge(slow).word == "learning" and judge(STILL).word == "flat"  # before step 200 and then
    assert judge([STILL[0], *(row | {"targets": 1} for row in STILL[1:])]).word == "flat"
    assert (
        judge([row | {"targets": i} for i, row in enumerate(STILL)]).word == "learning"
    )  # none can be compared
    fell = [
        row | {"targets": 1, "loss": loss, "losses": [loss] * 4} for row, loss in zip(STILL, (5, 5, 4, 4))
    ]
    assert judge([*fell[:3], STILL[3] | {"targets": 2}]).word == "learning"  # before its targets were new


def test_who_sets_targets_anew_is_known():
    assert [watch.sets_targets(sandbox.build(find(name))) for name in ("sela", "simclr")] == [True, False]
    several = find("multi_task")
    assert watch.sets_targets(
        sandbox.build(several, methods=("simclr", "sela"), settings=("sela.prototypes=8",))
    )
    assert not watch.sets_targets(sandbox.build(several, methods=("simclr", "colourisation")))


def test_labels_learnt_by_heart_do_not_hide_that_they_said_nothing():
    rows = everywhere(reads_labels=1.0, knn=0.13)
    rows[-1]["knn"] = 0.6
    assert judge(rows).word == "not learning from its labels"
    rows[2]["knn"] = 0.3
    assert judge(rows).word == "learning"


def test_weights_that_grow_slowly_are_no_divergence():
    rows = history(weights=500.0)
    rows[-1]["step"] = 1000
    assert judge(rows).word == "learning"


# ---- the numbers ----


def test_numbers_of_losses_pixels_and_labels():
    found = probe.loss_numbers(torch.tensor([1.0, 3.0]).double(), torch.tensor([2.0, 6.0]).double())
    assert found["loss"] == 2 and found["losses"] == [1, 3] and found["gap"] == 2
    assert found["gap_error"] == pytest.approx(1.0)  # differences 1 and 3: sqrt(2) / sqrt(2)
    dark, light = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 10)
    assert probe.pixel_facts(torch.cat([dark, light]).byte()) == {"differ": 5.0, "within": 0.0}
    assert probe.label_facts(torch.tensor([0, 2, 2, -1])) == {
        "labelled": 3.0,
        "classes": 2.0,
        "commonest": pytest.approx(2 / 3),
    }
    assert probe.label_facts(torch.tensor([-1]))["classes"] == 0


def test_numbers_of_features():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    labels = (x[:, 0] > 0).long()
    found = probe.feature_numbers(x, labels)
    unit = x / x.norm(dim=1, keepdim=True)
    assert found["spread"] == pytest.approx(1 - float(unit.mean(0).norm()), abs=1e-6)
    assert found["dimension_spread"] == pytest.approx(float(x.std(0).median() / x.pow(2).mean().sqrt()))
    pairs = [math.exp(-2 * float((a - b).pow(2).sum())) for i, a in enumerate(unit) for b in unit[:i]]
    assert found["uniformity"] == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-5)
    assert 0.5 < found["knn"] <= 1 and found["dim"] == 8
    assert "knn" not in probe.feature_numbers(x, torch.zeros(60).long())
    flat = probe.feature_numbers(torch.ones(60, 8), labels)
    assert flat["spread"] == pytest.approx(0, abs=1e-6) and flat["dimension_spread"] == 0


def test_the_distance_of_a_teacher_is_that_of_its_own_original():
    method = sandbox.build(find("byol"))
    assert probe.weight_numbers(method)["teacher"] == 0
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.mul_(1.5)
    assert probe.weight_numbers(method)["teacher"] == pytest.approx(0.5)
    assert "teacher" not in probe.weight_numbers(sandbox.build(find("simclr")))
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    holder = nn.Module()
    holder.one, holder.two, holder.teacher = one, two, EMA(two)
    assert probe.nearest(holder, probe.averages(holder)[0]) is two  # type: ignore[arg-type]


def test_an_encoder_rests_while_its_rates_say_so():
    method = sandbox.build(find("beit"), first=0.5)
    assert [probe.resting(method, t) for t in (0.0, 0.49, 0.6, 1.0)] == [1, 1, 0, 0]
    assert probe.resting(sandbox.build(find("dino")), 0.0) == 0  # its prototypes alone stand still


def watched(kind: str, **settings: Any) -> probe.Probe:
    method = sandbox.build(find(kind), **settings)
    sample = online.sample(sandbox.source(), method.encoder, 64, seed=0)
    return probe.Probe(method, sandbox.feed(method), sample, "fp32")


def test_what_is_measured_is_the_methods_loss_on_right_and_wrong_views():
    one = watched("supervised", smoothing=0.0)
    found = one.measure(0.5)
    rows = [torch.arange(16 * k, 16 * (k + 1)) for k in range(4)]
    method, wanted, wrong = one.method.train(), [], []
    for turn, group in enumerate(rows):
        index = one.index[group]
        batch = one.feed.batch(-1 - turn * one.feed.steps_per_epoch, index, *one.feed.canvas.fetch(index))
        logits = method.predict(batch["x"])  # type: ignore[attr-defined]
        wanted.append(nn.functional.cross_entropy(logits, batch["label"]).item())
        wrong.append(nn.functional.cross_entropy(logits, batch["label"].roll(1)).item())
    assert found["losses"] == pytest.approx(wanted, rel=1e-5)
    assert found["gap"] == pytest.approx((sum(wrong) - sum(wanted)) / 4, abs=1e-5)
    assert found["reads_labels"] == 1.0 and watched("byol").measure(0.5)["reads_labels"] == 0.0
    assert "gap" not in watched_mae()


def watched_mae() -> dict:
    return watched("mae").measure(0.5)


def test_prototypes_that_all_choose_are_told_from_one_that_is_chosen():
    one = watched("dino")
    used = one.measure(0.0)
    assert 0 < used["prototypes_used"] <= 1 and 0 < used["prototypes_entropy"] <= 1
    with torch.no_grad():  # every image's vector is the same, and so its nearest prototype
        for p in one.method.teacher.chain[1][0].parameters():  # type: ignore[union-attr, index]
            p.zero_()
        one.method.teacher.chain[1][0][-1].bias.fill_(1.0)  # type: ignore[union-attr, index]
    found = one.measure(0.0)
    assert found["prototypes_used"] == pytest.approx(1 / 24)


@pytest.mark.parametrize("kind", ["byol", "dino", "mae", "supervised"])
def test_measuring_leaves_everything_as_it_was(kind):
    one = watched(kind)
    one.method.eval()
    one.method.encoder.net.train()
    modes = [m.training for m in one.method.modules()]
    before, generator = sandbox.state(one.method), torch.get_rng_state()
    first, second = one.measure(0.5), one.measure(0.5)
    assert first == second
    assert sandbox.changed(before, sandbox.state(one.method)) == []
    assert [m.training for m in one.method.modules()] == modes
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.grad is None for p in one.method.parameters())
    assert not any(m._forward_hooks for m in one.method.modules())


def test_looks_are_many_at_first_and_then_few():
    at = [step for step in range(20_001) if watch.due(step, 20_000)]
    assert at[:6] == [0, 50, 100, 200, 400, 600] and at[-1] == 20_000
    assert all(200 <= b - a <= 1000 for a, b in itertools.pairwise(at[3:-1])) and len(at) < 40
    assert [step for step in range(8) if watch.due(step, 7)] == [0, 7]


def test_a_spike_stands_out():
    usual = [1.0 + 0.1 * (-1) ** i for i in range(watch.RECENT)]
    assert watch.spiked(usual, 2.0) and not watch.spiked(usual, 1.3) and not watch.spiked(usual[:5], 2.0)


# ---- runs ----


def test_looking_changes_no_bit_of_a_run(tmp_path, monkeypatch):
    settings = {"method": "byol", "steps": 55, "checkpoint_steps": 20}
    pretrain(tmp_path / "with", **settings)
    monkeypatch.setattr(run, "due", lambda step, steps: False)
    pretrain(tmp_path / "without", **settings)
    assert rows(tmp_path / "with") == rows(tmp_path / "without")
    one, other = (sorted((tmp_path / name).rglob("*.safetensors")) for name in ("with", "without"))
    assert [a.read_bytes() for a in one] == [b.read_bytes() for b in other] and len(one) == 5
    assert [row["step"] for row in looks(tmp_path / "with")] == [0, 50, 55]


def test_a_resumed_run_sees_what_one_never_stopped_sees(tmp_path):
    settings = {"method": "byol", "steps": 52}
    for name in ("whole", "run"):
        pretrain(tmp_path / name, checkpoint_steps=15, keep_checkpoints=9, **settings)
    folder = tmp_path / "run"
    for path in checkpoint.found(folder / "checkpoints")[1:]:  # as if it had been killed after step 29
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    tapetum.pretrain(sandbox.easy_images(48)[0], resume=str(folder), keep_checkpoints=9)
    assert looks(folder) == looks(tmp_path / "whole")
    assert [row["step"] for row in looks(folder)] == [0, 50, 52]
    states = [
        files.read_json(tmp_path / n / "checkpoints/step_00000030/state.json") for n in ("whole", "run")
    ]
    assert states[0] == states[1] and len(states[0]["health"]["losses"]) == 30


def test_an_image_that_is_not_finite_is_named(tmp_path, monkeypatch, capsys):
    batch = Feed.batch

    def spoilt(self, step, index, pixels, size):
        made = batch(self, step, index, pixels, size)
        if step >= 0:
            made["views"][1][index == 7] = float("nan")
        return made

    monkeypatch.setattr(Feed, "batch", spoilt)
    with pytest.raises(TrainingFailed, match=r"the loss is nan.*views of 000007 are not finite"):
        pretrain(tmp_path / "run", stop_when="sick", skips=1, rollbacks=0)
    last = looks(tmp_path / "run")[-1]
    assert last["verdict"] == "diverging" and "views of 000007 are" in last["why"] and "images" in last["try"]
    assert "health at step" in capsys.readouterr().out


sick, benchmark = load("sick"), load("health")
QUICK: dict[str, Any] = {"steps": 50, "batch_size": 16, "encoder_settings": {"channels": [8, 8, 16, 16]}}


def easy() -> Any:
    images, labels = sandbox.easy_images(128, across=False)
    return tapetum.data.open_data(images).with_labels([f"class {i}" for i in labels], "how they were made")


@pytest.mark.parametrize(
    "name",
    [
        *("supervised", "no predictor", "learning rate x 1000", "a NaN image"),
        *("a shuffled teacher", "a frozen encoder", "shuffled labels", "one class only"),
    ],
)
def test_a_run_is_named_rightly_within_its_first_steps(name, tmp_path, capsys):
    case = sick.CASES[name]
    found = sick.train(case, 0, tmp_path / "run", easy(), **QUICK)
    assert benchmark.right(case, found), [(row["step"], row["verdict"], row["why"]) for row in found]
    assert found[-1]["step"] <= 50
    said = capsys.readouterr().out
    assert f"health at step {found[-1]['step']}: {found[-1]['verdict']}" in said
    if case.words != sick.LEARNING:
        assert said.count("  try: ") >= 1


@pytest.mark.parametrize("step, starved", [(0.01, True), (1.0, False)])
def test_a_slow_loader_is_named(step, starved, tmp_path, monkeypatch):
    """On a clock that goes on by 4 ms for each of 16 images that are read, and by so many seconds a step."""
    clock, batch, case = [0.0], Feed.batch, sick.CASES["a slowed loader"]
    monkeypatch.setattr(sick, "time", SimpleNamespace(sleep=clock.append))
    monkeypatch.setattr(feed, "time", SimpleNamespace(perf_counter=lambda: sum(clock)))
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: sum(clock)))
    monkeypatch.setattr(Feed, "batch", lambda *given: clock.append(step) or batch(*given))
    found = sick.train(case, 0, tmp_path / "run", easy(), **QUICK)
    assert found[-1]["reading"] == pytest.approx(0.064 / (0.064 + step))
    assert (found[-1]["verdict"] == "starved for data") == starved


def test_a_sick_run_is_ended_where_that_is_wanted(tmp_path, capsys):
    case = sick.CASES["constant images"]
    source = sick.made_sick(easy(), case.data)
    settings = {**sick.SMALL, **case.settings, **QUICK, "steps": 60}
    with pytest.raises(
        TrainingFailed, match=r"stopped at step 50, sick at two looks in a row: flat: .*alike"
    ):
        tapetum.pretrain(source, out=str(tmp_path / "run"), stop_when="sick", **settings)
    assert [path.name for path in checkpoint.found(tmp_path / "run" / "checkpoints")] == ["step_00000050"]
    found = tapetum.inspect(str(tmp_path / "run"))
    assert found["health"].startswith("flat: the images are all alike") and "(step 50)" in found["health"]
    assert "preview" in found["what to try"] and found["health before"] == ["flat from step 0"]
    tapetum.pretrain(source, resume=str(tmp_path / "run"))
    assert (tmp_path / "run" / "encoder.safetensors").exists()


HISTORIES = benchmark.rows.kept(benchmark.ROWS)


@pytest.mark.parametrize("name", sick.CASES)
def test_the_kept_histories_of_real_images_get_their_words(name):
    found = [row["history"] for row in HISTORIES if row["row"] == name]
    if not found:
        pytest.skip(f"{name}: not run on real images yet")
    for looks in found:
        assert benchmark.right(sick.CASES[name], looks), [str(said) for said in benchmark.judged(looks)]
        assert looks[-1]["step"] <= 200
