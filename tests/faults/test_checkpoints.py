"""Whatever became of a checkpoint: no wrong weight is loaded, the one before is taken, one line says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.train import checkpoint

FILES = ("method.safetensors", "optimizer.safetensors", "state.json")
RUN = "0123456789ab"


class Net(nn.Module):
    """Something small with weights and statistics."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, width), nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


def made(net: nn.Module | None = None, optimizer: str = "AdamW") -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = net or Net()
    return net, getattr(torch.optim, optimizer)(net.parameters(), lr=0.1)


def learn(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    net(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def content(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All that is learnt, as copies."""
    moments = {
        f"{i}.{n}": t for i, state in optimizer.state_dict()["state"].items() for n, t in state.items()
    }
    return {name: t.clone() for name, t in {**net.state_dict(), **moments}.items()}


@pytest.fixture
def kept(tmp_path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder with the checkpoints of steps 1 and 2, and what was learnt by step 1."""
    net, optimizer = made()
    learnt: dict[int, dict[str, torch.Tensor]] = {}
    for step in (1, 2):
        learn(net, optimizer)
        checkpoint.save(tmp_path, step, net, optimizer, {"run": RUN, "threads": 1}, keep=2)
        learnt = {**learnt, step: content(net, optimizer)}
    return tmp_path, learnt[1]


def test_old_ones_go_and_newer_ones_than_a_run_goes_on_from_stay(tmp_path):
    for step in (1, 2, 3, 4):
        (tmp_path / f"step_{step:08d}").mkdir()
    checkpoint.prune(tmp_path, 3, keep=2)
    assert [path.name[-1] for path in checkpoint.found(tmp_path)] == ["2", "3", "4"]


def assert_first(kept, capsys, sentence: str = "") -> None:
    """The damaged second checkpoint is passed over with one line, and the first is loaded whole."""
    folder, first = kept
    net, optimizer = made()
    facts = checkpoint.load(folder, net, optimizer, RUN)
    assert facts and facts["step"] == 1
    found = content(net, optimizer)
    assert found.keys() == first.keys()
    assert [name for name in first if not torch.equal(first[name], found[name])] == []
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "step_00000002 is damaged (" in said[0] and sentence in said[0], said


def test_whole_ones_are_loaded(kept, capsys):
    net, optimizer = made()
    facts = checkpoint.load(kept[0], net, optimizer, RUN)
    assert facts and facts["step"] == 2 and capsys.readouterr().err == ""


# ---- bytes ----

BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "without its end": lambda whole: whole[:-2],
    "with a byte more": lambda whole: whole + b"\0",
    "its first bit flipped": lambda whole: flipped(whole, 0),
    "a bit in its middle flipped": lambda whole: flipped(whole, len(whole) // 2),
    "a bit near its end flipped": lambda whole: flipped(whole, len(whole) - 4),
    "zeros of its length": lambda whole: bytes(len(whole)),
}


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", BYTES)
def test_bytes_that_are_not_those_written(kept, capsys, file, how):
    path = kept[0] / "step_00000002" / file
    path.write_bytes(BYTES[how](path.read_bytes()))
    assert_first(kept, capsys)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_missing(kept, capsys, file):
    (kept[0] / "step_00000002" / file).unlink()
    assert_first(kept, capsys, "no")


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_a_files_place(kept, capsys, file):
    path = kept[0] / "step_00000002" / file
    path.unlink()
    path.mkdir()
    assert_first(kept, capsys)


def test_each_bit_of_the_description_counts(kept):
    path = kept[0] / "step_00000002" / "state.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        for bit in (1, 4):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            try:
                facts = checkpoint.facts_of(path.parent, RUN)
            except (TapetumError, OSError, ValueError):
                continue
            assert facts == {n: v for n, v in json.loads(whole).items() if n != "digest"}  # a blank, say


# ---- descriptions ----


def written(path: Path, change: Callable[[dict], object]) -> None:
    """Change what stands in state.json and seal it anew, as a stranger or another version would."""
    facts = json.loads((path / "state.json").read_text())
    facts.pop("digest")
    facts = change(facts) or facts
    (path / "state.json").write_text(json.dumps({**facts, "digest": short_id(facts)}))


def files(name: str, digest: str = "0" * 64) -> Callable[[dict], object]:
    return lambda facts: facts["files"].update({name: digest})


DESCRIPTIONS: dict[str, tuple[Callable[[dict], object], str]] = {
    "an older format": (lambda f: f.update(format=1), "its format is 1, this version reads 2"),
    "a newer format": (lambda f: f.update(format=99), "its format is 99"),
    "a format in words": (lambda f: f.update(format="two"), "its format is two"),
    "another step": (lambda f: f.update(step=3), "it says that it is of step 3"),
    "a step in words": (lambda f: f.update(step="2"), "it says that it is of step 2"),
    "no step": (lambda f: f.pop("step") and None, "it says that it is of step None"),
    "another run": (lambda f: f.update(run="ba9876543210"), "of another run"),
    "no run": (lambda f: f.pop("run") and None, "of another run"),
    "no files": (lambda f: f.pop("files") and None, "does not name"),
    "files as a list": (lambda f: f.update(files=list(f["files"])), "does not name"),
    "only one file": (lambda f: f["files"].pop("method.safetensors") and None, "does not name"),
    "a path upwards": (files("../../secret"), "'../../secret' is no file of its own"),
    "a path from the root": (files("/etc/hostname"), "is no file of its own"),
    "a path downwards": (files("deep/file"), "is no file of its own"),
    "no name": (files(""), "is no file of its own"),
    "dots": (files(".."), "is no file of its own"),
    "a name with a zero": (files("a\0b"), "is no file of its own"),
    "a file that is not there": (files("more.safetensors"), "is no file of its own"),
    "a digest that is a number": (files("method.safetensors", 7), "is not what was written"),  # type: ignore[arg-type]
    "an optimiser as a list": (lambda f: f.update(optimizer=[1]), "does not describe an optimiser"),
    "no optimiser": (lambda f: f.pop("optimizer") or f, "does not describe an optimiser"),
    "groups as a number": (lambda f: f.update(groups=3), "does not describe an optimiser"),
    "more groups": (lambda f: f.update(groups=[{}, {}]), "is of another optimiser"),
    "counters that are no numbers": (lambda f: f.update(groups=[{"step": "4"}]), "is of another optimiser"),
    "groups of numbers": (lambda f: f.update(groups=[1]), "is of another optimiser"),
    "state of a parameter too many": (lambda f: f["optimizer"].update({"9.step": 1}), "holds 9.step"),
    "state of no parameter": (lambda f: f["optimizer"].update({"-1.step": 1}), "holds -1.step"),
    "state without a name": (lambda f: f["optimizer"].update({"0": 1}), "holds 0"),
}


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_description_that_is_sealed_but_does_not_fit(kept, capsys, what):
    change, sentence = DESCRIPTIONS[what]
    written(kept[0] / "step_00000002", change)
    assert_first(kept, capsys, sentence)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "null", "{", '"state"', "[" * 100_000, "{}", '{"format": 2}', '{"format": 2, "x": NaN}'],
    ids=["nothing", "a list", "a number", "null", "half", "a text", "a deep nest", "empty", "short", "NaN"],
)
def test_a_description_that_is_none(kept, capsys, text):
    (kept[0] / "step_00000002" / "state.json").write_text(text)
    assert_first(kept, capsys)


def test_a_description_that_is_no_text(kept, capsys):
    (kept[0] / "step_00000002" / "state.json").write_bytes(b"\xff\xfe{}")
    assert_first(kept, capsys)


def test_a_link_to_a_file_elsewhere(kept, capsys, tmp_path):
    path = kept[0] / "step_00000002" / "method.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert_first(kept, capsys, "is no file of its own")


# ---- tensors ----


def replaced(path: Path, file: str, change: Callable[[dict], object]) -> None:
    """Change the tensors in a file, and seal everything anew."""
    tensors = load_file(path / file)
    change(tensors)
    save_file(tensors, path / file)
    written(path, files(file, checkpoint.digest(path / file)))


TENSORS: dict[str, tuple[str, Callable[[dict], object], str]] = {
    "of another shape": (
        FILES[0],
        lambda t: t.update({"norm.weight": torch.ones(5)}),
        "holds norm.weight as float32 [5], here it is float32 [4]",
    ),
    "of a shape that would spread": (
        FILES[0],
        lambda t: t.update({"layer.weight": torch.ones(1, 3)}),
        "here it is float32 [4, 3]",
    ),
    "of another type": (
        FILES[0],
        lambda t: t.update({"layer.bias": torch.ones(4, dtype=torch.int64)}),
        "holds layer.bias as int64 [4]",
    ),
    "one too few": (FILES[0], lambda t: t.pop("norm.running_var"), "norm.running_var and 0 more differ"),
    "one too many": (FILES[0], lambda t: t.update(other=torch.ones(1)), "other and 0 more differ"),
    "an average of another shape": (
        FILES[1],
        lambda t: t.update({"0.exp_avg": torch.ones(3, 4)}),
        "holds 0.exp_avg as float32 [3, 4], its parameter is float32 [4, 3]",
    ),
    "an average of no parameter": (
        FILES[1],
        lambda t: t.update({"7.exp_avg": torch.ones(2)}),
        "holds 7.exp_avg",
    ),
    "an average without a number": (FILES[1], lambda t: t.update({"x.exp_avg": torch.ones(2)}), "x.exp_avg"),
}


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_are_sealed_but_do_not_fit(kept, capsys, what):
    file, change, sentence = TENSORS[what]
    replaced(kept[0] / "step_00000002", file, change)
    assert_first(kept, capsys, sentence)


@pytest.mark.parametrize("file", FILES[:2])
def test_a_file_of_another_kind_that_is_sealed(kept, capsys, file):
    path = kept[0] / "step_00000002"
    torch.save({"weights": torch.ones(2)}, path / file)
    written(path, files(file, checkpoint.digest(path / file)))
    assert_first(kept, capsys, "cannot be read")


@pytest.mark.parametrize(
    "other", [lambda: made(Net(6)), lambda: made(nn.Sequential(nn.Linear(3, 4)))], ids=["wider", "another"]
)
def test_a_checkpoint_of_another_method_changes_nothing(kept, other):
    net, optimizer = other()
    before = content(net, optimizer)
    with pytest.raises(TapetumError, match="none of the 2 checkpoints"):
        checkpoint.load(kept[0], net, optimizer, RUN)
    after = content(net, optimizer)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)


