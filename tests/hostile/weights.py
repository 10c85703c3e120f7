"""Checkpoints that would run code, lie about their lengths, or describe networks of terabytes."""

import json
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import torch

from hostile.made import (
    ESC,
    Case,
    Runs,
    commands,
    dumped,
    member,
    one,
    pickled_zip,
    rezipped,
    saved,
    state,
    tarred,
    tensors,
    written,
    zipped,
)

T = torch.zeros(2, 3)
OLD = b"\x80\2"
STACKED = b"\x80\4\x8c\2os\x8c\6system\x93\x8c\x0ctouch canary\x85R."
HIDDEN = b"\x80\4\x8c\2os\x94\x8c\6system\x94" + b"00h\0h\1\x93\x8c\x0ctouch canary\x85R."
COMPUTED = b"\x80\4\x8c\2os]\x93."
OBJECT = b"(S'touch canary'\nios\nsystem\n."
EXTENSION = b"\x80\2\x82\x01."
BUILT = b"\x80\2}cos\nsystem\nb."
NESTED = b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."
LONG = b"\x80\4\x8b" + struct.pack("<I", 2**20) + b"\x7f" * 2**20 + b"."
TEXT = b"\x80\4\x8d" + struct.pack("<Q", 2**60) + b"a."
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0)tRq\x000"  # kept in memory as the first
MANY = b"\x80\2}(" + b"".join(b"X\6\0\0\0%06d]" % i for i in range(900_000)) + b"u."
NAMES = b"\x80\2" + TENSOR + b"}X\0\0\x10\0" + b"a" * 2**20
NAMES += b"}(" + b"".join(b"X\4\0\0\0%04dh\0" % i for i in range(10_000)) + b"us."
WRAP = b"ctorch._utils\n_rebuild_parameter\n"
WRAPPED = b"\x80\2}X\1\0\0\0a" + WRAP * 5000 + b"N" + b"\x85R" * 5000 + b"s."
CIRCLE = b"\x80\2}q\0X\5\0\0\0modelh\0s."  # a dict that holds itself as its model


def _wide() -> torch.Tensor:
    """A view of one number that claims a terabyte."""
    return torch.zeros(1).expand(2**38)


def _shaped(*shape: int) -> Runs:
    """What rebuilds a tensor of this shape."""
    return Runs(torch._utils._rebuild_tensor_v2, None, 0, shape, (), False, {})


def _parts() -> list[tuple[str, bytes]]:
    return [("a/data.pkl", b"\x80\2}."), ("a/version", b"3\n")]


def _script(folder: Path) -> str:
    class Net(torch.nn.Module):
        def forward(self, x):
            return x

    torch.jit.save(torch.jit.script(Net()), str(folder / "it.pt"))
    return "it.pt"


def _legacy(folder: Path) -> str:
    """The tar of torch's oldest form, which is unpacked to the disk where it is taken."""
    names = ("sys_info", "pickle", "storages", "tensors")
    return tarred(*(member(name, pickle.dumps(commands()["os.system"])) for name in names), name="it.pth")(
        folder
    )


def _encoder(facts: object, name: str = "encoder.json", tensor=None):
    def make(folder: Path) -> str:
        place = folder / "it"
        place.mkdir()
        state(place, "encoder.safetensors", **({"a": tensor} if tensor is not None else {}))
        text = facts if isinstance(facts, str) else json.dumps(facts)
        (place / name).write_text(text)
        return "it"

    return make


def _args(**args: object):
    return _encoder({"name": "x", "model": "resnet18", "args": args, "image_size": 32})


def _vit(**args: object):
    return _encoder({"name": "x", "model": "vit_tiny_patch16_224", "args": args, "image_size": 32})


def _linked(folder: Path) -> str:
    _encoder({"name": "x", "model": "resnet18", "image_size": 32})(folder)
    (folder / "it/encoder.json").unlink()
    (folder / "it/encoder.json").symlink_to("/dev/zero")
    return "it"


def onnx(**parts: bytes) -> bytes:
    """Messages of ONNX by hand: a graph with one node, and whatever is added to model, graph or node."""

    def field(number: int, content: bytes) -> bytes:
        out, n = bytes([number << 3 | 2]), len(content)
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n]) + content

    node = field(4, b"Conv") + parts.get("node", b"")
    graph = field(1, node) + parts.get("graph", b"")
    return field(2, ESC.encode()) + field(7, graph) + parts.get("model", b"")


