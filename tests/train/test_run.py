"""A run in its folder: broken training, budgets, looks while training, loggers, damaged checkpoints."""

import contextlib
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

import small_runs
import tapetum
from run_files import rows
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.encoders import Encoder
from tapetum.methods import find
from tapetum.train import checkpoint, loggers, online, plan, resume, sandbox, setup

SMALL: dict[str, Any] = {**small_runs.SMALL, "logger": []}


def pretrain(out, images=48, **settings):
    given = {"steps": 4, **SMALL, **settings}
    return tapetum.pretrain(
        sandbox.easy_images(images)[0], out=str(out), **{n: v for n, v in given.items() if v is not None}
    )


def job(**settings):
    given = {
        **dict.fromkeys(("weights", "split", "micro_batch", "devices", "epochs", "steps", "budget")),
        **dict.fromkeys(("channels", "levels", "fit")),
        **SMALL,
    }
    given |= {
        "data": sandbox.easy_images(48)[0],
        "labels": "auto",
        "weights": "none",
        "keep_close": 0.0,
        "compile": False,
        "seed": 0,
        "devices": "cpu",
    }
    given |= {"workers": 0, "keep_checkpoints": 2, "epochs": 1} | settings
    groups = {"method": given.pop("method_settings"), "encoder": given.pop("encoder_settings")}
    return given, groups


def test_a_loss_that_is_no_number_fails_and_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    kind = find("simclr")
    loss = kind.loss
    monkeypatch.setattr(
        kind,
        "loss",
        lambda self, batch, t: {"loss": loss(self, batch, t)["loss"] / (0.0 if t > 0.5 else 1.0)},
    )
    with pytest.raises(TrainingFailed, match=r"the loss is (inf|nan).*at step 6.*lr"):
        pretrain(tmp_path / "run", steps=8, checkpoint_steps=1, log_every=100, skips=1, rollbacks=0)
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] == 5  # t is 0.5 in the fifth step, and 0.625 in the sixth
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_a_gradient_that_is_no_number_is_not_saved(tmp_path, monkeypatch):
    kind = find("simclr")
    loss = kind.loss

    def broken(self, batch, t):
        good = loss(self, batch, t)["loss"]
        return {"loss": good + (0 * good).sqrt() if t == 0.75 else good}  # finite, with an infinite slope

    monkeypatch.setattr(kind, "loss", broken)
    with pytest.raises(TrainingFailed, match="gradient's norm nan at step 4"):
        pretrain(tmp_path / "run", checkpoint_steps=1, log_every=100, skips=1, rollbacks=0)
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] == 3


def test_fp16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(TapetumError, match="fp16 needs a GPU"):
        pretrain(tmp_path / "run", precision="fp16", devices="cpu")


@pytest.mark.parametrize("text, wanted", [("8h", 28800), ("90m", 5400), ("1d12h", 129600), ("1.5s", 1.5)])
def test_a_budget_is_read(text, wanted):
    assert plan.seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "8", "h", "8 hours", "0s", "-1h"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(TapetumError, match="budget is"):
        plan.seconds(text)


def test_a_run_with_a_budget_is_the_run_with_those_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "trial", lambda job, trial=plan.trial: (trial(job)[0] * 0 + 5.0, 0.0))
    pretrain(tmp_path / "budget", steps=None, budget="40s")  # 3 steps an epoch, 5 seconds a step
    pretrain(tmp_path / "epochs", steps=None, epochs=2)
    assert rows(tmp_path / "budget") == rows(tmp_path / "epochs")
    one, other = (tmp_path / name / "encoder.safetensors" for name in ("budget", "epochs"))
    assert one.read_bytes() == other.read_bytes()


def test_a_budget_too_short_or_beside_epochs_is_refused(tmp_path):
    with pytest.raises(TapetumError, match="too short"):
        pretrain(tmp_path / "run", steps=None, budget="0.001s")
    with pytest.raises(TapetumError, match="chooses the epochs itself"):
        pretrain(tmp_path / "run", budget="1h")
    assert not (tmp_path / "run").exists()


def test_a_trial_changes_nothing():
    ready = setup.prepare(*job())
    before = sandbox.state(ready.method)
    plan.trial(ready)
    assert sandbox.changed(before, sandbox.state(ready.method)) == []
    assert all(p.grad is None for p in ready.method.parameters())
    assert not ready.optimizer.state


