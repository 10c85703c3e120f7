"""What is this path: images, a run, an encoder, or a file of weights?"""

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
    elif (path / "encoder.json").is_file():
        found = {"kind": "encoder", **read_json(path / "encoder.json")}
    elif path.is_file() and path.suffix in WEIGHTS:
        found = _weights(path)
    else:
        found = _data(what)
    console.table([(k, _short(v)) for k, v in found.items()], (what, ""))
    return found


def _short(value: Any) -> str:
    return ", ".join(map(str, value[:12])) + ", ..." * (len(value) > 12) if isinstance(value, list) else str(value)


def _run(path: Path) -> dict[str, Any]:
    from tapetum.train import checkpoint, config

    settings = config.read(path / "config.yaml")
    names = ("data", "method", "encoder", "weights", "image_size", "epochs", "steps", "batch_size", "seed")
    found = {"kind": "run"} | {name: settings.get(name) for name in names}
    found["finished"] = (path / "encoder.json").exists()
    if steps := checkpoint.found(path / "checkpoints"):
        found["checkpoints"] = [p.name for p in steps]
    if (path / "metrics.jsonl").exists() and (rows := read_lines(path / "metrics.jsonl")):
        found["last numbers"] = {k: v for row in rows[-3:] for k, v in row.items()}
    if (path / "results.json").exists():
        found["results"] = str(path / "results.json")
    return found


def _weights(path: Path) -> dict[str, Any]:
    from tapetum.encoders.weights import read

    state = read(path)
    count = sum(t.numel() for t in state.values())
    return {
        "kind": "weights",
        "tensors": len(state),
        "numbers": f"{count:,}",
        "size": console.size(path.stat().st_size),
        "names": [f"{name} {list(t.shape)}" for name, t in state.items()],
        "described by": str(path.parent / "encoder.json") if (path.parent / "encoder.json").exists() else "nothing",
    }


def _data(what: str) -> dict[str, Any]:
    from tapetum.data import open_data

    source = open_data(what)
    if not len(source):
        raise TapetumError(f"there are no images in {what}.")
    return {
        "kind": "images",
        "summary": source.summary(),
        "classes": source.classes or [],
        "splits": source.splits,
        "fingerprint": source.fingerprint(),
    }
