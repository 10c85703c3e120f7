"""Weights split over processes: the training of whole ones, and checkpoints for any number of processes."""

import json
import os
import pickle
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed.checkpoint  # whose modules may name what is forbidden below
from safetensors.torch import load_file, save_file

import tapetum
from tapetum.base import distributed
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.base.files import short_id
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.parts.state import EMA
from tapetum.train import (
    attempt,
    checkpoint,
    contents,
    launch,
    optimizer,
    product,
    sandbox,
    sharding,
    shards,
    sync_norm,
)
from tapetum.train.alike import WAYS
from tapetum.train.loop import fit
from tapetum.train.optimizer import NAMES, OptimizerSettings

STEPS = 4
OPTIMISERS = tuple(name for name in NAMES if name != "muon")
LR = 1e-2
Trained = tuple[Method, torch.optim.Optimizer, str]


def settings(by: str) -> OptimizerSettings:
    return OptimizerSettings(name=by, lr=LR, warmup=0.0)


def begun(name: str = "byol", way: str = "whole", by: str = "adamw", seed: int = 0) -> Trained:
    """A small method in float64 and its optimiser, with weights whole or split."""
    method = sandbox.build(find(name), seed=seed).double()
    sync_norm.synchronise(method)
    if way == "split":
        sharding.shard(method, torch.device("cpu"))
        assert any(map(sharding.split, method.encoder.net.parameters())) == (distributed.world() > 1)
    return method, optimizer.build(method, settings(by), LR), by


