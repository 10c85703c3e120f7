"""Bad data, files and disks: each is one sentence and exit code 2, and nothing already computed is lost."""

import contextlib
import hashlib
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from small_faults import disk_of
from tapetum import cli
from tapetum.encoders import Encoder
from tapetum.train import checkpoint, config

SMALL = (
    "--batch-size 8 --precision fp32 --workers 0 --encoder.channels 4,8,8,16 "
    "--method.hidden 16 --method.dim 8 --log-every 1"
)
LONG = f"pretrain photos --out run {SMALL} --steps 6 --checkpoint-steps 2 --keep-checkpoints 9"


def ask(capsys, typed: str) -> tuple[int, str]:
    """(exit code, what stands on stderr) of one command."""
    code = cli.main(typed.split())
    return code, capsys.readouterr().err


def digests(folder: Path) -> dict[str, str]:
    """What every file below a folder holds."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def model(tmp_path_factory, write_photos) -> Path:
    """24 photos of two classes, also without classes and packed, a run of six steps, and its features."""
    folder = tmp_path_factory.mktemp("model")
    write_photos(folder)
    with zipfile.ZipFile(folder / "photos.zip", "w") as packed:
        for file in sorted((folder / "photos").rglob("*.png")):
            packed.write(file, f"train/{file.relative_to(folder / 'photos')}")
    with tarfile.open(folder / "photos.tar", "w") as tar:
        tar.add(folder / "photos", "train")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(LONG.split()) == 0
        assert cli.main(["embed", "run", "photos", "--out", "features.npz"]) == 0
        assert cli.main(["pack", "photos", "--out", "photos.pack"]) == 0
    return folder


# ---- ways to damage things ----

Damage = Callable[[], object]


def text(name: str, content: str = "not what it seems\n") -> Damage:
    return lambda: Path(name).write_text(content)


def halved(name: str) -> Damage:
    return lambda: Path(name).write_bytes(Path(name).read_bytes()[: Path(name).stat().st_size // 2])


def flipped(name: str, at: int = -3) -> Damage:
    """One byte, near the end or at a place, is another."""

    def damage():
        content = bytearray(Path(name).read_bytes())
        content[at] ^= 255
        Path(name).write_bytes(content)

    return damage


def each(pattern: str, damage: Callable[[str], Damage], count: int | None = None) -> Damage:
    return lambda: [damage(str(file))() for file in sorted(Path().glob(pattern))[:count]]


def removed(name: str) -> Damage:
    return lambda: Path(name).unlink()


def edited(name: str, old: str, new: str) -> Damage:
    def damage():
        before = Path(name).read_text()
        assert old in before
        Path(name).write_text(before.replace(old, new))

    return damage


def others() -> None:
    """Weights of another network, and in two forms that hold more than tensors."""
    save_file({"conv1.weight": torch.zeros(3, 3)}, "other.safetensors")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "f": print}, "code.pt")
    Path("code.bin").write_bytes(pickle.dumps({"conv1.weight": Surprise()}))


class Surprise:
    """Unpickled, it would make a file."""

    def __reduce__(self):
        return open, ("surprise", "w")


def begun() -> None:
    Path(".x.pack.journal").write_text('{"pack": 1}\n')
    Path(".x.pack.part").write_bytes(b"something")


def unfinished() -> None:
    for name in ("encoder.safetensors", "encoder.json"):
        Path("run", name).unlink()
    shutil.rmtree("run/checkpoints/step_00000006")


def nothing() -> None:
    """The command itself is wrong."""


NEW = f"pretrain photos --out new --steps 1 {SMALL}"


def new(data: str) -> str:
    return NEW.replace("photos", data, 1)


SUPERVISED = "pretrain photos --out new --method supervised"
RESUME, EMBED = "pretrain --resume run", "embed run flat --out x.npz"
METHOD = "from tapetum.methods.method import Method\n\n\nclass One(Method):\n    pass\n"

BAD: list[tuple[str, Damage, str, str]] = [
    # paths and archives: what it is, how it comes about, what was typed, and what the sentence must hold
    ("no such path", nothing, new("fotos"), "there is no fotos; did you mean 'photos'?"),
    ("a path in an image", nothing, new("flat/1.png/x"), "1.png is a file, not a folder or archive"),
    ("no such folder in a zip", nothing, new("photos.zip/trian"), "did you mean 'train'?"),
    ("half a zip", halved("photos.zip"), new("photos.zip"), "photos.zip"),
    ("no zip at all", text("photos.zip"), new("photos.zip"), "photos.zip"),
    ("a zip of something else", lambda: zipfile.ZipFile("x.zip", "w").close(), new("x.zip"), "x.zip"),
    ("no such folder in a tar", nothing, new("photos.tar/tarin"), "did you mean 'train'?"),
    ("no tar at all", text("photos.tar"), new("photos.tar"), "photos.tar"),
    ("a compressed tar that is none", text("x.tar.gz"), new("x.tar.gz"), "x.tar.gz"),
    (
        "no shards",
        nothing,
        new("shard-{000..003}.tar"),
        "there is no file shard-000.tar (4 of 4 shards are missing).",
    ),
    (
        "a pack that is none",
        text("photos.pack"),
        new("photos.pack"),
        "photos.pack is not a pack of tapetum's",
    ),
    ("half a pack", halved("photos.pack"), new("photos.pack"), "photos.pack is cut off"),
    (
        "the last byte of a pack",
        flipped("photos.pack"),
        new("photos.pack"),
        "the index of photos.pack is damaged",
    ),
    ("one byte of a record", flipped("photos.pack", 5000), new("photos.pack"), "record 0 (cat/1.png) of "),
    (
        "the same, to be measured",
        flipped("photos.pack", 5000),
        "embed run photos.pack --out x.npz",
        "record 0 ",
    ),
    ("a pack that is there", nothing, "pack photos --out photos.pack", "photos.pack exists already"),
    ("a pack of another kind", nothing, "pack photos --out x.zip", "ends in .pack, which x.zip does not"),
    ("a pack in a file", nothing, "pack photos --out photos.zip/x", "photos.zip is a file, not a folder"),
    ("a pack of nothing", nothing, "pack fotos --out x", "did you mean 'photos'?"),
    (
        "a pack of broken images",
        each("flat/*", halved),
        "pack flat --out x",
        "none of the 24 images of flat can",
    ),
    ("a pack half made of others", begun, "pack photos --out x", "half a pack of other images or settings"),
    ("a form that packs lack", nothing, "pack photos --out x --format jpg", "did you mean jpeg?"),
    ("a pack of no size", nothing, "pack photos --out x --size 0", "size is '0'"),
    (
        "a pack larger than the disk",
        nothing,
        "pack photos --out x --format raw --size 999999",
        "the pack would take about 72.0 TB",
    ),
    ("an array file that is none", text("x.npz"), new("x.npz"), "x.npz"),
    ("an array that is no image", lambda: np.save("x.npy", np.zeros(3)), new("x.npy"), "x.npy"),
    ("a parquet file that is none", text("x.parquet"), new("x.parquet"), "x.parquet"),
    (
        "a kind of file that nobody knows",
        text("x.h5"),
        new("x.h5"),
        "x.h5 is of a kind that cannot be opened",
    ),
    ("a list without paths", text("x.csv", "a,b\n1,2\n"), new("x.csv"), "x.csv"),
    ("a list of files that are not there", text("x.csv", "path\na.png\nb.png\n"), new("x.csv"), "a.png"),
    ("an empty list", text("x.csv", ""), new("x.csv"), "x.csv is empty."),
    (
        "a list that is not text",
        lambda: Path("x.csv").write_bytes(b"path\n\xff\xfe\n"),
        new("x.csv"),
        "x.csv",
    ),
    ("JSON lines that are none", text("x.jsonl", "{\n"), new("x.jsonl"), "x.jsonl"),
    ("an empty folder", lambda: Path("x").mkdir(), new("x"), "x holds no images. It is empty."),
    # images
    ("a folder of text files", each("flat/*", text), new("flat"), "images"),
    ("empty images", each("flat/*", lambda f: text(f, "")), new("flat"), "flat holds no images."),
    ("images all cut in half", each("flat/*", halved), new("flat"), "cannot be read"),
    ("more than a tenth cut in half", each("flat/*", halved, 4), new("flat"), "3 of 24 images of flat"),
    # labels
    (
        "a label file of other images",
        text("x.csv", "path,label\na.png,1\n"),
        f"{NEW} --labels x.csv",
        "'a.png'",
    ),
    (
        "a label file without labels",
        text("x.csv", "path\n1.png\n"),
        f"{NEW} --labels x.csv",
        "column of labels",
    ),
    ("no such label file", nothing, f"{NEW} --labels x.csv", "there is no file x.csv."),
    ("labels of a kind unknown", nothing, f"{NEW} --labels foldres", "did you mean 'folders'?"),
    ("no folders to name classes", nothing, f"{new('flat')} --labels folders", "flat has no folders"),
    ("no labels to learn from", nothing, "pretrain flat --out new --method supervised", "learns from labels"),
    ("no labels to measure with", nothing, "evaluate run --train-data flat", "have no labels"),
    (
        "labels of no image at all",
        nothing,
        "evaluate run --train-data photos --protocols fewlabels --fewlabels.counts 0",
        "at least 1",
    ),
    ("a part that is not there", nothing, f"{NEW} --split tran", "split"),
    # keys and values
    ("an abbreviated flag", nothing, f"{NEW} --batch 8", "did you mean '--batch-size'?"),
    ("a width of nothing", nothing, f"{NEW} --method.dim 0", "it must be a whole number of at least 1"),
    ("a temperature of zero", nothing, f"{NEW} --method.temperature 0", "it must be a number of at least"),
    ("momentum beyond one", nothing, f"{NEW} --method byol --method.momentum 0.9->1.1", "from 0 to 1"),
    ("a misspelt setting", nothing, f"{NEW} --method.temprature 1", "did you mean 'temperature'?"),
    ("a chance above one", nothing, f"{NEW} --views.flip 2", "a probability lies in [0, 1]."),
    ("a share above one", nothing, f"{SUPERVISED} --method.smoothing 2", "must be a number from 0 to 1."),
    ("fewer classes than there are", nothing, f"{SUPERVISED} --method.classes 1", "photos has 2."),
    ("a negative rate", nothing, f"{NEW} --optimizer.lr -1", "optimizer.lr is"),
    ("betas above 1", nothing, f"{NEW} --optimizer.betas 2,0.9", "optimizer.betas is (2.0, 0.9)"),
    ("sgd without momentum", nothing, f"{NEW} --optimizer.name sgd --optimizer.momentum 0", "momentum is 0"),
    ("a negative share", nothing, f"{NEW} --optimizer.lr_scale encoder=-1", "shares from 0 on"),
    ("too many frozen layers", nothing, f"{NEW} --optimizer.frozen_layers 99", "frozen_layers is 99"),
    ("kept close to nothing", nothing, f"{NEW} --keep-close 1", "give --weights"),
    ("a rate that is no number", nothing, f"{NEW} --optimizer.lr nan", "optimizer.lr is 'nan'"),
    ("a length that is no number", nothing, f"{NEW} --epochs nan", "epochs is 'nan'"),
    ("a length that is endless", nothing, f"{NEW} --epochs inf", "epochs is 'inf'"),
    ("more images a step than there are", nothing, f"{NEW} --batch-size 64", "only 24 images"),
    ("no time at all", nothing, f"{NEW.replace('--steps 1', '')} --budget 0h", "budget"),
    ("no device at all", nothing, f"{NEW} --devices 0", "devices is '0'"),
    (
        "a size that patches do not fill",
        nothing,
        "pretrain photos --out new --method mae --image-size 33",
        "33",
    ),
    ("a size of nothing", nothing, f"{NEW} --image-size 0", "image_size is '0'"),
    ("an argument of no encoder", nothing, f"{NEW} --encoder.depht 3", "takes no argument 'depht'"),
    ("a value of no encoder", nothing, f"{NEW} --encoder.block_args x", "cannot be built"),
    (
        "a network without tokens",
        nothing,
        "pretrain photos --out new --method mae --encoder resnet18",
        "tokens",
    ),
    ("YAML cut off", text("x.yaml", "method: {name: simclr"), f"{NEW} --config x.yaml", "x.yaml"),
    (
        "YAML in another coding",
        lambda: Path("x.yaml").write_bytes(b"\xff"),
        f"{NEW} --config x.yaml",
        "x.yaml",
    ),
    # a sheet of views
    (
        "a sheet of no images",
        nothing,
        "preview photos --images 0",
        "images is '0'; it must be a whole number",
    ),
    ("a sheet of too many images", nothing, "preview photos --images 101", "from 1 to 100"),
    ("a sheet of an epoch before the first", nothing, "preview photos --epoch -1", "epoch is '-1'"),
    ("a sheet of another format", nothing, "preview photos --out x.jpg", "unknown format '.jpg'"),
    ("a sheet without a format", nothing, "preview photos --out x", "unknown format 'x'"),
    ("a sheet that is there", text("x.png"), "preview photos --out x.png", "x.png exists already"),
    ("a sheet in a file", nothing, "preview photos --out features.npz/x.png", "features.npz"),
    ("a sheet for no method", nothing, "preview photos --method simcrl", "did you mean 'simclr'?"),
    ("a sheet of no data", nothing, "preview fotos", "did you mean 'photos'?"),
    ("a sheet of unlabelled images", nothing, "preview flat --method supervised", "learns from labels"),
    ("a sheet of views unknown", nothing, "preview photos --views.crop.scal 0.2,1", "'crop.scale'?"),
    ("a sheet of unlikely views", nothing, "preview photos --views.flip 2", "a probability lies in [0, 1]."),
    ("a sheet with a rate", nothing, "preview photos --optimizer.lr 1", "unknown flag '--optimizer.lr'"),
    ("a sheet of damage alone", each("flat/*", halved), "preview flat", "cannot be read"),
    # somebody's own method
    ("a method with an error", text("x.py", "def f(:\n"), f"{NEW} --method x.py", "SyntaxError"),
    (
        "a method that runs into an error",
        text("x.py", "1 / 0\n"),
        f"{NEW} --method x.py",
        "ZeroDivisionError",
    ),
    ("a file without a method", text("x.py", "x = 1\n"), f"{NEW} --method x.py", "it defines 0."),
    (
        "a file with two methods",
        text("x.py", METHOD + METHOD.replace("One", "Two")),
        "check x.py",
        "defines 2.",
    ),
    ("an error shown by inspect", text("x.py", "def f(:\n"), "inspect x.py", "x.py"),
    ("an error shown by methods", text("x.py", "def f(:\n"), "methods x.py", "x.py"),
    # weights and encoders
    ("weights of another network", others, f"{NEW} --weights other.safetensors", "does not fit"),
    ("a pickle with a function", others, f"{NEW} --weights code.pt", "could run code"),
    ("a pickle that makes files", others, f"{NEW} --weights code.bin", "code.bin"),
    ("weights cut in half", halved("run/encoder.safetensors"), f"{NEW} --weights run", "damaged"),
    ("an encoder cut in half", halved("run/encoder.safetensors"), EMBED, "damaged"),
    ("one byte of an encoder", flipped("run/encoder.safetensors"), EMBED, "damaged"),
    ("an encoder described in half", halved("run/encoder.json"), EMBED, "encoder.json"),
    ("an encoder of nothing", text("run/encoder.json", "{}"), EMBED, "encoder.json"),
    ("an encoder described by a list", text("run/encoder.json", "[]"), EMBED, "encoder."),
    ("an encoder without description", removed("run/encoder.json"), EMBED, "tapetum pre"),
    ("a run that has not finished", unfinished, "evaluate run --train-data photos", "has not finished"),
    ("features that are there", nothing, "embed run flat --out features.npz", "features.npz exists already"),
    ("features without a name", nothing, "embed run flat --out x", "unknown format 'x'"),
    (
        "an export that is there",
        nothing,
        "export run --out photos --format safetensors",
        "photos exists already",
    ),
    ("an encoder beyond timm", nothing, "export run --out x --format timm", "--format"),
    ("no such device", nothing, f"{EMBED} --device tpu", "there is no device 'tpu' here"),
    ("no protocol", nothing, "evaluate run --train-data photos --protocols ,", "protocols is empty"),
    ("a switch with a value", nothing, "evaluate run --baselines=no", "write --baselines or --no-baselines"),
    ("results cut in half", text("x.json", '{"results": ['), "inspect x.json", "x.json is not readable JSON"),
    ("results of something else", text("x.json", "{}"), "inspect x.json", "x.json"),
    # going on with a run
    (
        "a run that is there",
        nothing,
        NEW.replace("new", "run"),
        "run already holds a run; go on with --resume",
    ),
    ("no run to go on with", nothing, "pretrain --resume flat", "flat is not a run"),
    ("two runs to go on with", nothing, f"{RESUME} --out new", "leave out --out new."),
    ("no such test data", nothing, f"{NEW} --test-data fotos", "did you mean 'photos'?"),
    ("no run and no data", nothing, "pretrain --resume auto --out new", "pretrain needs DATA"),
    ("settings cut off", text("run/config.yaml", "method: {"), RESUME, "config.yaml"),
    ("settings that are a list", text("run/config.yaml", "- 1\n"), RESUME, "config.yaml"),
    ("settings that are gone", text("run/config.yaml", ""), RESUME, "config.yaml"),
    ("settings edited", edited("run/config.yaml", "hidden: 16", "hidden: 24"), RESUME, "of other settings"),
    ("another rate", nothing, "pretrain --resume run --optimizer.lr 0.5", "optimizer.lr is"),
    ("other images", each("photos/cat/*", flipped, 1), RESUME, "fingerprint"),
    ("images that went", lambda: shutil.rmtree("photos"), RESUME, "there is no photos"),
    ("every checkpoint in half", each("run/checkpoints/*/method*", halved), RESUME, "is whole"),
    ("no checkpoint's facts", each("run/checkpoints/*/state*", removed), RESUME, "is whole"),
]


@pytest.mark.parametrize("damage, typed, sentence", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_sentence_and_nothing_is_lost(work, capsys, damage, typed, sentence):
    damage()
    before = digests(work)
    code, err = ask(capsys, typed)
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert (code, len(lines)) == (2, 1), err
    assert lines[0].startswith("error: ") and sentence in lines[0] and len(lines[0]) < 600
    assert digests(work) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(work, model, capsys):
    unfinished()
    flipped("run/checkpoints/step_00000004/optimizer.safetensors")()
    code, err = ask(capsys, RESUME)
    assert code == 0 and err.startswith("warning: the checkpoint run/checkpoints/step_00000004 is damaged")
    assert digests(work / "run")["encoder.safetensors"] == digests(model / "run")["encoder.safetensors"]


def test_what_goes_wrong_in_several_processes_is_one_sentence(work, capfd):
    wild = "--optimizer.name sgd --optimizer.lr 1e3 --optimizer.warmup 0 --optimizer.weight_decay 1e6"
    code, err = ask(capfd, f"{NEW} --devices 2 {wild} --optimizer.clip 0")
    found = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1 and len(found) == 1 and found[0].startswith("error: the encoder gives")
    assert "Traceback" not in err


def test_training_that_fails_is_exit_code_1_and_keeps_its_checkpoints(work, capsys):
    typed = f"{LONG.replace('run', 'wild')} --optimizer.name sgd --optimizer.lr 1e3 --optimizer.warmup 0"
    typed += " --optimizer.weight_decay 1e6 --optimizer.clip 0 --skips 1 --rollbacks 0"
    code, err = ask(capsys, typed)
    err = "".join(line for line in err.splitlines(True) if not line.startswith("warning: "))
    assert (code, err.count("\n")) == (1, 1), err
    assert err.startswith("error: the loss is ")
    assert not (work / "wild" / "encoder.safetensors").exists()
    kept = checkpoint.found(work / "wild" / "checkpoints")
    assert kept
    for path in kept:
        assert all(t.isfinite().all() for t in load_file(path / "method.safetensors").values())


@pytest.mark.parametrize(
    "owner, name, call", [(config, "write", 1), (checkpoint, "save", 2), (Encoder, "save", 1)]
)
def test_a_full_disk_loses_nothing(work, model, capsys, monkeypatch, owner, name, call):
    """From one moment on no file may grow beyond 1000 bytes; the system itself refuses."""
    real, calls = getattr(owner, name), []
    shutil.rmtree("run")
    with contextlib.ExitStack() as full:

        def at_last(*args, **kwargs):
            calls.append(name)
            if len(calls) == call:
                full.enter_context(disk_of(1000))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, at_last)
        code, err = ask(capsys, LONG)
    found = [line for line in err.splitlines() if not line.startswith("warning: cannot write")]
    assert (code, len(found)) == (2, 1) and found[0].startswith("error: cannot write"), err
    assert not [file for file in work.rglob("*.part*")]
    monkeypatch.undo()
    monkeypatch.chdir(work)
    whole = {path.name for path in checkpoint.found(Path("run/checkpoints"))}
    assert len(whole) == {config: 0, checkpoint: 1, Encoder: 3}[owner]
    code, err = ask(capsys, f"{LONG} --resume auto")
    assert (code, err) == (0, "")
    found, wanted = digests(work / "run"), digests(model / "run")
    assert found["encoder.safetensors"] == wanted["encoder.safetensors"]
    steps = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(s)["step"] for s in (model / "run/metrics.jsonl").read_text().splitlines()]


def test_a_full_disk_leaves_features_as_they_were(work, capsys):
    before = digests(work)
    with disk_of(100):
        code, err = ask(capsys, "embed run photos --overwrite --out features.npz")
    assert (code, err.count("\n")) == (2, 1) and "features.npz: File too large" in err
    assert digests(work) == before


def test_a_full_disk_keeps_what_is_packed(work, capsys):
    with disk_of(9000):
        code, err = ask(capsys, "pack photos --out x --size 64")
    assert (code, err.count("\n")) == (2, 1) and err.startswith(
        "error: cannot write x.pack: File too large; "
    )
    assert (
        ask(capsys, "pack photos --out x --size 64")[0]
        == ask(capsys, "pack photos --out y --size 64")[0]
        == 0
    )
    assert Path("x.pack").read_bytes() == Path("y.pack").read_bytes()
