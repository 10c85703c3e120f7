"""Where a run may go back to, and what looks, stops and other processes change of that: nothing."""

import os
import signal
from pathlib import Path

import pytest
import torch

import tapetum
from small_faults import SPOILT, TINY, pixels, pretrain, resumed, rows, spoilt
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.methods import find
from tapetum.train import checkpoint, loggers, online, resume, sandbox
from tapetum.train.attempt import Shortage
from tapetum.train.feed import Feed
from tapetum.train.mishaps import leave
from tapetum.train.run import Run

NAN = SPOILT["a loss that is no number"]


def went_back(run: Path) -> list[tuple[int, int]]:
    return [(row["step"], row["back_to"]) for row in rows(run, "mishaps.jsonl") if "back_to" in row]


def once_at(*steps: int):
    """Times of these steps of eight, each the first time only."""
    seen: list[int] = []

    def when(t: float) -> bool:
        seen.append(step := round(8 * t) + 1)
        return step in steps and seen.count(step) == 1

    return when


def test_a_look_at_weights_that_are_spoilt_sends_the_run_back(tmp_path, monkeypatch):
    """Step 3 spoils the weights, steps from then on are left out, and there is a look at step 6."""
    spoil = [True]

    def step(self, *rest, take=torch.optim.AdamW.step):
        take(self, *rest)
        weights = self.param_groups[0]["params"][0]
        if spoil and self.state[weights]["step"] == 3:
            spoil.pop()
            weights.data[0] = float("nan")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    pretrain(tmp_path / "run", checkpoint_steps=2, eval_every=2, skips=5)
    assert went_back(tmp_path / "run") == [(6, 2)]


def test_features_that_are_not_finite_send_the_run_back(tmp_path, monkeypatch):
    real, spoil = online.look, [True]

    def look(encoder, bank, held_out):
        if spoil and encoder.training and len(looks) == 1:
            spoil.pop()
            raise online.NotFinite("the encoder gives features that are not finite")
        looks.append(1)
        return real(encoder, bank, held_out)

    looks: list[int] = []
    monkeypatch.setattr(online, "look", look)
    pretrain(tmp_path / "run", checkpoint_steps=2, eval_every=2)
    assert went_back(tmp_path / "run") == [(6, 4)]
    (row,) = rows(tmp_path / "run", "mishaps.jsonl")
    assert "features that are not finite" in row["why"]


def test_before_training_they_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr(online, "embed", lambda encoder, pixels: torch.full((len(pixels), 4), float("inf")))
    with pytest.raises(TrainingFailed, match="features that are not finite"):
        pretrain(tmp_path / "run")


def test_stopped_among_left_out_steps_the_last_good_checkpoint_stays(tmp_path, monkeypatch):
    """With one checkpoint kept: that of step 2 must outlive the one that the stop at step 5 writes."""

    def when(t: float, seen: list[int] = []) -> bool:  # noqa: B006 - counts over both starts
        seen.append(step := round(8 * t) + 1)
        if step == 5 and seen.count(step) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step in (4, 5, 6) and seen.count(step) == 1

    spoilt(monkeypatch, "simclr", NAN, when)
    kept = {"checkpoint_steps": 2, "keep_checkpoints": 1, "skips": 3}
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "run", **kept)
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoint.found(folder)] == ["step_00000002", "step_00000005"]
    resumed(tmp_path / "run", **kept)
    assert went_back(tmp_path / "run") == [(6, 2)]
    assert [path.name for path in checkpoint.found(folder)] == ["step_00000008"]


def test_where_only_damaged_ones_would_stay_none_is_removed(tmp_path):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step, left_out in ((1, 0), (2, 1)):
        checkpoint.save(tmp_path, step, net, optimizer, {"mishaps": {"in_a_row": left_out}}, keep=None)
    assert leave(tmp_path, main=True) == 1 and len(checkpoint.found(tmp_path)) == 1
    checkpoint.save(tmp_path, 2, net, optimizer, {"mishaps": {"in_a_row": 1}}, keep=None)
    (tmp_path / "step_00000001" / "method.safetensors").write_bytes(b"")
    with pytest.raises(TapetumError, match="no checkpoint from before is whole"):
        leave(tmp_path, main=True)
    assert len(checkpoint.found(tmp_path)) == 2


def test_a_checkpoint_due_at_a_left_out_step_is_written_after_it(tmp_path, monkeypatch):
    spoilt(monkeypatch, "simclr", NAN, once_at(4))
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda *a, save=checkpoint.save: saved.append(a[1]) or save(*a))
    pretrain(tmp_path / "run", checkpoint_steps=4)
    assert saved == [5, 8]


def test_loggers_are_made_once_for_all_lives(tmp_path, monkeypatch):
    made = []
    monkeypatch.setitem(loggers.KNOWN, "tensorboard", lambda run, config: made.append(run) or print)
    spoilt(monkeypatch, "simclr", NAN, once_at(4, 5))
    pretrain(tmp_path / "run", checkpoint_steps=2, skips=2, logger=["tensorboard"])
    assert went_back(tmp_path / "run") and len(made) == 1


