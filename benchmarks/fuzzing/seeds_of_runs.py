"""Small runs, encoders, checkpoints, results and requests, made here: what damage begins with."""

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from benchmarks.fuzzing import seeds
from tapetum.adapt.classifier import FORMAT as CLASSIFIER
from tapetum.base.files import short_id
from tapetum.encoders import Encoder, build
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import Result, add_results

TOKEN = "the-token"
CONFIG = b"""data: photos/train
fingerprint: 0123456789abcdef0123456789abcdef
method:
  name: simclr
  temperature: 0.1
encoder:
  name: resnet10_w32
  channels: [8, 16, 32, 64]
optimizer: {lr: 0.1, weight_decay: 0.04->0.4 linear}
views.crop.scale: [0.2, 1.0]
weights: none
image_size: 32
epochs: 10
steps: 1000
batch_size: 64
seed: 0
"""


def lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def metrics() -> bytes:
    numbers = {"loss": 2.5, "time": 3.0, "memory": 1e9, "knn": 0.25, "rank": 9}
    return lines(*({"step": 10 * i, "epoch": 0.1 * i, **numbers} for i in range(5)))


def health() -> bytes:
    row = {"spread": 0.5, "verdict": "learning", "why": "", "try": ""}
    return lines(
        *({"step": 50 * i, **row} for i in range(3)), {"step": 200, **row, "verdict": "collapsed", "why": "w"}
    )


@functools.cache
def encoder() -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build("resnet10_w32", 32, channels=(4, 4, 8, 8)).eval()