def test_a_checkpoint_put_there_from_another_run(kept, capsys, tmp_path):
    net, optimizer = made()
    other = tmp_path / "other"
    checkpoint.save(other, 2, net, optimizer, {"run": "of another seed"}, keep=1)
    shutil.rmtree(kept[0] / "step_00000002")
    shutil.copytree(other / "step_00000002", kept[0] / "step_00000002")
    assert_first(kept, capsys, "it is of another run, or of other settings")


def test_a_checkpoint_under_another_steps_name(kept, capsys):
    shutil.rmtree(kept[0] / "step_00000002")
    shutil.copytree(kept[0] / "step_00000001", kept[0] / "step_00000002")
    assert_first(kept, capsys, "it says that it is of step 1")


def test_a_file_in_a_checkpoints_place(kept, capsys):
    shutil.rmtree(kept[0] / "step_00000002")
    (kept[0] / "step_00000002").write_text("")
    assert_first(kept, capsys)


def test_half_a_checkpoint_under_its_temporary_name_is_none(kept, capsys):
    (kept[0] / "step_00000002").rename(kept[0] / ".step_00000002.part")
    net, optimizer = made()
    facts = checkpoint.load(kept[0], net, optimizer, RUN)
    assert facts and facts["step"] == 1 and capsys.readouterr().err == ""


def test_when_none_is_whole_the_run_does_not_begin_anew_by_itself(kept):
    for path in kept[0].glob("*/state.json"):
        path.write_text("{")
    with pytest.raises(TapetumError, match=r"none of the 2 checkpoints.*is whole; start the run anew"):
        checkpoint.load(kept[0], *made(), RUN)