def test_the_micro_batch_found_is_the_largest_that_fits(monkeypatch):
    ready = setup.prepare(*job())
    need = plan.activations(ready, 16)
    outside = need(0)  # what heads and loss hold of the whole batch, and its views
    assert need(1) - outside > 32 * 32 * 4  # more than one channel of the image
    assert outside > 16 * 2 * 3 * 32 * 32 * 4
    assert plan.held(ready, 16, 2) < 0.5 * plan.held(ready, 16, None)
    for room, wanted in ((1e15, 16), (need(9.5), 9), (need(1.5), 1), (0, 1)):
        monkeypatch.setattr(plan, "free_memory", lambda room=room: room / plan.ON_CPU)
        assert plan.micro_batch(ready, 16)[0] == wanted


def test_the_largest_number_that_fits_is_found_within_a_sixteenth():
    for most in (1, 7, 64, 1000):
        for limit in range(most + 1):
            found = plan.largest(most, lambda n, limit=limit: n <= limit)
            assert limit - max(0, limit // 16) <= found <= limit
            assert plan.largest(most, lambda n, limit=limit: n <= limit, exact=True) == limit


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")]
)
def test_on_a_gpu_whole_steps_are_tried_until_one_fits(monkeypatch, error):
    """A network that runs out of memory with more than five views at once."""
    ready, features = setup.prepare(*job()), Encoder._features

    def small(self, x, *more):
        if len(x) > 5:
            raise error
        return features(self, x, *more)

    monkeypatch.setattr(Encoder, "_features", small)
    before = sandbox.state(ready.method)
    assert plan.largest(16, lambda n: plan.fits(ready, 16, n)) == 5
    assert sandbox.changed(before, sandbox.state(ready.method)) == []
    monkeypatch.setattr(plan, "sparing", contextlib.nullcontext)
    monkeypatch.setattr(plan, "fits", lambda job, share, micro: False)
    with pytest.raises(TapetumError, match=r"a batch of 16 images does not fit.*smaller --batch-size"):
        plan.micro_batch(replace(ready, device=torch.device("cuda")), 16)


def test_a_run_finds_its_own_micro_batch_and_is_that_run(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "micro_batch", lambda job, share, world: (6, "because"))
    pretrain(tmp_path / "auto", micro_batch="auto")
    pretrain(tmp_path / "six", micro_batch=6)
    assert rows(tmp_path / "auto") == rows(tmp_path / "six")


def test_a_look_leaves_modes_statistics_and_generators_alone():
    ready = setup.prepare(*job())
    encoder = ready.method.encoder.train()
    encoder.net.get_submodule("layer1").eval()  # somebody's frozen part
    modes = [part.training for part in encoder.modules()]
    before, generator = sandbox.state(encoder), torch.get_rng_state()
    bank = online.sample(ready.source, encoder, 40, seed=0)
    numbers = online.look(encoder, bank, None)
    assert len(bank.labels) == 40 and 1 <= numbers["rank"] <= encoder.dim
    assert [part.training for part in encoder.modules()] == modes
    assert sandbox.changed(before, sandbox.state(encoder)) == []
    assert torch.equal(generator, torch.get_rng_state())


def test_labels_are_renumbered_by_their_names():
    labels = torch.tensor([0, 1, 2, -1])
    assert online.renumbered(labels, ["b", "a", "z"], ["a", "b"]).tolist() == [1, 0, -1, -1]
    assert online.renumbered(labels, None, ["a"]).tolist() == [-1] * 4


def test_a_function_gets_the_numbers_and_an_unknown_logger_is_refused(tmp_path):
    seen = []
    pretrain(tmp_path / "run", steps=2, logger=[lambda step, numbers: seen.append((step, numbers))])
    assert {step for step, _ in seen} == {0, 1, 2}
    assert any("loss" in numbers for _, numbers in seen) and any("rank" in numbers for _, numbers in seen)
    with pytest.raises(TapetumError, match="did you mean 'tensorboard'"):
        loggers.check(["tensorbord"])


