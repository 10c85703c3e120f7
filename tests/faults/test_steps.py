"""Losses and gradients that are no numbers: the step leaves no trace; a row of them sends the run back."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

import tapetum
from run_files import rows
from small_faults import SPOILT, Killed, assert_same, killed_at, pretrain, resumed, spoilt
from tapetum.base.errors import TrainingFailed
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.train import checkpoint, optimizer, sandbox
from tapetum.train.feed import Feed
from tapetum.train.loop import Step, fit
from tapetum.train.optimizer import OptimizerSettings

NAN = SPOILT["a loss that is no number"]


def tried(name: str, **settings: Any) -> tuple[Method, torch.optim.Optimizer]:
    """A small method with batch norm, and its optimiser."""
    method = sandbox.build(find(name), **settings)
    return method, optimizer.build(method, OptimizerSettings(lr=1e-2, warmup=0.0), 1e-2)


def memory(opt: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = opt.state_dict()["state"]
    return {f"{i}.{n}": t.detach().clone() for i, own in state.items() for n, t in own.items()}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("name", ["byol", "mocov2"])
def test_a_spoilt_step_leaves_no_trace(monkeypatch, name, what):
    method, opt = tried(name)
    spoilt(monkeypatch, name, SPOILT[what], lambda t: t == 0.5)
    seen: list[tuple[Step, dict, dict]] = []
    for step in fit(method, opt, sandbox.feed(method, micro=8), steps=4):
        seen.append((step, sandbox.state(method), memory(opt)))
        assert all(p.grad is None for p in method.parameters())
    assert [step.skipped for step, *_ in seen] == [False, False, True, False]
    (_, before, moments), (_, after, since), (_, later, _) = seen[1:]
    assert sandbox.changed(before, after) == [] and sandbox.changed(moments, since) == []
    assert sandbox.changed(after, later) and all(t.isfinite().all() for t in later.values())


def test_pixels_that_are_no_numbers_spoil_no_statistics(monkeypatch):
    method, opt = tried("byol")
    feed = sandbox.feed(method)
    make = feed.batch

    def spoil(step, *rest):
        batch = make(step, *rest)
        if step == 1:
            batch["views"][0][2, 0, 5, 5] = float("nan")
        return batch

    monkeypatch.setattr(feed, "batch", spoil)
    assert [step.skipped for step in fit(method, opt, feed, steps=3)] == [False, True, False]
    assert all(t.isfinite().all() for t in method.state_dict().values())


# ---- whole runs ----


def at(*steps: int, of: int = 8) -> Callable[[float], bool]:
    """Times t of these steps, counted from 1."""
    return lambda t: round(t * of) + 1 in steps


def test_a_skipped_step_is_counted_named_and_said(tmp_path, monkeypatch, capsys):
    spoilt(monkeypatch, "simclr", NAN, at(3, 6))
    done = pretrain(tmp_path / "run", checkpoint_steps=1)
    assert done["steps"] == 8
    left = rows(tmp_path / "run", "mishaps.jsonl")
    assert [row["step"] for row in left] == [3, 6]
    assert left[0]["what"] == "the loss is nan and the gradient's norm nan" and len(left[0]["images"]) == 8
    assert len({*left[0]["images"]}) == 8 and left[0]["not_finite"] == ""
    assert [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == [1, 2, 4, 5, 7, 8]
    said = capsys.readouterr().err.splitlines()
    assert (
        len(said) == 3
        and "at step 3, which is left out" in said[0]
        and said[2].startswith("warning: 2 steps")
    )
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["mishaps"] == {"skipped": 2, "in_a_row": 0, "went_back": []}
    told = tapetum.inspect(str(tmp_path / "run"))
    assert (told["steps left out"], told["times it went back"]) == (2, 0)


def test_an_image_that_is_no_number_is_named(tmp_path, monkeypatch, capsys):
    make = Feed.batch

    def spoil(self, step, index, *rest):
        batch = make(self, step, index, *rest)
        batch["views"][0][index == 5] = float("nan")
        return batch

    monkeypatch.setattr(Feed, "batch", spoil)
    pretrain(tmp_path / "run", steps=3)
    (row,) = rows(tmp_path / "run", "mishaps.jsonl")
    assert row["not_finite"] == "000005" and "000005" in row["images"]
    assert "the views of 000005 are not finite" in capsys.readouterr().err


def test_killed_between_skipped_steps_the_end_is_the_same(tmp_path, monkeypatch):
    spoilt(monkeypatch, "simclr", NAN, at(2, 4, 5))
    pretrain(tmp_path / "whole", checkpoint_steps=2)
    with pytest.raises(Killed):
        pretrain(tmp_path / "run", checkpoint_steps=2, logger=[killed_at(6)])
    resumed(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "run", "mishaps.jsonl")] == [2, 4, 5]


def rates(run) -> dict[int, float]:
    return {row["step"]: row["lr"] for row in rows(run) if "lr" in row}


def spoilt_once_more(monkeypatch, *steps: int, times: int = 1, of: int = 8) -> None:
    """Spoil these steps the first `times` that each is taken."""
    seen: dict[int, int] = {}

    def when(t: float) -> bool:
        step = round(t * of) + 1
        seen[step] = seen.get(step, 0) + 1
        return step in steps and seen[step] <= times

    spoilt(monkeypatch, "simclr", NAN, when)


def test_a_row_of_them_sends_the_run_back_at_half_the_rate(tmp_path, monkeypatch, capsys):
    pretrain(tmp_path / "planned")
    planned = rates(tmp_path / "planned")
    spoilt_once_more(monkeypatch, 4, 5, 6)
    pretrain(tmp_path / "run", checkpoint_steps=2, skips=3)
    found = rates(tmp_path / "run")
    assert {s: found[s] / planned[s] for s in found} == {s: 0.5 if s > 2 else 1.0 for s in range(1, 9)}
    (row,) = rows(tmp_path / "run", "mishaps.jsonl")
    assert row["step"] == 6 and row["back_to"] == 2 and "in each of 3 steps" in row["why"]
    said = capsys.readouterr().err
    assert "going back to step 2, from where the learning rate is 0.5 of what it was planned to be" in said


def test_killed_after_it_went_back_the_end_is_the_same(tmp_path, monkeypatch):
    settings: dict[str, Any] = {"checkpoint_steps": 2, "skips": 3}
    with monkeypatch.context() as patch:
        spoilt_once_more(patch, 4, 5, 6)
        pretrain(tmp_path / "whole", **settings)
    for step, time in ((3, 2), (7, 1)):
        run = tmp_path / f"killed at {step}"
        with monkeypatch.context() as patch:
            spoilt_once_more(patch, 4, 5, 6)
            with pytest.raises(Killed):
                pretrain(run, logger=[killed_at(step, time)], **settings)
            resumed(run, logger=[])
        assert_same(run, tmp_path / "whole")


def test_without_a_checkpoint_it_begins_again(tmp_path, monkeypatch):
    spoilt_once_more(monkeypatch, 2, 3)
    pretrain(tmp_path / "run", skips=2)
    pretrain(tmp_path / "planned")
    planned, found = rates(tmp_path / "planned"), rates(tmp_path / "run")
    assert {s: found[s] / planned[s] for s in found} == dict.fromkeys(range(1, 9), 0.5)


def test_it_goes_back_as_often_as_is_said_and_then_ends(tmp_path, monkeypatch, capsys):
    spoilt(monkeypatch, "simclr", NAN, at(5, 6, 7, 8))
    with pytest.raises(TrainingFailed, match=r"in each of 2 steps, at step 6.*lower --optimizer.lr"):
        pretrain(tmp_path / "run", checkpoint_steps=2, skips=2, rollbacks=2)
    left = [row for row in rows(tmp_path / "run", "mishaps.jsonl") if "back_to" in row]
    assert [row["back_to"] for row in left] == [4, 4]
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] == 4 and not (tmp_path / "run" / "encoder.safetensors").exists()
    assert capsys.readouterr().err.count("going back to step 4") == 2


def test_a_run_in_which_every_step_fails_is_no_run(tmp_path, monkeypatch):
    spoilt(monkeypatch, "simclr", NAN, lambda t: True)
    with pytest.raises(TrainingFailed, match="in each of 2 steps"):
        pretrain(tmp_path / "run", steps=2, rollbacks=0)


def test_spoilt_weights_are_not_kept_and_send_the_run_back(tmp_path, monkeypatch):
    spoil = [True]

    def step(self, *rest, take=torch.optim.AdamW.step):
        take(self, *rest)
        weights = self.param_groups[0]["params"][0]
        if spoil and self.state[weights]["step"] == 4:
            spoil.pop()
            weights.data[0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    pretrain(tmp_path / "run", checkpoint_steps=2)
    (row,) = [row for row in rows(tmp_path / "run", "mishaps.jsonl") if "back_to" in row]
    assert (row["step"], row["back_to"]) == (4, 2) and "weights are infinite" in row["why"]


def test_asked_to_stop_among_skipped_steps_it_goes_back_to_before_them(tmp_path, monkeypatch):
    def when(t: float, seen: list[int] = []) -> bool:  # noqa: B006 - counts over both starts
        step = round(8 * t) + 1
        if step == 5 and step not in seen:
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append(step)
        return step in (4, 5, 6) and seen.count(step) == 1

    spoilt(monkeypatch, "simclr", NAN, when)
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "run", checkpoint_steps=2, skips=3)
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] == 5 and found[1]["mishaps"]["in_a_row"] == 2
    resumed(tmp_path / "run")
    (row,) = [row for row in rows(tmp_path / "run", "mishaps.jsonl") if "back_to" in row]
    assert (row["step"], row["back_to"]) == (6, 2)
