"""Weights from files: our own, timm's, and other projects' layouts, never unpickling anything but tensors."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json

if TYPE_CHECKING:
    from tapetum.encoders.encoder import Encoder

State = dict[str, Tensor]
WRAPPERS = ("teacher", "student", "state_dict", "model", "encoder", "backbone")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "net.", "model.")


def described(what: str) -> tuple[dict[str, Any], Path]:
    """The facts beside saved weights, and the weights' file: of a run, a folder, or an encoder.safetensors."""
    path = Path(what)
    if not path.exists():
        raise TapetumError(f"there is no encoder {what}: give a run, a file, or timm:NAME.")
    folder = path if path.is_dir() else path.parent
    file = path / "encoder.safetensors" if path.is_dir() else path
    if not (folder / "encoder.json").exists():
        if (folder / "config.yaml").exists():
            raise TapetumError(f"the run {folder} has not finished; go on with: tapetum pretrain --resume {folder}")
        raise TapetumError(f"{what} is not an encoder: there is no encoder.json beside the weights.")
    return read_json(folder / "encoder.json"), file


def read(file: str | Path) -> State:
    """The tensors of a .safetensors file, or of a pickled state dict through torch's safe loader.

    Raises TapetumError for a missing or damaged file, and for one that holds anything but tensors.
    """
    file = Path(file)
    if not file.is_file():
        raise TapetumError(f"there is no weights file {file}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise TapetumError(f"{file} is damaged or no weights file: {str(error).splitlines()[0]}.") from error
    except pickle.UnpicklingError as error:
        raise TapetumError(
            f"{file} holds more than tensors, and unpickling it could run code; save its state dict as safetensors."
        ) from error
    while isinstance(content, dict) and not all(isinstance(v, Tensor) for v in content.values()):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), dict)), None)
        if inner is None:
            content = {name: v for name, v in content.items() if isinstance(v, Tensor)}
        else:
            content = inner
    if not isinstance(content, dict) or not content:
        raise TapetumError(f"{file} holds no state dict.")
    return content


def load_into(encoder: "Encoder", what: str, exact: bool = False) -> None:
    """Load a run's, a folder's or a file's weights into an encoder, strictly.

    Another project's layout is translated where it is known, and position embeddings are resampled to the
    encoder's grid; with `exact` neither happens. Raises TapetumError when names or shapes do not fit.
    """
    path = Path(what)
    state = read(described(what)[1] if path.is_dir() else path)
    if not exact:
        state = translated(state)
        if hasattr(encoder.net, "patch_embed"):
            from tapetum.base.torchvision_compat import timm

            resample = (
                timm.models.eva.checkpoint_filter_fn
                if isinstance(encoder.net, timm.models.eva.Eva)
                else timm.models.vision_transformer.checkpoint_filter_fn
            )
            state = resample(state, encoder.net)
        heads = [name for name in state if re.match(r"(head|fc|classifier)\.", name)]
        state = {name: t for name, t in state.items() if name not in heads}
    own = encoder.net.state_dict()
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    odd = [*(own.keys() - state.keys()), *(state.keys() - own.keys())]
    if not exact and odd and not wrong and _same_shapes(state, own):
        state, odd = dict(zip(own, state.values())), []
    if wrong:
        raise TapetumError(
            f"{what} does not fit {encoder.name}: {wrong[0]} is {list(state[wrong[0]].shape)} there and "
            f"{list(own[wrong[0]].shape)} here ({len(wrong)} differ so)."
        )
    if odd:
        raise TapetumError(
            f"{what} does not fit {encoder.name}: {len(own.keys() - state.keys())} tensors are missing and "
            f"{len(state.keys() - own.keys())} are not known, such as {', '.join(sorted(odd)[:3])}."
        )
    encoder.net.load_state_dict(state)


def _same_shapes(state: State, own: State) -> bool:
    """Whether two state dicts hold the same shapes in the same order under other names."""
    return [t.shape for t in state.values()] == [t.shape for t in own.values()]


def translated(state: State) -> State:
    """timm's names for the tensors of a known project; others stay as they are."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): t for name, t in state.items()}
    for known, translate in LAYOUTS:
        if known(state):
            return translate(state)
    return state


def _renamed(state: State, rules: list[tuple[str, str]], dropped: str) -> State:
    out = {}
    for name, tensor in state.items():
        if not re.search(dropped, name):
            for old, new in rules:
                name = re.sub(old, new, name)
            out[name] = tensor
    return out


def _mae(state: State) -> State:
    """facebookresearch/mae: timm's names, and a decoder that is left out."""
    return _renamed(state, [], r"^(decoder|mask_token)")


def _joined(state: State) -> State:
    """Hugging Face keeps queries, keys and values apart; timm has them in one tensor."""
    out = dict(state)
    for name in state:
        if (found := re.fullmatch(r"(.*)\.query(\.weight|\.bias)", name)) is None:
            continue
        parts = [out.pop(f"{found[1]}.{part}{found[2]}", None) for part in ("query", "key", "value")]
        parts = [torch.zeros_like(parts[0]) if p is None else p for p in parts]  # DINOv3's keys have no bias
        out[f"{found[1]}.qkv{found[2]}"] = torch.cat(parts)
    return out


def _dinov2_hf(state: State) -> State:
    """transformers' Dinov2Model."""
    rules = [
        (r"^embeddings\.cls_token", "cls_token"),
        (r"^embeddings\.register_tokens", "reg_token"),
        (r"^embeddings\.position_embeddings", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^(?:encoder\.)?layer\.", "blocks."),
        (r"attention\.attention\.", "attn."),
        (r"attention\.output\.dense", "attn.proj"),
        (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
        (r"mlp\.weights_in", "mlp.fc1"),
        (r"mlp\.weights_out", "mlp.fc2"),
        (r"^layernorm\.", "norm."),
    ]
    return _joined(_renamed(state, rules, r"mask_token"))


def _dinov2(state: State) -> State:
    """facebookresearch/dinov2: timm's names but for the registers and the blocks' chunks."""
    rules = [(r"^register_tokens", "reg_token"), (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."), (r"w12\.", "fc1.")]
    rules += [(r"mlp\.w3\.", "mlp.fc2."), (r"(ls\d)\.gamma", r"\1.gamma")]
    return _renamed(state, rules, r"mask_token")


LAYOUTS: list[tuple[Callable[[State], bool], Callable[[State], State]]] = [
    (lambda s: "decoder_pos_embed" in s, _mae),
    (lambda s: "embeddings.position_embeddings" in s, _dinov2_hf),
    (lambda s: "pos_embed" in s and "mask_token" in s, _dinov2),
]