def test_looks_and_lines_come_when_asked(tmp_path):
    pretrain(tmp_path / "run", steps=None, epochs=4, eval_every=2, log_every=5)  # 3 steps an epoch
    looks = [row["step"] for row in rows(tmp_path / "run") if "rank" in row]
    lines = [row["step"] for row in rows(tmp_path / "run") if "loss" in row]
    assert looks == [0, 6, 12] and lines == [5, 10, 12]


def test_damaged_checkpoints_are_passed_over(tmp_path, capsys):
    pretrain(tmp_path / "whole", steps=6, checkpoint_steps=1, keep_checkpoints=4)
    pretrain(tmp_path / "run", steps=6, checkpoint_steps=1, keep_checkpoints=4)
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoint.found(folder)] == [f"step_{n:08d}" for n in (3, 4, 5, 6)]
    (folder / "step_00000006" / "state.json").write_text("[]")
    weights = folder / "step_00000005" / "method.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (folder / "step_00000004" / "optimizer.safetensors").unlink()
    tapetum.pretrain(sandbox.easy_images(48)[0], resume=str(tmp_path / "run"))
    assert capsys.readouterr().err.count("is damaged") == 3
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    found = checkpoint.newest(folder)
    assert found and found[1] == checkpoint.newest(tmp_path / "whole" / "checkpoints")[1]  # type: ignore[index]


def test_when_no_checkpoint_is_whole_nothing_is_overwritten(tmp_path):
    pretrain(tmp_path / "run", steps=2)
    for path in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        path.unlink()
    before = rows(tmp_path / "run")
    with pytest.raises(TapetumError, match="none of the 1 checkpoints"):
        tapetum.pretrain(sandbox.easy_images(48)[0], resume=str(tmp_path / "run"))
    assert rows(tmp_path / "run") == before


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    write = checkpoint._write

    def full(path, tensors):
        if "step_00000002" in str(path):
            raise OSError(28, "No space left on device")
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(TapetumError, match=r"No space left on device.*untouched"):
        pretrain(tmp_path / "run", checkpoint_steps=1, steps=2)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000001"]


def test_what_a_run_killed_at_its_birth_leaves_does_not_hinder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.abc.part").write_text("half")
    (folder / "method.py").write_text("")
    assert resume.where("auto", folder, plan=False) == (False, folder)
    with pytest.raises(TapetumError, match="not an empty folder"):
        resume.where(None, folder, plan=False)


def test_a_run_goes_on_with_its_own_settings_only(tmp_path):
    pretrain(tmp_path / "run", steps=2)
    for wrong in ({"epochs": 7}, {"steps": 9}, {"batch_size": 8}, {"seed": 1}, {"precision": "bf16"}):
        with pytest.raises(TapetumError, match=next(iter(wrong))):
            tapetum.pretrain(sandbox.easy_images(48)[0], resume=str(tmp_path / "run"), **wrong)
    with pytest.raises(TapetumError, match="not those that the run"):
        tapetum.pretrain(sandbox.easy_images(40)[0], resume=str(tmp_path / "run"))


def test_python_and_torch_generators_do_not_matter(tmp_path):
    for name in ("one", "other"):
        torch.manual_seed(random.randrange(1000) if name == "one" else 5000)
        pretrain(tmp_path / name, steps=3)
    assert rows(tmp_path / "one") == rows(tmp_path / "other")
    assert all(math.isfinite(row.get("loss", 0.0)) for row in rows(tmp_path / "one"))


@pytest.mark.parametrize(("precision", "fused"), [("bf16", False), ("fp32", True)])
def test_attention_is_plain_where_a_cpu_trains_in_bf16(precision, fused):
    small = {"width": 32, "depth": 1}
    wanted = {
        "method": "mae",
        "method_settings": small,
        "encoder": "vit_mini",
        "encoder_settings": {"depth": 1},
    }
    made = setup.prepare(*job(**wanted, precision=precision), quiet=True).method
    attention = [part for part in made.modules() if hasattr(part, "fused_attn")]
    assert {part.fused_attn for part in attention} == {fused}
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        said = made.encoder.eval().tokens(x)
        for part in attention:
            part.fused_attn = not fused
        torch.testing.assert_close(made.encoder.tokens(x), said, atol=1e-5, rtol=1e-4)
