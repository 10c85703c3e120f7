"""Encoders as files for other tools, each written whole and only after it has given the same features."""

import contextlib
import copy
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tapetum.base.console import say, warn
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import replacing, write_json
from tapetum.base.torchvision_compat import timm
from tapetum.encoders.build import load
from tapetum.encoders.encoder import Encoder
from tapetum.encoders.spec import Spec

TOLERANCE = 1e-4  # largest difference of a feature, as a share of the largest feature where that exceeds 1
ONNX_LIMIT = 1.9e9  # bytes
CROP_MODES = {"crop": "center", "pad": "border", "squash": "squash"}  # timm's words


def export(encoder: Encoder, out: Path, format: str) -> dict[str, Any]:
    """Write an encoder to `out`, read it back, and compare the features of random images.

    Args:
        encoder: what is written, in evaluation mode and float32.
        out: a folder (timm, safetensors) or a file (onnx) that does not exist.
        format: "timm" for `timm.create_model("local-dir:OUT", pretrained=True)`; "onnx" for one file that
            takes pixels [N, C, S, S] in [0, 1] and normalises for itself; "safetensors" for `tapetum.load`.

    Returns what was written and the largest difference between the features. Raises TapetumError when the
    format cannot express the encoder, when features differ by more than TOLERANCE, and when `out` exists;
    nothing is then left at `out`.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    out = Path(out)
    if out.exists() and not (out.is_dir() and format != "onnx" and not any(out.iterdir())):
        raise TapetumError(f"{out} exists already and is not overwritten: choose another --out.")
    encoder = copy.deepcopy(encoder).cpu().float().eval()
    difference = FORMATS[format](encoder, out)
    checked = "" if difference is None else f"; read back, its features differ by at most {difference:.1e}"
    say(f"wrote {out} ({format}){checked}")
    facts = {"out": str(out), "format": format, "dim": encoder.dim, "image_size": encoder.image_size}
    return facts | {"difference": difference}


@torch.no_grad()
def _timm(encoder: Encoder, out: Path) -> float:
    spec = encoder.spec
    if spec.stem or not spec.model:
        why = f"its stem {spec.stem}" if spec.stem else "a module of your own"
        raise TapetumError(
            f"timm cannot express {spec.name} with {why}; export it with --format safetensors or onnx."
        )
    with whole_folder(out) as folder:
        save_file(_tensors(encoder), folder / "model.safetensors", {"format": "pt"})
        write_json(folder / "config.json", _timm_config(encoder))
        try:
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TapetumError(
                f"timm cannot load {spec.name} back ({reason}); export it with --format safetensors."
            ) from error
        x = _images(spec, 3)
        return _compare(model((x - encoder.mean) / encoder.std), encoder(x), "timm")


def _timm_config(encoder: Encoder) -> dict[str, Any]:
    spec = encoder.spec
    preprocessing = {
        "input_size": [len(spec.mean), spec.image_size, spec.image_size],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "crop_mode": CROP_MODES[spec.fit],
    }
    return {
        "architecture": spec.model.split(".")[0],  # without the tag of public weights
        "num_classes": 0,
        "num_features": encoder.dim,
        "model_args": {**spec.args, "num_classes": 0},
        "pretrained_cfg": {**preprocessing, "num_classes": 0},
    }


def _onnx(encoder: Encoder, out: Path) -> float | None:
    return write_onnx(encoder, encoder.spec, ["features"], out)


@torch.no_grad()
def write_onnx(
    net: nn.Module, spec: Spec, outputs: Sequence[str], out: Path, facts: Mapping[str, str] | None = None
) -> float | None:
    """Write a network of pixels [N, C, S, S] in [0, 1] as one ONNX file, and compare what it gives.

    Args:
        net: in evaluation mode; gives one tensor or several.
        spec: of its images.
        outputs: the names of what it gives.
        facts: what the file's metadata say.

    Returns the largest difference, None where it could not be run. Raises TapetumError as `export` does.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise TapetumError(f"--format onnx needs {error.name}: pip install tapetum[onnx]") from error
    if sum(t.nbytes for t in net.state_dict().values()) > ONNX_LIMIT:
        raise TapetumError(f"{spec.name} exceeds the 2 GB of one ONNX file; use --format safetensors.")
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    try:
        with _quiet():
            program = torch.onnx.export(
                net,
                (_images(spec, 2),),
                input_names=["images"],
                output_names=list(outputs),
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's own errors have no common kind
        reason = str(error).strip().splitlines()[0]
        raise TapetumError(f"torch cannot express {spec.name} in ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(facts or {}))
    with replacing(out) as path:
        onnx.save(model, path)
        return _run_onnx(net, spec, path)


def _run_onnx(net: nn.Module, spec: Spec, path: Path) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        warn("the ONNX file was not run, since onnxruntime is missing: pip install tapetum[onnx]")
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for count in (1, 3):  # another number of images than it was traced with
        x = _images(spec, count)
        ours = net(x)
        ours = ours if isinstance(ours, tuple) else (ours,)
        for theirs, own in zip(session.run(None, {"images": x.numpy()}), ours, strict=True):
            found.append(_compare(torch.from_numpy(theirs).float(), own.float(), "ONNX Runtime"))
    return max(found)


@torch.no_grad()
def _safetensors(encoder: Encoder, out: Path) -> float | None:
    with whole_folder(out) as folder:
        encoder.save(folder)
        if not encoder.spec.model:
            return None  # only Python can build it again
        x = _images(encoder.spec, 3)
        return _compare(load(str(folder))(x), encoder(x), "tapetum")


FORMATS = {"timm": _timm, "onnx": _onnx, "safetensors": _safetensors}


def _tensors(encoder: Encoder) -> dict[str, Tensor]:
    """The backbone's tensors, none sharing memory: timm wants each under its own name."""
    return {name: t.detach().contiguous().clone() for name, t in encoder.net.state_dict().items()}


def _images(spec: Spec, count: int) -> Tensor:
    """Random pixels [count, C, S, S] in [0, 1], always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, len(spec.mean), spec.image_size, spec.image_size, generator=generator)


def _compare(theirs: Tensor, ours: Tensor, reader: str) -> float:
    """The largest difference; TapetumError where it is too large, not a number, or the shapes differ."""
    if theirs.shape != ours.shape:
        raise TapetumError(f"{reader} gives features {list(theirs.shape)}, tapetum {list(ours.shape)}.")
    difference = float((theirs - ours).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(ours.abs().max())):
        raise TapetumError(f"{reader} gives other features, off by {difference:.2g}; nothing was written.")
    return difference


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name on success."""
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        temporary.chmod(0o755)
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise TapetumError(f"cannot write {out}: {error.strerror or error}.") from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's chatter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
