"""Weights to and from files: our own, timm's, and other projects', never unpickling anything but tensors."""

import argparse
import hashlib
import importlib.util
import pickle
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tapetum.base.console import say
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json
from tapetum.encoders import pickled
from tapetum.encoders.layouts import State, translated
from tapetum.encoders.spec import INTERPOLATIONS, Spec

if TYPE_CHECKING:
    from tapetum.encoders.encoder import Encoder

WRAPPERS = ("teacher", "student", "state_dict", "model", "encoder", "backbone")
COUNTER = "num_batches_tracked"  # of BatchNorm; old files have none, and features do not depend on it
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_DEEPEST = 8  # dicts within dicts around the weights
_SAFE_TORCH = (2, 10)  # whose loader of weights has no known hole


def own_tensors(net: nn.Module) -> State:
    """A network's state as a file takes it: shared tensors once, under their first name; contiguous."""
    shared = aliases(net)
    return {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items() if name not in shared}


def aliases(net: nn.Module) -> dict[str, str]:
    """{later name: first name} of tensors that stand under several names."""
    first: dict[int, str] = {}
    names = net.state_dict(keep_vars=True)
    return {n: first[id(t)] for n, t in names.items() if first.setdefault(id(t), n) != n}


def digest(state: State) -> str:
    """SHA-256 of tensors: equal for equal ones, whatever their memory layout or device."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def find(what: str | Path) -> tuple[Path, dict[str, Any] | None]:
    """The file of weights that `what` names, and the facts beside it: None where it is not one of ours.

    Args:
        what: a run, a folder written by `export`, a file, or `package:NAME`, an installed package
            with one file of weights in it (which is not imported).

    Raises TapetumError where there is none.
    """
    if str(what).startswith("package:"):
        return _in_package(str(what).removeprefix("package:")), None
    path = Path(what)
    if not path.exists():
        raise TapetumError(f"there is no encoder {what}: give a run, a file, or timm:NAME.")
    folder = path if path.is_dir() else path.parent
    if (folder / "encoder.json").exists() and path.name in (folder.name, "encoder.safetensors", ""):
        facts = read_json(folder / "encoder.json")
        spec = Spec.from_dict(facts, str(folder / "encoder.json"))
        return folder / "encoder.safetensors", facts | spec.as_dict()
    if path.is_file():
        return path, None
    if (folder / "config.json").exists():
        return folder / "model.safetensors", _from_timm(folder / "config.json")
    if (folder / "config.yaml").exists():
        raise TapetumError(
            f"the run {folder} has not finished; go on with: tapetum pretrain --resume "
            f"{shlex.quote(str(folder))}"
        )
    raise TapetumError(f"{what} is not an encoder: there is no encoder.json in it.")


def _in_package(name: str) -> Path:
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    if not folders:
        raise TapetumError(f"there is no installed package {name!r}.")
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise TapetumError(f"the package {name} holds {len(files)} files of weights, not one.")
    return files[0]


def _from_timm(file: Path) -> dict[str, Any]:
    """The facts of an encoder in timm's folder."""
    facts = read_json(file)
    try:
        cfg, model = facts["pretrained_cfg"], facts["architecture"]
        looks = {name: cfg[name] for name in ("mean", "std", "crop_pct") if name in cfg}
        if cfg.get("interpolation") in INTERPOLATIONS:
            looks["interpolation"] = cfg["interpolation"]
        return looks | {
            "name": model,
            "model": model,
            "args": {name: v for name, v in facts.get("model_args", {}).items() if name != "num_classes"},
            "image_size": cfg["input_size"][-1],
            "fit": {"border": "pad", "squash": "squash"}.get(cfg.get("crop_mode"), "crop"),
        }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise TapetumError(f"{file} does not describe a timm model: {error}.") from error