def external(place: bytes) -> bytes:
    pair = b"\x0a\x08location\x12" + bytes([len(place)]) + place
    weight = b"\x42\x01w\x6a" + bytes([len(pair)]) + pair
    return b"\x2a" + bytes([len(weight)]) + weight


ONNX = {
    "very many names": (
        onnx(graph=b"".join(b"\x2a\x08\x42\x06%06d\x5a\x08\x0a\x06x%05d" % (i, i) for i in range(50_000))),
        "Conv",
    ),
    "files elsewhere": (onnx(graph=external(b"../../../etc/passwd")), "../../../etc/passwd"),
    "operators of a stranger": (
        onnx(node=b"\x3a\x04evil", model=b"\x42\x08\x0a\x04evil\x10\x01"),
        "somebody's own code",
    ),
    "a name that commands a terminal": (onnx(), "Conv"),
    "a length beyond its end": (b"\x3a\xff\xff\xff\xff\x0f", "damaged or no ONNX file"),
    "a number without end": (b"\xff" * 100, "damaged or no ONNX file"),
    "nothing": (b"", "damaged or no ONNX file"),
    "a group, which ONNX has none of": (b"\x3b\x3c", "damaged or no ONNX file"),
    "a pickle": (STACKED, "damaged or no ONNX file"),
}
BY_HAND = {
    "names on the stack": (STACKED, "it would import os.system"),
    "names from its memory": (HIDDEN, "it would import os.system"),
    "a name that is computed": (COMPUTED, "something that it computes:"),
    "an object of the oldest form": (OBJECT, "it would import os.system"),
    "an extension": (EXTENSION, "something that it computes:"),
    "a state for a function": (BUILT, "it would import os.system"),
}
BROKEN = {
    "lists nested without end": (NESTED, ""),
    "a number of a million bytes": (LONG, ""),
    "text of an exabyte": (TEXT, "damaged"),
    "an instruction that is none": (b"\x80\2\xff.", "damaged"),
    "a stack that is empty": (b"\x80\2R.", "damaged"),
    "a mark that is missing": (b"\x80\2u.", "damaged"),
    "no end": (b"\x80\2}", "damaged"),
    "a later protocol": (b"\x80\xff}.", ""),
}