def test_what_waits_for_room_is_written_before_a_stop(tmp_path, monkeypatch):
    """The row of step 4 finds no room; a stop after step 5 writes it."""
    full = []

    def append(path, text, real=tapetum.base.files.append):
        if '"step": 4' in text and not full:
            full.append(path)
            raise TapetumError("no space left.")
        real(path, text)

    def stop(at: int, numbers: dict) -> None:
        if at == 5 and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("tapetum.base.journal.append", append)
    monkeypatch.setattr(
        Run, "_log", lambda self, step, rate, real=Run._log: step.number == 5 or real(self, step, rate)
    )
    spoilt(
        monkeypatch,
        "simclr",
        lambda loss: loss,
        lambda t: round(8 * t) + 1 == 5 and stop(5, {"loss": 0}) is None,
    )
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "run", log_every=1)
    assert full and [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == [1, 2, 3, 4]


def test_a_folder_that_became_a_run_meanwhile_is_left_alone(tmp_path):
    resume.still_free(tmp_path, resume=False)
    (tmp_path / "config.yaml").write_text("method: simclr\n")
    resume.still_free(tmp_path, resume=True)
    with pytest.raises(TapetumError, match="has become another run meanwhile"):
        resume.still_free(tmp_path, resume=False)


def test_it_is_asked_once_the_folder_is_claimed(tmp_path, monkeypatch):
    """Another process begins between the look at the folder and the claim."""
    out = tmp_path / "run"

    def first(*args, real=tapetum.train.pretrain.launch.count):
        out.mkdir()
        (out / "config.yaml").write_text("method: byol\n")
        return real(*args)

    monkeypatch.setattr("tapetum.train.pretrain.launch.count", first)
    with pytest.raises(TapetumError, match="meanwhile"):
        pretrain(out)
    assert (out / "config.yaml").read_text() == "method: byol\n"


@pytest.mark.parametrize("name", ["deepercluster", "sela"])
def test_a_beginning_of_an_epoch_that_failed_is_done_whole(name):
    """As where memory runs out in it: the second call does what the first had to."""
    once, twice = (sandbox.build(find(name)) for _ in range(2))
    twice.load_state_dict(once.state_dict())
    feed = sandbox.feed(once)

    def over(f):
        return torch.cat(
            [f(feed.batch(0, i, *feed.canvas.fetch(i))["x"]) for i in torch.arange(64).split(16)]
        )

    def short(f):
        raise MemoryError

    with pytest.raises(MemoryError):
        twice.before_epoch(0.0, short)
    assert sandbox.changed(dict(once.state_dict()), dict(twice.state_dict())) == []
    once.before_epoch(0.0, over)
    twice.before_epoch(0.0, over)
    assert twice.labels.any() and sandbox.changed(sandbox.state(once), sandbox.state(twice)) == []


def test_what_an_epochs_beginning_may_have_changed_is_not_saved(tmp_path, monkeypatch):
    """Three steps are an epoch. The fourth fails, once before its epoch begins and once in its beginning."""
    kind = find("simclr")
    for number, (owner, name, real) in enumerate(
        ((Feed, "batch", Feed.batch), (kind, "before_epoch", kind.before_epoch))
    ):

        def late(self, t, *rest, real=real):
            if t in (3, 0.375):
                raise TapetumError("reading takes too long.")
            return real(self, t, *rest)

        monkeypatch.setattr(owner, name, late)
        with pytest.raises(TapetumError, match="too long"):
            pretrain(tmp_path / f"{number}", checkpoint_steps=2)
        monkeypatch.undo()
        steps = [path.name[-1] for path in checkpoint.found(tmp_path / f"{number}" / "checkpoints")]
        assert steps == [["2", "3"], ["2"]][number]


def test_a_plan_of_a_run_that_goes_on_is_refused(tmp_path):
    with pytest.raises(TapetumError, match="leave out --resume"):
        tapetum.pretrain(resume=str(tmp_path), plan=True)


@pytest.mark.parametrize("asked", [{"plan": True}, {"budget": "1h"}, {"micro_batch": "auto"}])
def test_split_weights_are_not_tried_in_one_process(tmp_path, asked):
    given = {**TINY, "devices": 2, "parallel": "sharded", **asked}
    with pytest.raises(TapetumError, match="which --parallel sharded does not"):
        tapetum.pretrain(pixels(), out=str(tmp_path / "run"), **given)


def test_a_folder_that_is_no_run_is_called_so(tmp_path):
    (tmp_path / "out" / "venv").mkdir(parents=True)
    (tmp_path / "out" / "venv" / "python").symlink_to("/usr/bin/python3")
    with pytest.raises(TapetumError, match="is not an empty folder"):
        pretrain(tmp_path / "out")


# ---- what several processes say of their end ----


def dies() -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    raise tapetum.train.launch.Left("another process of this run has ended.")


def breaks() -> None:
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("of one process alone")
    raise tapetum.train.launch.Left("another process of this run has ended.")


def short_and_asked() -> None:
    import time

    if os.environ["RANK"] == "1":
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1)
        raise Shortage("memory ran out.", 2)
    time.sleep(60)


def test_the_cause_is_said_and_not_that_another_has_ended():
    with pytest.raises(TrainingFailed, match=r"process 1 of 2 was killed \(SIGKILL\)"):
        tapetum.train.launch.spawn(2, dies, {})
    with pytest.raises(Exception, match="of one process alone"):
        tapetum.train.launch.spawn(2, breaks, {})


def test_asked_to_stop_they_do_not_begin_again():
    with pytest.raises(SystemExit) as ended:
        tapetum.train.launch.spawned(2, short_and_asked, {})
    assert ended.value.code == 75