@functools.cache
def encoder_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        encoder().save(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


@functools.cache
def result_files() -> dict[str, bytes]:
    """results.json and its answers."""
    truth = np.arange(8) % 3
    answers = Answers("accuracy", (truth + (np.arange(8) > 5))[None] % 3, truth, np.arange(8))
    protocol = {"name": "knn", "version": 1, "metric": "accuracy", "split": "as given", "seeds": [0]}
    protocol |= {"train": {"data": "abc"}, "test": {"data": "abc"}, "head": {"k": 20}}
    found = [
        Result(
            *("knn accuracy", value, 0.1, (0.5, 0.9), "bootstrap over test images", 8, [0], protocol),
            *({"encoder": {"model": name}, "weights": name, "precision": "float32"}, row),
            cost={"parameters": 1250, "flops": 168, "dim": 8},
            about={"encoder": name, "set": "photos"},
            answers=answers,
        )
        for value, name, row in ((0.75, "mine", "encoder"), (0.25, "none", "random weights"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        add_results(Path(folder) / "results.json", found, list("abcdefgh"))
        return {
            f.relative_to(folder).as_posix(): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()
        }


def run_files() -> dict[str, bytes]:
    files = {"config.yaml": CONFIG, "metrics.jsonl": metrics(), "health.jsonl": health()}
    files |= {"skipped.jsonl": lines({"path": "a.png", "reason": "empty"})}
    return files | result_files()


def tensors() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.zeros(2, 3),
        "a.bias": torch.ones(2),
        "half": torch.ones(1, dtype=torch.bfloat16),
    }


def safetensors() -> list[bytes]:
    return [
        save(tensors(), {"format": "pt"}),
        save({"features": torch.zeros(3, 2)}, {"paths": '["a", "b"]'}),
        save({}),
    ]


def pickled(content: Any, **how: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **how)
    return out.getvalue()


def state_dicts() -> list[bytes]:
    return [
        pickled(tensors()),
        pickled({"model": tensors(), "epoch": 3}),
        pickled({"state_dict": tensors()}, _use_new_zipfile_serialization=False),
    ]


@functools.cache
def checkpoint_files() -> dict[str, bytes]:
    from tapetum.train import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        net = small()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        place = checkpoint.save(Path(folder), 1, net, optimizer, {"method": "simclr", "threads": 1}, 2)
        return {file.name: file.read_bytes() for file in place.iterdir()}


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()


@functools.cache
def classifier() -> bytes:
    facts: dict[str, Any] = {"format": CLASSIFIER, "classes": ["cat", "dog"], "temperature": 1.5, "k": 1}
    facts |= {
        "threshold": 0.5,
        "precision": "float32",
        "report": {"head": "linear", "images": 4, "accuracy": 0.5},
    }
    names = ("classifier.safetensors", "encoder.json", "encoder.safetensors")
    facts["files"] = dict.fromkeys(names, "0" * 64)
    return json.dumps(facts | {"digest": short_id(facts)}).encode()


SUITE = b"""about: small
protocols:
  - knn
  - protocol: logistic
    seeds: 2
data:
  - {name: photos, train: photos/train, test: photos/test, group: own, protocols: [knn]}
"""


def yamls() -> list[bytes]:
    root = Path(__file__).parent.parent.parent
    recipes = sorted((root / "recipes").glob("*/*.yaml"))[:4]
    suites = (root / "src/tapetum/evaluate/suites").glob("*.yaml")
    return [
        CONFIG,
        SUITE,
        b"- knn\n- {protocol: logistic}\n",
        *(file.read_bytes() for file in [*recipes, *suites]),
    ]


def requests() -> list[bytes]:
    def get(path: str, *more: str) -> bytes:
        return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1:PORT", *more, "", ""]).encode()

    return [
        get(f"/{TOKEN}/"),
        get(f"/{TOKEN}/runs.json?since=0"),
        get(f"/{TOKEN}/rows.json?RUN=1-2-1-0"),
        get(f"/{TOKEN}/run/RUN"),
        get(f"/{TOKEN}/../x", "Connection: close", "Cookie: a=b"),
        get("/", "Expect: 100-continue"),
        get("*", "Transfer-Encoding: chunked"),
        get(f"/{TOKEN}/") + get(f"/{TOKEN}/runs.json"),
        b"GET /x\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    ]


def landmarks() -> list[bytes]:
    entry = {"easy": [0], "hard": [1], "junk": [], "bbx": [1.5, 2, 8, 9]}
    return [json.dumps({"imlist": ["a.jpg", "b"], "qimlist": ["q"], "gnd": [entry]}).encode()]


def answers() -> list[bytes]:
    return [content for name, content in result_files().items() if name.endswith(".npz")]


def quiet(make: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return make()


SETTINGS = (
    *(
        "0.996->1",
        "0.04->0.07 until 0.1 linear",
        "0.5",
        "1e-3",
        "true",
        "none",
        "a,b,c",
        "(0.2, 1.0)",
        "[1, 2]",
    ),
    *(
        "crop.scale=0.2,1",
        "flip=0",
        "with=erase,noise",
        "jitter.p=0.8",
        "large.crop.size=32",
        "20GB",
        "500 mb",
        "-1",
    ),
    *(
        "--method\0simclr\0--epochs\0002",
        "photos\0--out\0run\0--method.dim=128",
        "--optimizer.lr\00.1->0",
        "--config\0x",
    ),
)


def settings() -> list[bytes]:
    return [text.encode() for text in SETTINGS]


@functools.cache
def inspected() -> dict[str, list[bytes]]:
    """By the name of the file: what `inspect` tells of."""
    method = (
        b'"""An idea. arXiv:1234.56789"""\n\nclass A(Method):\n    def product(self): return self.encoder\n'
    )
    return {
        "x.safetensors": safetensors()[:2],
        "x.pt": state_dicts()[:1],
        "x.npz": seeds.npzs()[3:],
        "x.json": [result_files()["results.json"]],
        "x.py": [method],
        "x.onnx": [b"\x08\x07\x12\x07pytorch"],
        "x.png": seeds.pngs()[:1],
        "x.pack": quiet(seeds.packs)[:1],
        "x.zip": seeds.zips()[:1],
        "encoder.json": [encoder_files()["encoder.json"]],
        "classifier.json": [classifier()],
        "state.json": [checkpoint_files()["state.json"]],
        "config.json": [b'{"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 32, 32]}}'],
        "x": [b"", b"text"],
    }