CASES = [
    *(
        Case(f"pickle: {n}, loaded", "weights", saved({"state_dict": {"a": T}, "f": c}), "could run code")
        for n, c in commands().items()
    ),
    *(
        Case(f"pickle: {n}, looked at", "look_at", saved({"a": T, "f": c}), "could run any code")
        for n, c in commands().items()
    ),
    *(
        Case(f"pickle without tensors: {n}", "weights", dumped({"a": c}), "could run code")
        for n, c in commands().items()
    ),
    *(
        Case(f"pickle by hand: {n}", "look_at", written("it.bin", c), says)
        for n, (c, says) in BY_HAND.items()
    ),
    *(
        Case(f"pickle by hand: {n}, loaded", "weights", written("it.bin", c), "could run code")
        for n, (c, says) in BY_HAND.items()
    ),
    *(
        Case(f"pickle by hand: {n}, in torch's zip", "weights", pickled_zip(c), "could run code")
        for n, (c, says) in BY_HAND.items()
    ),
    *(Case(f"pickle: {n}", "weights", written("it.pth", c), says) for n, (c, says) in BROKEN.items()),
    *(
        Case(f"pickle: {n}, looked at", "look_at", written("it.pth", c), says)
        for n, (c, says) in BROKEN.items()
    ),
    Case(
        "pickle: torch's older form",
        "weights",
        saved({"a": T, "f": commands()["os.system"]}, old=True),
        "could run code",
    ),
    Case("pickle: torch's older form, looked at", "look_at", saved({"a": T}, old=True), "older form"),
    Case("pickle: torch's oldest form, a tar", "weights", _legacy, "damaged or no weights file"),
    Case(
        "pickle: a module of somebody's", "weights", saved({"model": torch.nn.Linear(1, 1)}), "could run code"
    ),
    Case("pickle: an object of a class", "weights", dumped({"a": SimpleNamespace(b=1)}), "could run code"),
    *(
        Case(f"pickle: a tensor {n}", "look_at", dumped({"a": _shaped(*shape)}), "pickled weights")
        for n, shape in {"of 300 sides": 300 * [2**61], "of less than nothing": [-(10**5000)]}.items()
    ),
    *(
        Case(f"pickle: {n}", "look_at", written("it.bin", c), "it names only what tensors")
        for n, c in {"900,000 lists": MANY, "names that add up": NAMES, "5,000 wrappings": WRAPPED}.items()
    ),
    Case("pickle: TorchScript", "weights", _script, "could run code"),
    Case("pickle: TorchScript, looked at", "look_at", _script, "it holds a program"),
    Case("pickle: a dict that holds itself", "weights", pickled_zip(CIRCLE), "no tensor of the usual kind"),
    Case(
        "pickle: a tensor that claims a terabyte",
        "weights",
        saved({"a": _wide()}),
        "no tensor of the usual kind",
    ),
    Case("pickle: a tensor without numbers", "weights", saved({"a": torch.zeros(9, device="meta")}), "it.pt"),
    Case("pickle: a sparse tensor", "weights", saved({"a": torch.eye(3).to_sparse()}), "it.pt"),
    Case("pickle: names that are no text", "weights", saved({3: T}), "no tensor of the usual kind"),
    Case("pickle: names that command a terminal", "look_at", saved({ESC: T}), "x1b"),
    Case("pickle: nothing in it", "weights", saved({}), "holds no state dict"),
    Case("pickle: a list", "weights", saved([T]), "holds no state dict"),
    Case(
        "pickle: packed tightly",
        "weights",
        rezipped({"a": torch.zeros(10**7)}, lambda members: members, packing=8),
        "compressed, as torch writes none",
    ),
    Case(
        "pickle: a member twice",
        "weights",
        rezipped({"a": T}, lambda members: [*members, members[0]]),
        "stands twice",
    ),
    Case(
        "pickle: a zip of something else",
        "weights",
        zipped(("a.txt", b"x"), packing=0, name="it.pt"),
        "holds no weights",
    ),
    Case("pickle: a zip without its numbers", "weights", zipped(*_parts(), packing=0, name="it.pt"), "it.pt"),
    Case(
        "safetensors: a header of exabytes",
        "weights",
        written("it.safetensors", tensors({}, length=2**60)),
        "damaged",
    ),
    Case(
        "safetensors: a header beyond its end",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 0, 4)}, length=10**5)),
        "damaged",
    ),
    Case(
        "safetensors: a header of 200 MB",
        "weights",
        written("it.safetensors", struct.pack("<Q", 2 * 10**8) + b"{" + b" " * 1000),
        "damaged",
    ),
    Case(
        "safetensors: a header that is no JSON",
        "weights",
        written("it.safetensors", tensors(b"{'a': __import__('os')}")),
        "damaged",
    ),
    Case(
        "safetensors: a header nested without end",
        "weights",
        written("it.safetensors", tensors(b'{"a":' + b"[" * 10**5)),
        "damaged",
    ),
    Case(
        "safetensors: a header that is a list", "weights", written("it.safetensors", tensors([])), "damaged"
    ),
    Case(
        "safetensors: tensors in one place",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 0, 4), "b": one([1], 0, 4)}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: tensors with a gap",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 0, 4), "b": one([1], 8, 12)}, bytes(12))),
        "damaged",
    ),
    Case(
        "safetensors: a tensor beyond the end",
        "weights",
        written("it.safetensors", tensors({"a": one([10**9], 0, 4 * 10**9)}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: a tensor that ends before it begins",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 8, 4)}, bytes(8))),
        "damaged",
    ),
    Case(
        "safetensors: a shape that is too long",
        "weights",
        written("it.safetensors", tensors({"a": one([100], 0, 4)}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: a shape beyond all numbers",
        "weights",
        written("it.safetensors", tensors({"a": one([2**62, 2**62], 0, 4)}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: a shape below zero",
        "weights",
        written("it.safetensors", tensors({"a": one([-1], 0, 4)}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: a type that is none",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 0, 4, "PICKLE")}, bytes(4))),
        "damaged",
    ),
    Case(
        "safetensors: a name twice",
        "weights",
        written(
            "it.safetensors",
            tensors(
                b'{"a":'
                + json.dumps(one([1], 0, 4)).encode()
                + b',"a":'
                + json.dumps(one([1], 4, 8)).encode()
                + b"}",
                bytes(8),
            ),
        ),
        "",
    ),
    Case(
        "safetensors: bytes after the end",
        "weights",
        written("it.safetensors", tensors({"a": one([1], 0, 4)}, bytes(400))),
        "damaged",
    ),
    Case(
        "safetensors: names and facts that act",
        "look_at",
        written(
            "it.safetensors",
            tensors({"__metadata__": {ESC: f"[bold]{ESC}"}, f"{ESC}[/]": one([1], 0, 4)}, bytes(4)),
        ),
        "x1b",
    ),
    Case(
        "safetensors: facts that are no text",
        "look_at",
        written("it.safetensors", tensors({"__metadata__": {"a": [1]}})),
        "damaged",
    ),
    Case("safetensors: empty", "weights", written("it.safetensors", b""), "damaged"),
    Case("safetensors: a pickle by that name", "weights", written("it.safetensors", STACKED), "damaged"),
    *(Case(f"onnx: {n}", "look_at", written("it.onnx", c), says) for n, (c, says) in ONNX.items()),
    Case(
        "encoder: a checkpoint for timm to read",
        "load",
        _args(checkpoint_path="it/evil.pth"),
        "no argument 'checkpoint_path'",
    ),
    Case("encoder: weights to fetch", "load", _args(pretrained=True), "no argument 'pretrained'"),
    Case(
        "encoder: an address of weights",
        "load",
        _args(pretrained_cfg={"url": "http://127.0.0.1:9/x.pth"}),
        "no argument 'pretrained_cfg'",
    ),
    Case(
        "encoder: another address of weights",
        "load",
        _args(pretrained_cfg_overlay={"file": "evil.pth"}),
        "no argument 'pretrained_cfg_overlay'",
    ),
    Case("encoder: a folder to write to", "load", _args(cache_dir="../elsewhere"), "no argument 'cache_dir'"),
    Case(
        "encoder: a model of the hub",
        "load",
        _encoder({"name": "x", "model": "hf-hub:evil/model", "image_size": 32}),
        "unknown encoder",
    ),
    Case(
        "encoder: a model of a folder",
        "load",
        _encoder({"name": "x", "model": "local-dir:/etc", "image_size": 32}),
        "unknown encoder",
    ),
    Case(
        "encoder: a model that is code",
        "load",
        _encoder({"name": "x", "model": "__import__('os').system('touch canary')", "image_size": 32}),
        "unknown encoder",
    ),
    Case("encoder: a module from somewhere", "load", _args(act_layer="os.system"), "cannot be built"),
    Case("encoder: a block from somewhere", "load", _args(block="os.system"), "cannot be built"),
    Case("encoder: a width of millions", "load", _vit(embed_dim=10**7), "its embed_dim is over"),
    Case("encoder: a network of many gigabytes", "load", _vit(embed_dim=12_288, depth=40), "numbers"),
    Case("encoder: a million blocks", "load", _args(layers=[10**6, 1, 1, 1]), "its layers is over"),
    Case(
        "encoder: images of a billion pixels",
        "load",
        _encoder({"name": "x", "model": "vit_tiny_patch16_224", "image_size": 10**9}),
        "it",
    ),
    Case(
        "encoder: images below zero",
        "load",
        _encoder({"name": "x", "model": "vit_tiny_patch16_224", "image_size": -5}),
        "it",
    ),
    Case("encoder: facts that are a list", "load", _encoder([1, 2]), "it/encoder.json"),
    Case("encoder: facts nested without end", "load", _encoder("[" * 10**5), "not readable JSON"),
    Case(
        "encoder: facts that are no JSON",
        "load",
        _encoder("!!python/object/apply:os.system [touch canary]"),
        "not readable JSON",
    ),
    Case("encoder: facts of a device", "load", _linked, "it"),
    Case(
        "encoder: facts that command a terminal",
        "look_at",
        _encoder({"name": ESC, "model": f"[bold]{ESC}"}),
        "x1b",
    ),
    Case(
        "encoder: timm's facts with a checkpoint",
        "load",
        _encoder(
            {
                "architecture": "resnet18",
                "model_args": {"checkpoint_path": "evil.pth"},
                "pretrained_cfg": {"input_size": [3, 32, 32]},
            },
            "config.json",
        ),
        "no argument 'checkpoint_path'",
    ),
    Case(
        "encoder: weights that are not those",
        "load",
        _encoder({"name": "x", "model": "resnet10t", "image_size": 32, "digest": "0" * 64}),
        "it",
    ),
]
