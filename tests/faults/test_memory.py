"""Memory that runs out: the step is done again with half the images at once; the batch stays what it is."""

from typing import Any

import pytest
import torch

from run_files import rows
from small_faults import Killed, assert_same, crowded, killed_at, pretrain, resumed
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.methods import find
from tapetum.train import attempt, checkpoint, launch, optimizer, sandbox
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings


def real() -> Exception:
    """What torch says on a CPU."""
    try:
        torch.empty(2**55)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has too much memory")


ERRORS: dict[str, Any] = {
    "of a CPU": real,
    "of a GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "of numpy": lambda: MemoryError("Unable to allocate 3 GiB"),
    "of cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "of cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
}


def steps_of(name: str, micro: int, steps: int, start: int = 0, before: Any = None) -> Any:
    """(method, optimiser, feed) after some steps."""
    if before:
        method, opt, feed = before
        feed.micro_batch = micro
    else:
        method = sandbox.build(find(name))
        opt = optimizer.build(method, OptimizerSettings(lr=1e-2, warmup=0.0), 1e-2)
        feed = sandbox.feed(method, micro=micro)
    for _ in fit(method, opt, feed, steps=steps, start=start):
        pass
    return method, opt, feed


@pytest.mark.parametrize("which", ERRORS)
def test_the_step_is_done_again_in_smaller_portions(monkeypatch, capsys, which):
    before = steps_of("byol", 16, 1)
    wanted = sandbox.state(steps_of("byol", 4, 3, start=1, before=before)[0])
    before = steps_of("byol", 16, 1)
    crowded(monkeypatch, 4, ERRORS[which])
    method, _, feed = steps_of("byol", 16, 3, start=1, before=before)
    assert feed.micro_batch == 4 and sandbox.changed(wanted, sandbox.state(method)) == []
    said = capsys.readouterr().err.splitlines()
    assert (
        len(said) == 2 and "memory ran out in step 2 with 16 images at once, so it is done again" in said[0]
    )
    assert "a batch still has 16" in said[1] and "sees 4 views at a time" in said[1]


def test_without_batch_norm_nothing_is_said_of_it(monkeypatch, capsys):
    crowded(monkeypatch, 8, ERRORS["of a CPU"])
    steps_of("mae", 16, 1)
    assert "batch normalisation" not in capsys.readouterr().err


def test_an_epochs_beginning_is_not_done_twice(monkeypatch):
    begun: list[float] = []
    monkeypatch.setattr(find("byol"), "before_epoch", lambda self, t, over: begun.append(t))
    crowded(monkeypatch, 4, ERRORS["of a GPU"])
    steps_of("byol", 16, 5)
    assert begun == [0.0, 0.8]  # four steps an epoch


def test_with_one_image_at_once_it_ends(monkeypatch):
    crowded(monkeypatch, 0, ERRORS["of a GPU"])
    with pytest.raises(TrainingFailed, match="in step 1 with 1 image at once, the fewest there can be"):
        steps_of("mae", 4, 2)


def test_another_error_is_not_taken_for_it(monkeypatch):
    crowded(monkeypatch, 4, lambda: RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        steps_of("mae", 16, 1)


@pytest.mark.parametrize("micro, smaller", [(16, 8), (9, 4), (7, 3), (2, 1)])
def test_portions_are_half_as_large(micro, smaller):
    feed = sandbox.feed(sandbox.build(find("mae")), batch=16, micro=micro)
    attempt.halve(feed, 0, crowded=False)
    assert feed.micro_batch == smaller


def test_what_ended_for_lack_of_memory_is_saved_up_to_there(tmp_path, monkeypatch):
    kind = find("simclr")
    loss = kind.loss

    def full(self, batch, t):
        if t > 0.5:
            raise MemoryError
        return loss(self, batch, t)

    monkeypatch.setattr(kind, "loss", full)
    with pytest.raises(TrainingFailed, match="in step 6 with 1 image"):
        pretrain(tmp_path / "run")
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] == 5 and found[1]["micro_batch"] == [8, 1]


def test_killed_after_it_halved_the_end_is_the_same(tmp_path, monkeypatch):
    calls: list[float] = []

    def once() -> Exception:
        calls.append(1)
        return MemoryError()

    kind = find("simclr")
    loss = kind.loss

    now: list[int] = []

    def noted(self, batch, t):
        now[:] = [round(8 * t)]
        return loss(self, batch, t)

    monkeypatch.setattr(kind, "loss", noted)
    crowded(monkeypatch, 4, once, lambda: now == [2])
    pretrain(tmp_path / "whole", checkpoint_steps=2)
    for step in (4, 6):  # step 5 follows the checkpoint of the halved run, and is not short itself
        run = tmp_path / f"killed at {step}"
        with pytest.raises(Killed):
            pretrain(run, checkpoint_steps=2, logger=[killed_at(step)])
        resumed(run, logger=[])
        assert_same_but_mishaps(run, tmp_path / "whole")
    assert len(calls) == 4


def assert_same_but_mishaps(run, wanted) -> None:
    (run / "mishaps.jsonl").touch()
    (wanted / "mishaps.jsonl").touch()
    assert_same(run, wanted)


def test_a_portion_that_is_asked_for_on_resuming_wins(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crowded(patch, 4, MemoryError)
        with pytest.raises(Killed):
            pretrain(tmp_path / "run", checkpoint_steps=2, logger=[killed_at(5)])
    resumed(tmp_path / "run", micro_batch=2, logger=[])
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["micro_batch"] == [2, 2] and len(rows(tmp_path / "run")) == 10


def test_of_several_processes_all_begin_again_with_less(monkeypatch, capsys):
    """What the parent does when a child says so."""
    starts: list[dict] = []

    def spawn(world, body, arguments):
        starts.append(arguments)
        if len(starts) < 3:
            raise attempt.Shortage("memory ran out.", 16 // 2 ** len(starts))

    monkeypatch.setattr(launch, "spawn", spawn)
    launch.spawned(2, print, {"given": {"micro_batch": None, "seed": 1}, "resume": False})
    assert [(a["given"]["micro_batch"], a["resume"]) for a in starts] == [(None, False), (8, True), (4, True)]
    assert capsys.readouterr().err.count("memory ran out. That is done now.") == 2


def test_of_several_processes_none_halves_alone(monkeypatch):
    monkeypatch.setattr(attempt.distributed, "world", lambda: 2)
    feed = sandbox.feed(sandbox.build(find("mae")), batch=16, micro=8)
    with pytest.raises(
        TapetumError, match=r"in step 1 with 8 images at once on one.*--micro-batch 4"
    ) as found:
        attempt.halve(feed, 0, crowded=False)
    assert feed.micro_batch == 8 and isinstance(found.value, attempt.Shortage) and found.value.micro == 4
