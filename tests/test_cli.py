"""The command line: what it takes, what it refuses in one sentence, and what it prints for programs."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import tapetum
from tapetum import cli, verbs
from tapetum.base.errors import TrainingFailed
from tapetum.train import check as conformance

SMALL = [
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--precision",
    "fp32",
    "--workers",
    "0",
    "--encoder.channels",
    "4,8,8,16",
]
TINY = ["--method.hidden", "16", "--method.dim", "8"]


def ask(capsys, *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of one command."""
    code = cli.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="session")
def work(tmp_path_factory, write_photos) -> Path:
    """Images of two classes, images without classes, files that are wrong, and a finished run."""
    folder = tmp_path_factory.mktemp("work")
    write_photos(folder)
    (folder / "empty").mkdir()
    (folder / "filled").mkdir()
    (folder / "filled" / "thing.txt").write_text("something")
    (folder / "twice.yaml").write_text("epochs: 2\nseed: 1\nepochs: 3\n")
    (folder / "broken.yaml").write_text("epochs: [1\n")
    (folder / "list.yaml").write_text("- epochs\n")
    (folder / "unknown.yaml").write_text("seed: 1\nepoch: 3\n")
    (folder / "group.yaml").write_text("optimiser:\n  lr: 0.1\n")
    (folder / "nested.yaml").write_text("method:\n  name: byol\n  temprature: 0.1\n")
    (folder / "code.yaml").write_text("method: ./mine.py\n")
    (folder / "class.yaml").write_text("method:\n  class_path: os.system\n  init_args: [ls]\n")
    (folder / "tag.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    (folder / "value.yaml").write_text("precision: 16\n")
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    (folder / "none.py").write_text("x = 1\n")
    (folder / "labels.csv").write_text("file,kind\n")
    (folder / "weights.safetensors").write_bytes(b"no weights")
    (folder / "broken.json").write_text("{")
    where = ["pretrain", folder / "photos", "--out", folder / "run"]
    assert cli.main([*map(str, where), *SMALL, *TINY]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(request, monkeypatch, tmp_path):
    """Relative names mean those of `work` where a test asks for it; its run is never written to."""
    if "work" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("work"))


# ---- what is refused: one sentence, exit code 2, nothing left behind ----

PRETRAIN = "pretrain photos --out new"
REFUSED = [
    # what was typed, and what the sentence must hold
    ("pretran photos", "unknown verb 'pretran'; did you mean 'pretrain'?"),
    (f"{PRETRAIN} --epoch 3", "unknown flag '--epoch'; did you mean '--epochs'?"),
    (f"{PRETRAIN} --epoch=3", "unknown flag '--epoch'; did you mean '--epochs'?"),
    ("pretrain --epoch 3 photos --out new", "unknown flag '--epoch'; did you mean '--epochs'?"),
    (f"{PRETRAIN} -epochs 3", "unknown flag '-epochs'; did you mean '--epochs'?"),
    (f"{PRETRAIN} --optimizer sgd", "unknown flag '--optimizer'; did you mean '--optimizer.*'?"),
    (f"{PRETRAIN} --optimiser.lr 1", "unknown flag '--optimiser.lr'; did you mean '--optimizer.lr'?"),
    ("evaluate run --train-data photos --method.dim 3", "unknown flag '--method.dim'"),
    (f"{PRETRAIN} flat", "does not know what to do with 'flat'"),
    (f"{PRETRAIN} --epochs", "--epochs needs a value; one that begins with - is written --epochs=-VALUE"),
    (f"{PRETRAIN} --method.dim", "--method.dim needs a value"),
    (f"{PRETRAIN} --method.dim --plan", "--method.dim needs a value"),
    (f"{PRETRAIN} --epochs ten", "epochs is 'ten'; it must be a whole number of at least 1."),
    (f"{PRETRAIN} --epochs 0", "epochs is '0'; it must be a whole number of at least 1."),
    (f"{PRETRAIN} --steps 1.5", "steps is '1.5'; it must be a whole number"),
    (f"{PRETRAIN} --batch-size -8", "batch_size is '-8'; it must be a whole number"),
    (f"{PRETRAIN} --seed -1", "seed is '-1'; it must be a whole number of at least 0."),
    (f"{PRETRAIN} --precision bf61", "precision is 'bf61'; did you mean bf16?"),
    (f"{PRETRAIN} --micro-batch atuo", "micro_batch is 'atuo'; did you mean auto?"),
    (f"{PRETRAIN} --devices gpu", "devices is 'gpu'; "),
    (f"{PRETRAIN} --keep-checkpoints 0", "keep_checkpoints is '0'; "),
    (f"{PRETRAIN} --budget soon", "budget is 'soon'; write a time such as 8h"),
    (f"{PRETRAIN} --budget 8h --epochs 3", "--budget chooses the epochs itself"),
    (f"{PRETRAIN} --batch-size 100", "batch_size is 100, but there are only 24 images."),
    (f"{PRETRAIN} --micro-batch 0", "micro_batch is '0'; "),
    (f"{PRETRAIN} --logger tensorbord", "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
    (f"{PRETRAIN} --split tran", "split"),
    (f"{PRETRAIN} --labels nowhere.csv", "nowhere.csv"),
    (f"{PRETRAIN} --labels labels.csv", "labels.csv"),
    # groups
    (f"{PRETRAIN} --method simcrl", "unknown method 'simcrl'; did you mean 'simclr'?"),
    (
        f"{PRETRAIN} --method.temprature 1",
        "unknown setting of SimCLR 'temprature'; did you mean 'temperature'?",
    ),
    (f"{PRETRAIN} --method.temperature hot", "method.temperature is 'hot'; it must be a number of at least"),
    (f"{PRETRAIN} --method byol --method.momentum 0.9=>1", "method.momentum: '0.9=>1' is not a schedule"),
    (f"{PRETRAIN} --optimizer.name sdg", "optimizer.name is 'sdg'; did you mean sgd?"),
    (f"{PRETRAIN} --optimizer.momentum 2", "optimizer.momentum is 2.0; it lies in [0, 1]."),
    (
        f"{PRETRAIN} --optimizer.betas 0.9",
        "optimizer.betas is '0.9'; it must be 2 values separated by a comma",
    ),
    (f"{PRETRAIN} --views.crop.scal 0.2,1", "unknown view setting 'crop.scal'; did you mean 'crop.scale'?"),
    (f"{PRETRAIN} --views.crop.scale 1,0.2", "scale is (1.0, 0.2); the lower end comes first."),
    (f"{PRETRAIN} --views.flip often", "views.flip is 'often'; it must be a number."),
    (f"{PRETRAIN} --views.flip 2", "a probability lies in [0, 1]."),
    (f"{PRETRAIN} --encoder resnet81", "unknown encoder 'resnet81'; did you mean 'resnet18'?"),
    (f"{PRETRAIN} --encoder.widht 3", "takes no argument 'widht'"),
    (f"{PRETRAIN} --method mae --encoder resnet18", "MAE needs tokens"),
    ("pretrain flat --out new --method supervised", "Supervised learns from labels"),
    (f"{PRETRAIN} --method ./nowhere.py", "there is no file nowhere.py."),
    (f"{PRETRAIN} --method ./broken.py", "broken.py does not import: ModuleNotFoundError"),
    (f"{PRETRAIN} --method ./none.py", "must define exactly one subclass of Method; it defines 0."),
    # places
    ("pretrain", "pretrain needs DATA"),
    ("pretrain photos", "pretrain needs --out RUN"),
    ("pretrain fotos --out new", "there is no fotos; did you mean 'photos'?"),
    ("pretrain empty --out new", "holds no images"),
    ("pretrain photos --out run", "run already holds a run"),
    ("pretrain photos --out filled", "filled exists and is not an empty folder"),
    ("pretrain photos --out labels.csv", "labels.csv exists and is not an empty folder"),
    ("pretrain photos --out labels.csv/run", "labels.csv"),
    (f"{PRETRAIN} --weights nowhere", "nowhere"),
    (f"{PRETRAIN} --weights weights.safetensors", "weights.safetensors"),
    # going on with a run
    ("pretrain --resume nowhere", "nowhere is not a run"),
    ("pretrain --resume run --seed 3", "seed is 0 in the run and 3 now"),
    ("pretrain --resume run --method byol", "method is 'simclr' in the run and 'byol' now"),
    ("pretrain --resume run --method.dim 9", "method.dim is 8 in the run and 9 now"),
    ("pretrain --resume run --views.flip 0", "views.flip is None in the run and 0 now"),
    ("pretrain flat --resume run", "are not those that the run run began with"),
    # configuration files
    (f"{PRETRAIN} --config nowhere.yaml", "there is no settings file nowhere.yaml."),
    (f"{PRETRAIN} --config photos", "photos is no regular file."),
    (f"{PRETRAIN} --config broken.yaml", "broken.yaml is not readable YAML"),
    (f"{PRETRAIN} --config list.yaml", "list.yaml must hold settings as `name: value`."),
    (f"{PRETRAIN} --config twice.yaml", "the key 'epochs' stands twice, in line 3."),
    (
        f"{PRETRAIN} --config unknown.yaml",
        "unknown setting in unknown.yaml, line 2: 'epoch'; did you mean 'epochs'?",
    ),
    (f"{PRETRAIN} --config group.yaml", "'optimiser'; did you mean 'optimizer'?"),
    (f"{PRETRAIN} --config nested.yaml", "unknown setting of BYOL 'temprature'"),
    (f"{PRETRAIN} --config class.yaml", "unknown setting of SimCLR 'class_path'"),
    (f"{PRETRAIN} --config tag.yaml", "tag.yaml is not readable YAML"),
    (f"{PRETRAIN} --config value.yaml", "precision is 16; "),
    (f"{PRETRAIN} --config code.yaml", "code is only ever typed, as --method."),
    # the other verbs
    ("evaluate", "evaluate needs encoder: a run, a file,"),
    ("evaluate run", "evaluate needs train-data: labelled images"),
    ("evaluate nowhere --train-data photos", "nowhere"),
    ("evaluate timm:resnet81 --train-data photos", "unknown encoder 'resnet81'; did you mean 'resnet18'?"),
    (
        "evaluate run --train-data photos --protocols knn,liner",
        "unknown protocol or suite 'liner'; did you mean 'linear'?",
    ),
    ("evaluate run --train-data photos --metric acuracy", "'acuracy'; did you mean 'accuracy'?"),
    ("evaluate run --train-data flat", "have no labels"),
    (
        "evaluate run --train-data photos --protocols fewlabels --fewlabels.counts 0",
        "fewlabels.counts is '0'; ",
    ),
    ("embed run photos", "embed needs out: a .npz, .parquet"),
    ("embed run photos --out features.txt", "unknown format '.txt'"),
    ("embed run photos --out labels.csv/features.npz", "labels.csv"),
    ("export run --out new --format onx", "format is 'onx'; did you mean onnx?"),
    ("inspect", "inspect needs what: any path"),
    ("inspect nowhere", "there is no nowhere"),
    ("inspect weights.safetensors", "weights.safetensors"),
    ("inspect broken.json", "broken.json"),
    ("methods simcrl", "unknown method 'simcrl'; did you mean 'simclr'?"),
    ("new none.py", "none.py exists already"),
    ("new mine.txt", "must be a Python file"),
    ("new my-method.py", "must be a Python file"),
    ("check nowhere.py", "there is no file nowhere.py."),
]


@pytest.mark.parametrize("typed, sentence", REFUSED, ids=[typed for typed, _ in REFUSED])
def test_bad_input_is_one_sentence(work, capsys, typed, sentence):
    before = sorted(work.rglob("*"))
    code, _, err = ask(capsys, *typed.split())
    assert sentence in err
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith((".", "?"))
    assert sorted(work.rglob("*")) == before


def test_bad_input_from_python_is_the_same_sentence(work):
    with pytest.raises(tapetum.base.errors.TapetumError, match="epochs is 'ten'; it must be a whole number"):
        tapetum.pretrain("photos", out="new", epochs="ten")
    with pytest.raises(
        tapetum.base.errors.TapetumError, match="unknown setting of pretrain 'epoch'; did you mean"
    ):
        tapetum.pretrain("photos", out="new", epoch=3)
    with pytest.raises(TypeError, match="pretrain takes at most 1 positional"):
        tapetum.pretrain("photos", "new")


# ---- what is answered ----


def test_a_run_can_be_told_again_from_its_own_settings(work, tmp_path, capsys):
    code, out, err = ask(
        capsys, "pretrain", "--config", "run/config.yaml", "--out", tmp_path / "again", "--json"
    )
    assert (code, out.count("\n")) == (0, 1) and "done in" in err
    assert (tmp_path / "again" / "encoder.safetensors").read_bytes() == (
        work / "run/encoder.safetensors"
    ).read_bytes()
    code, _, _ = ask(
        capsys, "pretrain", "--config", "run/config.yaml", "--epochs", 1, "--out", tmp_path / "shorter"
    )
    settings = yaml.safe_load((tmp_path / "shorter" / "config.yaml").read_text())
    assert (code, settings["epochs"], settings["steps"]) == (0, 1, 3)  # the file's steps gave way to the flag


@pytest.mark.parametrize(
    "typed",
    [
        "supervised --encoder.channels 4,8,8,16",
        "mae --encoder.depth 1 --encoder.embed-dim 48 --method.depth 1",
        "dino --encoder.channels 4,8,8,16 --method.hidden 8 --method.dim 8 --method.prototypes 16",
    ],
)
def test_every_kind_of_method_is_told_again_and_goes_on(work, tmp_path, monkeypatch, capsys, typed):
    monkeypatch.chdir(tmp_path)
    start = f"pretrain {work}/photos --steps 1 --batch-size 8 --precision fp32 --workers 0 --out run --method"
    assert ask(capsys, *f"{start} {typed}".split())[0] == 0
    assert ask(capsys, "pretrain", "--config", "run/config.yaml", "--out", "again")[0] == 0
    assert Path("run/config.yaml").read_text() == Path("again/config.yaml").read_text()
    assert ask(capsys, "pretrain", "--resume", "run", "--config", "again/config.yaml")[0] == 0


def test_settings_are_written_as_they_were_understood(work, tmp_path, capsys):
    groups = ["--views.crop.scale", "0.3,1", "--views.flip=0", "--optimizer.weight_decay", "0.04->0.1"]
    code, *_ = ask(
        capsys,
        "pretrain",
        *groups,
        "photos",
        "--out",
        tmp_path / "run",
        *SMALL,
        "--method.hidden=16",
        "--method.dim",
        8,
    )
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert code == 0
    assert settings["method"] == {"name": "simclr", "hidden": 16, "dim": 8, "temperature": 0.1}
    assert settings["encoder"] == {"name": "resnet10_w32", "channels": [4, 8, 8, 16]}
    assert settings["views"] == {"crop.scale": [0.3, 1], "flip": 0}
    assert settings["optimizer"]["weight_decay"] == "0.04->0.1"
    again = [
        "pretrain",
        "--out",
        tmp_path / "run",
        "--resume",
        "auto",
        "--views.crop.scale",
        "0.30,1.0",
        "--views.flip=0.0",
    ]
    assert (
        ask(capsys, *again, "--optimizer.weight_decay", "0.040 -> 0.1")[0] == 0
    )  # the same, typed otherwise
    assert ask(capsys, *again, "--optimizer.weight_decay", "0.04->0.2")[0] == 2


def test_a_method_of_ones_own_runs_only_when_typed(work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "new", "my_own.py")[0] == 0
    start = ["pretrain", work / "photos", "--out", "run", *SMALL, *TINY]
    assert ask(capsys, *start, "--method", "my_own.py")[0] == 0
    assert Path("run/method.py").read_bytes() == Path("my_own.py").read_bytes()
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert saved["method_sha256"] == hashlib.sha256(Path("my_own.py").read_bytes()).hexdigest()
    code, _, err = ask(capsys, "pretrain", "--resume", "run")
    assert code == 2 and "add --method run/method.py" in err
    assert ask(capsys, "pretrain", "--resume", "run", "--method", "run/method.py")[0] == 0
    Path("my_own.py").write_text(Path("my_own.py").read_text() + "\n# changed\n")
    code, _, err = ask(capsys, *start, "--resume", "auto", "--method", "my_own.py")
    assert code == 2 and "is not the method that run began with" in err
    Path("run/method.py").write_text(Path("my_own.py").read_text())
    code, _, err = ask(capsys, "pretrain", "--resume", "run", "--method", "run/method.py")
    assert code == 2 and "run/method.py is not what it was when run began" in err
    code, out, _ = ask(capsys, "methods", "my_own.py")
    assert code == 0 and "hidden" in out and "exported: encoder" in out


def test_the_skeleton_of_a_method_passes_every_check_and_a_mistake_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conformance.alike, "wrong", lambda names, way="whole": {})  # tests/conformance has it
    assert ask(capsys, "new", "mine.py")[0] == 0
    code, out, _ = ask(capsys, "check", "mine.py")
    assert code == 0 and out.count("ok  ") == len(conformance.CHECKS) + 2
    mistake = Path("mine.py").read_text().replace('"loss": loss', '"loss": loss.detach()')
    Path("mine.py").write_text(mistake)
    monkeypatch.setattr(conformance, "CHECKS", conformance.CHECKS[:1])
    code, out, err = ask(capsys, "check", "mine.py")
    assert code == 2 and "BROKEN" in out and err.startswith("error: mine.py fails 1 of 3 checks; the first: ")


@pytest.mark.parametrize(
    "typed, keys",
    [
        ("methods", None),
        ("methods SimCLR", {"name", "source", "settings", "views", "view settings", "exported"}),
        ("inspect run", {"kind", "method", "finished", "last numbers"}),
        ("inspect photos", {"kind", "summary", "classes", "fingerprint"}),
        ("inspect run/encoder.safetensors", {"kind", "tensors", "numbers"}),
        (
            "pretrain photos --plan",
            {"settings", "seconds", "memory_bytes", "disk_bytes", "images_per_second"},
        ),
        ("evaluate run --train-data flat", {"error"}),
        ("inspect nowhere", {"error"}),
        ("nothing", {"error"}),
    ],
)
def test_json_is_one_object_alone_on_stdout(work, capfd, typed, keys):
    code, out, _ = ask(capfd, *typed.split(), "--json")
    answer = json.loads(out)
    assert out.count("\n") == 1 and (code == 0) == ("error" not in answer)
    assert keys is None or keys <= set(answer)


def test_features_and_numbers_of_a_run(work, tmp_path, capsys):
    code, out, _ = ask(capsys, "embed", "run", "photos", "--out", tmp_path / "x.npz", "--json")
    assert (code, json.loads(out)) == (0, {"out": str(tmp_path / "x.npz"), "images": 24, "dim": 16})
    where = tmp_path / "results.json"
    code, out, _ = ask(
        capsys, "evaluate", "run", "--train-data", "photos", "--protocols", "knn", "--out", where, "--json"
    )
    assert code == 0 and {row["row"] for row in json.loads(out)} == {"encoder", "random weights", "pixels"}
    assert (
        "kind" in ask(capsys, "inspect", where)[1]
        and "features [24, 16]" in ask(capsys, "inspect", tmp_path / "x.npz")[1]
    )


@pytest.mark.parametrize(
    "error, code, sentence",
    [
        (TrainingFailed("the loss is nan."), 1, "error: the loss is nan."),
        (KeyboardInterrupt(), 130, "error: interrupted."),
        (MemoryError(), 2, "error: there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "error: there is not enough memory"),
        (OSError(28, "No space left on device", "run/x"), 2, "error: run/x: No space left on device."),
        (RuntimeError("a bug"), 1, "error: RuntimeError: a bug"),
    ],
)
def test_what_goes_wrong_within_has_an_exit_code(monkeypatch, capsys, error, code, sentence):
    def fails(**_):
        raise error

    monkeypatch.setitem(verbs.VERBS, "methods", fails)
    monkeypatch.setattr(cli, "read", lambda _: ("methods", {}))
    found, out, err = ask(capsys, "methods")
    assert (found, out) == (code, "") and err.splitlines()[-1].startswith(sentence)
    assert ("Traceback" in err) == ("a bug" in sentence)
    found, out, _ = ask(capsys, "methods", "--json")
    assert found == code and sentence.endswith(json.loads(out)["error"][: len(sentence) - 7])


def test_help_says_what_there_is(capsys):
    code, out, _ = ask(capsys, "--help")
    assert code == 0 and "examples:" in out
    assert all(f"\n  {name.replace('_', '-')} " in out for name in verbs.VERBS)
    assert ask(capsys)[1] == ask(capsys, "help", "pretrain")[1] == out
    for name, verb in verbs.VERBS.items():
        code, out, _ = ask(capsys, name.replace("_", "-"), "--help")
        assert code == 0 and "--json" in out
        _, meanings, _ = cli.settings.documented(verb)
        assert set(meanings) == set(cli.parameters(verb)), f"{name}'s docstring and signature differ"
        assert all(text.split()[0] in out for text in meanings.values())


def test_flags_have_one_form_and_take_another(work, capsys):
    for typed in (["--batch-size", "x"], ["--batch_size", "x"], ["--batch_size=x"]):
        code, _, err = ask(capsys, "pretrain", "photos", "--out", "new", *typed)
        assert code == 2 and err.startswith("error: batch_size is 'x'; it must be a whole number")
    _, out, _ = ask(capsys, "pretrain", "--help")
    assert "--batch-size N" in out and "batch_size" not in out
    assert "`tapetum methods NAME`" in " ".join(out.split()) and "--method.temperature 0.2" in out
    _, out, _ = ask(capsys, "methods", "Sim-CLR")  # however it is spelt
    assert all(f"\n--{group}." in out for group in ("views", "optimizer")) and "--method." in out
    for name in ("deepclusterv2", "sela"):  # which want more images than the small world has
        assert ask(capsys, "methods", name)[0] == 0


def test_help_and_version_import_no_torch():
    program = (
        "import sys; from tapetum import cli\n"
        "for typed in (['--version'], ['--help'], ['methods']): cli.main(typed)\n"
        "for verb in cli.VERBS: cli.main([verb, '--help'])\n"
        "heavy = {'torch', 'numpy', 'timm', 'yaml', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"tapetum {tapetum.__version__}\n")


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m tapetum methods | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode in (0, 141)


def test_the_verbs_are_functions_of_the_package():
    assert tapetum.__all__ == sorted([*verbs.VERBS, "load", "TapetumError"])
    names = [row["name"] for row in tapetum.methods()]
    assert "simclr" in names and names == tapetum.methods.names()  # the folder of that name is there, too
    from tapetum.evaluate import run

    assert tapetum.evaluate.run is run and callable(tapetum.evaluate)
    with pytest.raises(tapetum.base.errors.TapetumError, match="evaluate needs encoder"):
        tapetum.evaluate()
    with pytest.raises(AttributeError, match="no attribute 'pretran'"):
        _ = tapetum.pretran


def test_every_number_becomes_json():
    value = {"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": (True, None), "e": Path("x")}
    assert cli.plain(value) == {"a": 0.5, "b": 3, "c": None, "d": [True, None], "e": "x"}
