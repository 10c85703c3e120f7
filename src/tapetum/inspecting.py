"""What is this path: images, a run, an encoder, features, results, a method, or a file of weights?"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tapetum.base import console
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, read_lines

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".th", ".pkl", ".pickle")


def inspect(what: str) -> dict[str, Any]:
    """Print and return what a path is. Raises TapetumError when it is nothing that tapetum knows."""
    path = Path(what)
    if (path / "config.yaml").is_file():
        found = _run(path)
    elif (path / "state.json").is_file() and (path / "method.safetensors").is_file():
        found = _checkpoint(path)
    elif (path / "classifier.json").is_file():
        found = _classifier(path)
    elif (path / "encoder.json").is_file():
        found = {"kind": "encoder", **_facts(path / "encoder.json")}
    elif (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        found = {"kind": "encoder for timm", **_facts(path / "config.json")}
    elif path.is_file() and path.name.endswith((".pth.tar", ".pt.tar")):
        found = _pickle(path)
    elif path.is_file() and path.suffix in _FILES:
        found = _FILES[path.suffix](path)
    else:
        found = _data(what)
    console.table([(name, _short(value)) for name, value in found.items()], (what, ""))
    return found


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value[:12])) + ", ..." * (len(value) > 12)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(file: Path) -> dict[str, Any]:
    facts = read_json(file)
    if not isinstance(facts, dict):
        raise TapetumError(f"{file} holds no facts by name.")
    return facts


def _run(path: Path) -> dict[str, Any]:
    from tapetum.train import checkpoint, config, stranger

    settings = config.read(path / "config.yaml")
    names = ("data", "method", "encoder", "weights", "image_size", "epochs", "steps", "batch_size", "seed")
    found = {"kind": "run"} | {name: settings.get(name) for name in names}
    found["finished"] = (path / "encoder.json").exists()
    found["checkpoints"] = [p.name for p in checkpoint.found(path / "checkpoints")]
    if (path / "metrics.jsonl").exists() and (rows := read_lines(path / "metrics.jsonl")):
        found["last numbers"] = {name: value for row in rows[-3:] for name, value in row.items()}
    if (path / "health.jsonl").exists() and (looks := read_lines(path / "health.jsonl")):
        found |= _health(looks)
    if (path / "skipped.jsonl").exists():
        found["files left out"] = len(read_lines(path / "skipped.jsonl"))
    if (path / "mishaps.jsonl").exists() and (rows := read_lines(path / "mishaps.jsonl")):
        back = sum("back_to" in row for row in rows)
        found |= {"steps left out": len(rows) - back, "times it went back": back}
    if (path / "results.json").exists():
        found["results"] = _results(path / "results.json")["results"]
    try:
        stranger.no_way_out(path)
    except TapetumError as error:
        found["beware"] = str(error)
    return found


def _health(looks: list[dict]) -> dict[str, Any]:
    """The last verdict with what to try, and at which steps verdicts changed."""
    changed = [b for a, b in zip([{}, *looks], looks) if a.get("verdict") != b.get("verdict")]
    last = looks[-1]
    words = str(last.get("verdict")) + (f": {last['why']}" if last.get("why") else "")
    found: dict[str, Any] = {"health": f"{words} (step {_count(last.get('step'))})"}
    found |= {"what to try": last["try"]} if last.get("try") else {}
    steps = [f"{look.get('verdict')} from step {_count(look.get('step'))}" for look in changed]
    return found | {"health before": steps}


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _checkpoint(path: Path) -> dict[str, Any]:
    facts = _facts(path / "state.json")
    return {"kind": "checkpoint"} | {name: facts.get(name) for name in ("step", "method", "threads")}


def _classifier(path: Path) -> dict[str, Any]:
    from tapetum.adapt.classifier import facts_of

    facts = facts_of(path)
    report = facts["report"]
    found = {"kind": "classifier"} | {
        name: report.get(name) for name in ("head", "encoder", "source", "images")
    }
    found |= {name: report[name] for name in ("accuracy", "interval", "split") if name in report}
    found |= {name: facts[name] for name in ("temperature", "threshold", "precision")}
    left = report.get("left out", [])
    found["left out"] = len(left) if isinstance(left, list) else left
    return found | {"notes": report.get("notes", [])}


def _weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            tensors = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise TapetumError(f"{path} is damaged or no weights file: {error}.") from error
    beside = path.parent / "encoder.json"
    return {
        "kind": "features" if "features" in tensors else "weights",
        **_tensors(tensors),
        "metadata": metadata,
        "size": console.size(path.stat().st_size),
        "described by": str(beside) if beside.exists() else "nothing",
    }


def _tensors(tensors: Mapping[str, tuple[str, list[int]]]) -> dict[str, Any]:
    from tapetum.encoders.guess import architecture

    return {
        "tensors": [f"{name} {shape} {kind.lower()}" for name, (kind, shape) in tensors.items()],
        "count": len(tensors),
        "numbers": sum(math.prod(shape) for _, shape in tensors.values()),
        "looks like": architecture({name: shape for name, (_, shape) in tensors.items()}) or "nothing known",
    }


def _pickle(path: Path) -> dict[str, Any]:
    """A pickle is never unpickled here: its instructions are read."""
    from tapetum.encoders.pickled import look

    found = look(path)
    return {
        "kind": f"pickled weights ({found.form})" if found.tensors else f"pickle ({found.form})",
        "in words": found.words(),
        "would import": found.names,
        **_tensors(found.tensors),
        "size": console.size(path.stat().st_size),
    }


def _pack(path: Path) -> dict[str, Any]:
    from tapetum.data.packed import Pack
    from tapetum.data.records import check_records

    store = Pack(path)
    whole = check_records(store)
    found = _data(str(path)) | {"kind": "pack"}
    form = "decoded squares" if store.raw else "JPEG"
    return found | {"records": f"{whole:,} of {len(store.table):,} hold an image, {form}, all as written"}


def _arrays(path: Path) -> dict[str, Any]:
    from zipfile import BadZipFile

    from tapetum.base.npz import check_npz

    try:
        arrays = check_npz(path)
    except (OSError, ValueError, BadZipFile, NotImplementedError, RuntimeError) as error:
        raise TapetumError(f"{path} is not readable as arrays: {error}.") from error
    if "features" not in arrays:
        return _data(str(path))
    return {
        "kind": "features",
        "arrays": [f"{n} {list(shape)} {kind}" for n, (shape, kind) in arrays.items()],
    }


def _results(path: Path) -> dict[str, Any]:
    from tapetum.evaluate.result import read_results

    return {"kind": "results", "results": [f"{r.row}: {r.name} {r}" for r in read_results(path)]}


def _method(path: Path) -> dict[str, Any]:
    from tapetum.methods import described

    entry = described(path)
    return {"kind": "method", "idea": entry.line, "source": entry.source}


def _onnx(path: Path) -> dict[str, Any]:
    from tapetum.encoders.onnx_outline import outline

    return {"kind": "ONNX network", "size": console.size(path.stat().st_size), **outline(path)}


def _data(what: str) -> dict[str, Any]:
    from tapetum.data import open_data

    source = open_data(what)
    return {
        "kind": "images",
        "summary": source.summary(),
        "classes": source.classes or [],
        "splits": source.splits,
        "fingerprint": source.fingerprint(),
    }


_FILES = dict.fromkeys(PICKLED, _pickle)
_FILES |= {
    ".safetensors": _weights,
    ".pack": _pack,
    ".npz": _arrays,
    ".json": _results,
    ".py": _method,
    ".onnx": _onnx,
}