def read(file: str | Path) -> State:
    """The tensors of a .safetensors file, or of a pickled state dict through torch's safe loader.

    What a pickle would import is looked at first, without unpickling it; numbers, text and settings beside
    the tensors are left out. Raises TapetumError for a missing or damaged file, one that names more than
    tensors are made with, and tensors that are none of the usual kind.
    """
    file = Path(file)
    if not file.is_file():
        raise TapetumError(f"there is no weights file {file}.")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise TapetumError(f"{file} is damaged or no weights file: {_first_line(error)}.") from error
    except (pickle.UnpicklingError, AttributeError) as error:
        raise TapetumError(
            f"{file} is damaged, or holds more than tensors, which could run code; "
            "save its state dict as safetensors."
        ) from error
    for _ in range(_DEEPEST):
        if not isinstance(content, dict) or all(isinstance(value, Tensor) for value in content.values()):
            break
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), dict)), None)
        content = inner or {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not isinstance(content, dict) or not content:
        raise TapetumError(f"{file} holds no state dict.")
    if odd := [name for name, value in content.items() if not isinstance(name, str) or not _usual(value)]:
        raise TapetumError(f"{file} is no file of weights: {odd[0]!r} is no tensor of the usual kind.")
    return content


def _unpickled(file: Path) -> Any:
    """The one place where torch reads a pickle, and only one that names nothing but tensors."""
    if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < _SAFE_TORCH:
        raise TapetumError(
            f"{file} is a pickle, which torch reads safely from version 2.10 on; update torch."
        )
    found = pickled.look(file)
    if found.strange or found.form == "TorchScript":
        raise TapetumError(
            f"{file} holds more than tensors, which could run code: {found.words()}; "
            "save its state dict as safetensors."
        )
    with torch.serialization.safe_globals([argparse.Namespace]):  # settings beside many published weights
        return torch.load(file, map_location="cpu", weights_only=True)


def _usual(value: Any) -> bool:
    """Whether it is a plain tensor whose numbers are all there: a view can claim any shape."""
    if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.untyped_storage().nbytes() >= value.numel() * value.itemsize


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def load_into(encoder: "Encoder", what: str | Path, exact: bool = False) -> None:
    """Load a run's, a folder's or a file's weights into an encoder, strictly.

    Another project's layout is translated where it is known, and position embeddings are resampled to the
    encoder's grid; with `exact` neither happens. A file whose names are all strange but whose shapes are the
    encoder's, one after the other, is loaded in that order, and a line says so.

    Raises TapetumError when the file is damaged, or names or shapes do not fit.
    """
    file, facts = find(what)
    state = read(file)
    if facts is not None and facts.get("digest") not in (None, digest(state)):
        raise TapetumError(f"{file} is damaged: its weights are not those that were written.")
    net = encoder.net
    own = net.state_dict()
    if not exact and all(tensor.ndim for tensor in state.values()):
        own = {name: t for name, t in own.items() if not name.endswith(COUNTER)}
    state |= {
        name: state[first] for name, first in aliases(net).items() if first in state and name not in state
    }
    if not exact:
        state = translated(state, net)
    if not exact and not own.keys() & state.keys() and _shapes(state) == _shapes(own):
        say(f"{what}: no name is {encoder.name}'s, but the shapes are, one by one; loaded in that order.")
        state = dict(zip(own, state.values()))
    missing, strange = [n for n in own if n not in state], sorted(state.keys() - own.keys())
    wrong = [n for n in own if n in state and own[n].shape != state[n].shape]
    if wrong:
        pairs = ", ".join(f"{n} is {list(state[n].shape)} for {list(own[n].shape)}" for n in wrong[:3])
        raise TapetumError(
            f"{what} does not fit {encoder.name}: {len(wrong)} tensors differ in shape ({pairs})."
        )
    if missing or strange:
        raise TapetumError(
            f"{what} does not fit {encoder.name}: {len(missing)} tensors are missing{_some(missing)} and "
            f"{len(strange)} are not known{_some(strange)}."
        )
    net.load_state_dict(net.state_dict() | state)  # strict but for the counters


def _shapes(state: State) -> list[torch.Size]:
    return [tensor.shape for tensor in state.values()]


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" if names else ""
