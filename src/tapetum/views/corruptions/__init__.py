"""Common corruptions of images at five strengths (Hendrycks and Dietterich 2019, arXiv:1903.12261).

Every file of this folder that says `STRENGTHS` has corruptions: functions of these names, of pixels uint8
[H, W, 3], random numbers, and the numbers that the table has for a strength.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tapetum.base.errors import TapetumError, unknown
from tapetum.data.canvas import cores
from tapetum.data.decode import is_image
from tapetum.views.corruptions import frost as ice
from tapetum.views.corruptions.numbers import Draws, Numbers

COMMON = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur"),
    *("zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate"),
    "jpeg_compression",
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # kept apart, to develop methods on
LIKE = "imagecorruptions 1.1.2"  # whose pictures these are
SMALL = 32  # up to this side the strengths of CIFAR-10-C are meant

Strengths = Literal["auto", "imagenet", "cifar"]


@cache
def found() -> dict[str, tuple[Callable[..., np.ndarray], dict[str, tuple]]]:
    """Every corruption's function and its numbers for each strength, by name."""
    files = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    tables = [(file, getattr(file, "STRENGTHS", {})) for file in files]
    return {name: (getattr(file, name), table[name]) for file, table in tables for name in table}


def corrupt(
    x: np.ndarray,
    name: str,
    severity: int,
    draws: Numbers,
    strengths: Strengths = "auto",
    frost: tuple[Path, ...] = (),
) -> np.ndarray:
    """One corruption of one image.

    Args:
        x: uint8 [H, W, 3].
        name: one of `COMMON` or `EXTRA`.
        severity: 1 to 5.
        draws: a `numpy.random.Generator`, or `Draws(key)` for numbers that depend on the key alone.
        strengths: those of ImageNet-C, of CIFAR-10-C, or as the image's size suggests.
        frost: photographs of frost to use instead of a made texture; see `frost_photos`.

    Returns uint8 [H, W, 3]; fractions are cut off, as in the published images.
    Raises TapetumError for an unknown name, severity or set of strengths, and for pixels of another form.
    """
    function, table = _of(name)
    if severity not in range(1, 6):
        raise TapetumError(f"the severity of {name} is {severity!r}; it is a whole number from 1 to 5.")
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
        raise TapetumError(f"corruptions need pixels uint8 [H, W, 3]; these are {x.dtype} {list(x.shape)}.")
    given = table[meant(strengths, x.shape)][severity - 1]
    more = {"photos": frost} if name == "frost" else {}
    out = function(x, draws, *(given if isinstance(given, tuple) else (given,)), **more)
    return out.clip(0, 255).astype(np.uint8)


def _of(name: str) -> tuple[Callable[..., np.ndarray], dict[str, tuple]]:
    if name not in found():
        raise unknown("corruption", name, found())
    return found()[name]


def meant(strengths: Strengths, size: tuple[int, ...]) -> str:
    """Which of the two sets of strengths is meant for images of this height and width."""
    if strengths == "auto":
        return "cifar" if max(size[:2]) <= SMALL else "imagenet"
    if strengths not in ("imagenet", "cifar"):
        raise unknown("set of strengths", strengths, ("auto", "imagenet", "cifar"))
    return strengths


def frost_photos(folder: str | Path | None) -> tuple[Path, ...]:
    """The photographs of frost in a folder, the first five by name as the published code takes them."""
    if folder is None:
        return ()
    files = sorted(p for p in Path(folder).glob("*") if is_image(p.name)) if Path(folder).is_dir() else []
    if not files:
        raise TapetumError(f"{folder} is no folder with photographs of frost.")
    return tuple(files[: ice.PHOTOS])


def facts(
    name: str, severity: int, size: int, strengths: Strengths = "auto", frost: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """What decides how images of this size come out; numbers are comparable where it is equal."""
    _of(name)
    said = {
        "corruption": name,
        "severity": severity,
        "strengths": meant(strengths, (size, size)),
        "like": LIKE,
    }
    if name == "frost":
        digests = [hashlib.sha256(p.read_bytes()).hexdigest()[:12] for p in frost]
        said["texture"] = digests or f"made, version {ice.VERSION}; not comparable with published numbers"
    return said


def corrupt_batch(
    pixels: np.ndarray,
    keys: np.ndarray,
    name: str,
    severity: int,
    strengths: Strengths = "auto",
    frost: tuple[Path, ...] = (),
) -> np.ndarray:
    """Images uint8 [B, C, S, S], each with numbers from its key [B] int64 -> the same, corrupted.

    Gray images are corrupted as three equal channels, whose mean is kept.
    """
    return each(pixels, keys, lambda x, key: corrupt(x, name, severity, Draws(key), strengths, frost))


def each(pixels: np.ndarray, keys: np.ndarray, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """`change` of every image uint8 [H, W, 3] and key, of images [B, C, S, S] with keys [B]."""
    if pixels.shape[1] not in (1, 3):
        raise TapetumError(f"corruptions need images of 3 channels, or of 1; these have {pixels.shape[1]}.")

    def changed(image: np.ndarray, key: int) -> np.ndarray:
        x = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
        y = change(x, key).transpose(2, 0, 1)
        return y if len(image) == 3 else y.mean(0, keepdims=True).round().astype(np.uint8)

    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(changed, pixels, keys.tolist())))