def go(
    method: Method, opt: torch.optim.Optimizer, by: str = "adamw", start: int = 0, stop: int = STEPS
) -> dict[str, torch.Tensor]:
    """Train from one step to another; gives all that the method remembers, whole, and the numbers."""
    numbers = {}
    rates = partial(optimizer.set_rates, opt, method, settings(by), LR)
    steps = fit(method, opt, sandbox.feed(method), steps=STEPS, start=start, clip=0.5, set_rates=rates)
    for step in steps:
        numbers |= {f"_{step.number}_{n}": v.detach().double().clone() for n, v in step.numbers.items()}
        if step.number == stop:
            break
    return {n: sharding.full(t).clone() for n, t in sandbox.state(method).items()} | numbers


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference relative to the largest number of a tensor."""
    assert one.keys() == other.keys()
    gaps = [
        float((one[n].double() - other[n].double()).abs().max() / one[n].double().abs().max().clamp(min=1e-9))
        for n in one
        if one[n].numel()
    ]
    return max(gaps)


@contextmanager
def together(world: int, port: int) -> Iterator[None]:
    """Within it, so many of the processes work as one run."""
    os.environ |= {"WORLD_SIZE": str(world), "MASTER_PORT": str(port)}
    with launch.group():
        yield


def nothing_unpickled() -> Any:
    broken = mock.Mock(side_effect=AssertionError("unpickled"))
    return mock.patch.multiple(pickle, load=broken, loads=broken, Unpickler=broken)


def resumed(folder: Path, way: str) -> dict[str, torch.Tensor]:
    """The end of a run that goes on from its checkpoint after two steps, in a method that began otherwise."""
    method, opt, _ = begun(way=way, seed=5)
    with nothing_unpickled():
        path, facts = checkpoint.newest(folder)  # type: ignore[misc]
        contents.restore(path, facts, method, opt)
    return go(method, opt, start=2)


def _child(folder: str, ports: list[int]) -> None:
    """What each of four processes does; two of them are the first runs."""
    torch.set_num_threads(1)
    place, found = Path(folder), {}
    if int(os.environ["RANK"]) < 2:
        with together(2, ports[0]):
            gaps = {by: apart(*(go(*begun("byol", way, by), stop=3) for way in WAYS)) for by in OPTIMISERS}
            found |= {f"gap.{n}": torch.tensor(gap) for n, gap in gaps.items()}
            for way in WAYS:
                method, opt, _ = begun(way=way)
                go(method, opt, stop=2)
                checkpoint.save(place / f"two_{way}", 2, method, opt, {"health": {}}, 2)
                found |= {f"end.{way}.{n}": t for n, t in go(method, opt, start=2).items()}
                if way == "split":
                    _refused(place / "two_split", method, opt)
                product.save(place / way, method, None)
            for name, way in (("one", "split"), ("two_split", "whole"), ("two_whole", "split")):
                found |= {f"{name}.{way}.{n}": t for n, t in resumed(place / name, way).items()}
            found["left out"] = distributed.gather(torch.tensor([_left_out()]))
            if distributed.rank():
                found = {}
    with together(4, ports[1]):
        for name in ("one", "two_split"):
            found |= {f"{name}.four.{n}": t for n, t in resumed(place / name, "split").items()}
        if distributed.rank() == 0:
            save_file({n: t.detach().contiguous() for n, t in found.items()}, place / "found.safetensors")


def _refused(place: Path, method: Method, opt: torch.optim.Optimizer) -> None:
    """What fails while one of two processes writes fails on both, and nothing of it is left."""
    faults = ((1, shards, "_write"), (0, checkpoint, "_begin"), (0, checkpoint, "_seal"))
    for rank, module, name in faults:
        full = mock.Mock(side_effect=OSError("no room"))
        with ExitStack() as stack:
            if distributed.rank() == rank:
                stack.enter_context(mock.patch.object(module, name, full))
            sentence = f"process {rank} .*no room; earlier checkpoints are untouched"
            stack.enter_context(pytest.raises(TapetumError, match=sentence))
            checkpoint.save(place, 3, method, opt, {}, 2)


def _left_out() -> list[bool]:
    """Which steps are left out where one process has an infinite gradient in its part of a weight."""
    method, opt, _ = begun(way="split")
    weight = next(p for p in method.encoder.net.parameters() if sharding.split(p) and len(p) > 1)
    average, calls = distributed.average_gradients, []

    def spoilt(parameters: list) -> None:
        average(parameters)
        calls.append(1)
        if len(calls) == 2 and distributed.rank() == 1:
            sharding.local(weight.grad).fill_(float("inf"))

    with mock.patch.object(distributed, "average_gradients", spoilt):
        found = [step.skipped for step in fit(method, opt, sandbox.feed(method), steps=STEPS)]
    assert attempt.sound(method)
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pytestconfig) -> Path:
    place = tmp_path_factory.mktemp("split")
    method, opt, _ = begun()
    go(method, opt, stop=2)
    checkpoint.save(place / "one", 2, method, opt, {"health": {}}, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pytestconfig.rootpath)  # where the processes find this file
        launch.spawn(4, _child, {"folder": str(place), "ports": [free_port(), free_port()]})
    return place


@pytest.fixture(scope="module")
def found(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "found.safetensors")


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """The end of the run on one process."""
    return go(*begun())


@pytest.mark.parametrize("by", OPTIMISERS)
def test_optimisers_treat_split_weights_as_whole_ones(by, found):  # of methods tests/conformance says it
    assert found[f"gap.{by}"] < 1e-9


def test_muon_is_refused(tmp_path):
    how = {"method": "byol", "encoder": "resnet10_w32", "parallel": "sharded", "devices": "cpu"}
    with pytest.raises(TapetumError, match=r"muon.*parallel data"):
        images = sandbox.easy_images(48)[0]
        tapetum.pretrain(images, out=str(tmp_path / "run"), optimizer_settings={"name": "muon"}, **how)


@pytest.mark.parametrize(
    "end",
    [
        "end.whole",
        "end.split",
        "one.split",
        "two_split.whole",
        "two_whole.split",
        "one.four",
        "two_split.four",
    ],
)
def test_a_run_goes_on_with_other_processes(end, found, alone):
    late = {n: t for n, t in alone.items() if not n.startswith(("_1", "_2"))}
    own = {n.removeprefix(f"{end}."): t for n, t in found.items() if n.startswith(f"{end}.")}
    assert apart(late, own) < 1e-9


def test_a_split_run_goes_on_alone(folder, alone):
    assert {p.name for p in (folder / "two_split/step_00000002").iterdir()} == {
        *(f"shard-{i:05d}-of-00002.safetensors" for i in (1, 2)),
        "state.json",
    }
    late = {n: t for n, t in alone.items() if not n.startswith(("_1", "_2"))}
    assert apart(late, resumed(folder / "two_split", "whole")) < 1e-9


def test_each_process_holds_and_writes_its_half(folder):
    parts = [load_file(p) for p in sorted((folder / "two_split/step_00000002").glob("shard-*"))]
    method = begun()[0]
    for name, p in method.named_parameters():
        rows = [len(part[name]) if name in part else 0 for part in parts]
        assert sum(rows) == len(p) and rows[0] == -(-len(p) // 2), name
    assert not set(parts[1]) & {name for name, _ in method.named_buffers()}


def test_the_product_of_split_weights_is_the_same(folder):
    one, other = (load_file(folder / way / "encoder.safetensors") for way in ("whole", "split"))
    assert apart(one, other) < 1e-9


def test_damage_and_other_methods_are_told_in_a_sentence(folder, tmp_path, capsys):
    whole = folder / "two_split/step_00000002"
    with pytest.raises(TapetumError, match="of another method"):
        contents.restore_method(whole, begun("mae")[0])
    copy = tmp_path / "step_00000002"
    copy.mkdir()
    for path in whole.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    part = copy / "shard-00002-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    with pytest.raises(TapetumError, match="none of the 1 checkpoints"):
        checkpoint.newest(tmp_path)
    assert "is not what was written" in capsys.readouterr().err
    part.unlink()
    with pytest.raises(TapetumError, match=r"cannot be read|holds"):
        contents.restore_method(copy, begun()[0])


def test_a_process_that_cannot_write_leaves_nothing_and_none_waiting(folder):  # _refused says the rest
    assert [path.name for path in (folder / "two_split").iterdir()] == ["step_00000002"]


def test_all_processes_leave_a_step_out_alike(found):
    assert found["left out"].tolist() == 2 * [[False, True, False, False]]


def test_what_is_not_as_it_was_written_is_not_loaded(folder, tmp_path, capsys):
    shutil.copytree(folder / "two_split", tmp_path, dirs_exist_ok=True)
    method, opt, _ = begun()
    before, step = sandbox.state(method), tmp_path / "step_00000002"

    def refused(sentence: str) -> None:
        with pytest.raises(TapetumError, match="none of the 1 checkpoints"):
            checkpoint.load(tmp_path, method, opt, "this run")
        assert sentence in capsys.readouterr().err and not sandbox.changed(before, sandbox.state(method))

    refused("it is of another run")
    facts = json.loads((step / "state.json").read_text())
    facts.pop("digest")
    last = "shard-00002-of-00002.safetensors"
    for change, sentence in (
        ({"groups": [{}] * 9}, "is of another optimiser"),  # all else fits, and is not changed
        ({"files": {n: d for n, d in facts["files"].items() if n != last}}, "or all of several parts"),
    ):
        sealed = {**facts, "run": "this run", **change}
        (step / "state.json").write_text(json.dumps({**sealed, "digest": short_id(sealed)}))
        refused(sentence)
    sealed = {**facts, "run": "this run"}
    (step / "state.json").write_text(json.dumps({**sealed, "digest": short_id(sealed)}))
    save_file({"more": torch.ones(1)}, step / "more.safetensors")
    refused("does not name more.safetensors")
    (step / "more.safetensors").unlink()
    assert checkpoint.load(tmp_path, method, opt, "this run")
    (step / last).rename(tmp_path / "elsewhere")
    (step / last).symlink_to(tmp_path / "elsewhere")
    before = sandbox.state(method)
    refused("is no file of its own")


def test_portions_of_a_batch_are_refused(tmp_path):
    how = {"method": "byol", "encoder": "resnet10_w32", "parallel": "sharded", "devices": "cpu"}
    with pytest.raises(TapetumError, match=r"all 16 images.*not 4 at a time; leave out --micro-batch"):
        images = sandbox.easy_images(48)[0]
        tapetum.pretrain(images, out=str(tmp_path / "run"), batch_size=16, micro_batch=4, **how)
    feed = sandbox.feed(begun()[0])
    with pytest.raises(TrainingFailed, match="on one of the processes; --resume with --grad-checkpointing"):
        attempt.halve(feed, 0, crowded=False, apart=True)


def test_averages_are_split_as_what_they_follow():
    method = begun()[0]
    assert any(isinstance(part, EMA) for part in method.modules())  # or the runs above would say less
    with sharding.opened(method), sharding.mixing(list(method.parameters())):  # on one process nothing
        assert not any(map(sharding.split, method.parameters()))
    assert isinstance(sharding.mixing([]), nullcontext)
