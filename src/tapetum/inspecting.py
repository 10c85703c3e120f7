"""What is this path: images, a run, an encoder, features, results, a method, or a file of weights?"""

from pathlib import Path
from typing import Any

from tapetum.base import console
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, read_lines

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")


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
        found = {"kind": "encoder", **read_json(path / "encoder.json")}
    elif (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        found = {"kind": "encoder for timm", **read_json(path / "config.json")}
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


def _run(path: Path) -> dict[str, Any]:
    from tapetum.train import checkpoint, config

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
    return found


def _health(looks: list[dict]) -> dict[str, Any]:
    """The last verdict with what to try, and at which steps verdicts changed."""
    changed = [b for a, b in zip([{}, *looks], looks) if a.get("verdict") != b["verdict"]]
    last = looks[-1]
    words = last["verdict"] + (f": {last['why']}" if last["why"] else "")
    found: dict[str, Any] = {"health": f"{words} (step {last['step']:,})"}
    found |= {"what to try": last["try"]} if last["try"] else {}
    return found | {"health before": [f"{look['verdict']} from step {look['step']:,}" for look in changed]}


def _checkpoint(path: Path) -> dict[str, Any]:
    facts = read_json(path / "state.json")
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
    return found | {"left out": len(report.get("left out", ())), "notes": report.get("notes", [])}


def _weights(path: Path) -> dict[str, Any]:
    from tapetum.encoders.weights import read

    state = read(path)
    beside = path.parent / "encoder.json"
    return {
        "kind": "features" if "features" in state else "weights",
        "tensors": [f"{name} {list(t.shape)}" for name, t in state.items()],
        "count": len(state),
        "numbers": sum(t.numel() for t in state.values()),
        "size": console.size(path.stat().st_size),
        "described by": str(beside) if beside.exists() else "nothing",
    }


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "features" not in arrays:
                return _data(str(path))
            shapes = [f"{name} {list(arrays[name].shape)}" for name in arrays.files]
    except (OSError, ValueError) as error:
        raise TapetumError(f"{path} is not readable as arrays: {error}.") from error
    return {"kind": "features", "arrays": shapes}


def _results(path: Path) -> dict[str, Any]:
    from tapetum.evaluate.result import read_results

    return {"kind": "results", "results": [f"{r.row}: {r.name} {r}" for r in read_results(path)]}


def _method(path: Path) -> dict[str, Any]:
    from tapetum.methods import described

    entry = described(path)
    return {"kind": "method", "idea": entry.line, "source": entry.source}


def _onnx(path: Path) -> dict[str, Any]:
    return {"kind": "ONNX network", "size": console.size(path.stat().st_size)}


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


_FILES = dict.fromkeys(WEIGHTS, _weights)
_FILES |= {".npz": _arrays, ".json": _results, ".py": _method, ".onnx": _onnx}
