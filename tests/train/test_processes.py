"""Several processes: what they share, what they agree on, and how they stop."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import small_runs
import tapetum
from tapetum.base import distributed
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.base.torchvision_compat import timm
from tapetum.train import launch, sync_norm
from tapetum.train.sandbox import easy_images

SHAPES = {"1d": (8, 6), "2d": (8, 6, 5, 5), "act": (8, 6, 5, 5), "plain": (8, 6), "cumulative": (8, 6, 3, 3)}


def norm(kind: str) -> nn.Module:
    """A batch norm in float64 with weights that are not the identity."""
    torch.manual_seed(1)
    made = {
        "1d": lambda: nn.BatchNorm1d(6),
        "2d": lambda: nn.BatchNorm2d(6),
        "act": lambda: timm.layers.BatchNormAct2d(6),
        "plain": lambda: nn.BatchNorm1d(6, affine=False, track_running_stats=False),
        "cumulative": lambda: nn.BatchNorm2d(6, momentum=None),
    }[kind]()
    for p in made.parameters():
        nn.init.normal_(p)
    return made.double()


def images(kind: str) -> torch.Tensor:
    return torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 3 + 1


def after(module: nn.Module, kind: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, gradients and statistics after two passes over x, whose loss is a mean over its rows."""
    x = x.clone().requires_grad_()
    target = torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 6, *[1] * (x.ndim - 2))
    for _ in range(2):
        y = module(x)
    (y - target).pow(3).mean().backward()
    assert x.grad is not None
    distributed.average_gradients(list(module.parameters()))
    found = {"y": y, "x.grad": x.grad / distributed.world(), **dict(module.named_buffers())}
    return found | {f"{name}.grad": p.grad for name, p in module.named_parameters() if p.grad is not None}


def _share(folder: str) -> None:
    """What each of two processes does for the tests below."""
    torch.set_num_threads(1)
    with launch.group():
        rank = distributed.rank()
        found: dict[str, Any] = {}
        for kind in SHAPES:
            module = norm(kind)
            sync_norm.synchronise(module)
            part = images(kind).chunk(2)[rank]
            found |= {f"{kind}.{n}": t for n, t in after(copy.deepcopy(module), kind, part).items()}
            module.eval()
            found[f"{kind}.eval"] = module(part)
        x = torch.arange(2.0).add(10 * rank).requires_grad_()
        joined = distributed.gather(x)
        (joined.square().sum() * (rank + 1)).backward()
        found |= {"gather": joined, "gather.grad": x.grad}
        beside = torch.zeros(4).requires_grad_()
        joined = 2 * beside + distributed.gather(torch.ones(2).requires_grad_())
        (joined.square().sum() * (rank + 1)).backward()
        found["beside.grad"] = beside.grad
        z = torch.ones(3).mul(rank + 1).requires_grad_()
        (distributed.mean(z) * (rank + 1)).sum().backward()
        found |= {"mean": distributed.mean(z), "mean.grad": z.grad}
        lonely = nn.Parameter(torch.zeros(2))
        if rank:
            lonely.grad = torch.ones(2)
        distributed.average_gradients([lonely])
        found["lonely.grad"] = lonely.grad
        save_file(
            {n: t.detach().clone().contiguous() for n, t in found.items()},
            Path(folder) / f"{rank}.safetensors",
        )


@pytest.fixture(scope="module")
def shares(tmp_path_factory, pytestconfig) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("shares")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pytestconfig.rootpath)  # where the processes find this file
        launch.spawn(2, _share, {"folder": str(folder)})
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("kind", SHAPES)
def test_synchronised_batch_norm_is_torchs_on_the_joined_batch(kind, shares):
    wanted = after(norm(kind), kind, images(kind))
    for name, value in wanted.items():
        ours = [share[f"{kind}.{name}"] for share in shares]
        if name in ("y", "x.grad"):
            ours = [torch.cat(ours)] * 2
        for one in ours:
            torch.testing.assert_close(one, value.detach(), rtol=0, atol=1e-12, msg=f"{kind} {name}")


@pytest.mark.parametrize("kind", SHAPES)
def test_synchronised_batch_norm_is_plain_in_one_process_and_in_eval(kind, shares):
    plain, ours = norm(kind), norm(kind)
    sync_norm.synchronise(ours)
    wanted, found = after(plain, kind, images(kind)), after(ours, kind, images(kind))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    if plain.track_running_stats:
        after_two = norm(kind)
        after(after_two, kind, images(kind))
        fresh = norm(kind).eval()
        assert fresh(images(kind)).shape == torch.cat([s[f"{kind}.eval"] for s in shares]).shape
        torch.testing.assert_close(
            torch.cat([s[f"{kind}.eval"] for s in shares]), fresh(images(kind)).detach()
        )


def test_gathered_rows_get_the_gradients_of_all(shares):
    for rank, share in enumerate(shares):
        assert share["gather"].tolist() == [0, 1, 10, 11]
        own = torch.arange(2.0) + 10 * rank
        assert torch.equal(share["gather.grad"], 2 * own * 3)  # 1 x from one process and 2 x from the other
        assert share["beside.grad"].tolist() == [4 * (rank + 1)] * 4  # its own process's alone
        assert share["mean"].tolist() == [1.5] * 3
        assert share["mean.grad"].tolist() == [1.5] * 3
        assert share["lonely.grad"].tolist() == [0.5] * 2


def test_torchruns_number_of_processes_counts(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launch.count("cpu") == 1 and launch.count(3) == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launch.launched() and launch.count("auto") == 4


def test_budgets_are_not_measured_by_each_process_of_torchrun(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TapetumError, match="torchrun"):
        tapetum.pretrain(easy_images(48)[0], out=str(tmp_path / "run"), budget="1h")


def test_two_processes_train_stop_and_go_on(flags, tmp_path):
    for i, pixels in enumerate(easy_images(48)[0]):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:03}.png")
    run = tmp_path / "run"
    settings = {**small_runs.SMALL, "steps": 40, "workers": 0}
    command = [sys.executable, "-m", "tapetum", "pretrain", tmp_path / "images", "--out", run]
    command += ["--resume", "auto", "--devices", "2", *flags(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics = run / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and len(read_lines(metrics)) > 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert said.count("tapetum pretrain --resume") == 1

    again = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "going on with" in again.stdout

    tapetum.pretrain(tmp_path / "images", out=str(tmp_path / "alone"), **settings)
    two, one = (
        {row["step"]: row["loss"] for row in read_lines(folder / "metrics.jsonl") if "loss" in row}
        for folder in (run, tmp_path / "alone")
    )
    assert list(two) == list(one) == list(range(1, 41))
    assert [two[step] for step in range(1, 6)] == pytest.approx([one[step] for step in range(1, 6)], rel=1e-4)
    features = tapetum.load(str(run)).encode(easy_images(4)[0])
    assert features.shape == (4, 64)
