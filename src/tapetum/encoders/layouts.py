"""Translates the layouts of other projects' checkpoints into timm's."""

import re
import sys
from collections import Counter

import torch
from torch import Tensor, nn

from tapetum.base.errors import TapetumError

State = dict[str, Tensor]
HUGGING_FACE = [  # transformers' names, before and since its version 5 -> the original projects'
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
    (r"^(?:encoder\.|model\.)?layer\.", "blocks."),
    (r"\.attention\.attention\.([qkv])(?:uery|ey|alue)\.", r".attn.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
]


def translated(state: State, net: nn.Module) -> State:
    """A checkpoint in the names and shapes of timm's `net`, as far as its layout is known.

    Known are timm's own, those that timm converts (DINOv2 and DINOv3 of facebookresearch among them),
    facebookresearch's MAE, and transformers' DINOv2 and DINOv3. Embeddings of positions and of patches are
    resampled, as timm does it, where the grid or the patch differs. Heads are left out.
    """
    own = net.state_dict()
    if {n: t.shape for n, t in state.items()} == {n: t.shape for n, t in own.items()}:
        return state  # timm's conversions misread some of its own models without their heads: Swin's
    state = _below_prefix(state, own)
    if "decoder_pos_embed" in state:  # MAE's second half
        state = {name: t for name, t in state.items() if not name.startswith("decoder")}
    if "embeddings.cls_token" in state:
        state = _from_hugging_face(state)
    if "mask_token" in state:  # DINOv2's blocks may stand in chunks
        state = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): t for name, t in state.items()}
    if "storage_tokens" in state:
        state = _without_zero_biases(state, own)
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(dict(state), net)
        except (KeyError, RuntimeError, ValueError, IndexError, AttributeError) as error:
            kind = type(net).__name__
            raise TapetumError(f"timm cannot convert these weights for {kind}: {error}.") from error
    left_out = re.compile(r"mask_token$|_?(head|heads|fc|classifier)\.")
    return {name: t for name, t in state.items() if name in own or not left_out.match(name)}


def _below_prefix(state: State, own: State) -> State:
    """What stands below the prefix (`module.`, `backbone.` ...) that brings most names to ours."""
    roots = [*own, *(f"embeddings.{part}" for part in ("cls_token", "mask_token", "register_tokens"))]
    prefixes = Counter(name.removesuffix(root) for root in roots for name in state if name.endswith(root))
    best = next((p for p, _ in prefixes.most_common() if p == "" or p.endswith(".")), "")
    return {name.removeprefix(best): t for name, t in state.items() if name.startswith(best)}


def _from_hugging_face(state: State) -> State:
    """facebookresearch's names: queries, keys and values joined, a gated MLP's gate with its input."""
    out: State = {}
    for name, tensor in state.items():
        for old, new in HUGGING_FACE:
            name = re.sub(old, new, name)
        out[name] = tensor
    old_net = "pos_embed" in out  # DINOv2; DINOv3 has rotary positions
    gated = any(".mlp.gate_proj." in name for name in out)
    for at in {name[: name.index(".", 7) + 1] for name in out if name.startswith("blocks.")}:
        for kind in ("weight", "bias"):
            parts = [out.pop(f"{at}attn.{part}.{kind}", None) for part in "qkv"]
            there = next((part for part in parts if part is not None), None)
            if there is not None:  # DINOv3's keys have no bias
                whole = [torch.zeros_like(there) if part is None else part for part in parts]
                out[f"{at}attn.qkv.{kind}"] = torch.cat(whole)
            mlp = {part: out.pop(f"{at}mlp.{part}_proj.{kind}", None) for part in ("gate", "up", "down")}
            if mlp["up"] is None or mlp["down"] is None:
                continue
            out[f"{at}mlp.{'w3' if gated else 'fc2'}.{kind}"] = mlp["down"]
            if mlp["gate"] is None:
                out[f"{at}mlp.fc1.{kind}"] = mlp["up"]
            elif old_net:
                out[f"{at}mlp.w12.{kind}"] = torch.cat([mlp["gate"], mlp["up"]])
            else:
                out[f"{at}mlp.w1.{kind}"], out[f"{at}mlp.w2.{kind}"] = mlp["gate"], mlp["up"]
    if not old_net and "register_tokens" in out:
        out["storage_tokens"] = out.pop("register_tokens")
    return out


def _without_zero_biases(state: State, own: State) -> State:
    """DINOv3's attention has biases that are zero in most of its models; timm's have none there."""
    if any(name.endswith(".attn.q_bias") for name in own):
        return state
    biases = [name for name in state if name.endswith(".attn.qkv.bias")]
    for name in biases:
        query, _, value = state[name].chunk(3)  # the keys' bias is masked out
        if query.any() or value.any():
            raise TapetumError(
                f"{name} is not zero, and this encoder has no such bias; take timm's model with _qkvb."
            )
    return {name: t for name, t in state.items() if name not in biases}
