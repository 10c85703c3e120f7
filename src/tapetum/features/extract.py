"""What an encoder gives for images: from the store what it holds, the rest computed and put there."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import short_id
from tapetum.base.memory import keep_freed
from tapetum.base.threads import read_ahead
from tapetum.data.canvas import cores, free_memory
from tapetum.data.decode import Damaged
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.features import cache
from tapetum.features.rows import Features, in_order
from tapetum.features.shelf import Shelf, gather
from tapetum.features.view import View

EXTRACTOR_VERSION = 2  # raise it when the same encoder and images would give other features than before
OUTS = ("vector", "tokens", "maps")
POOLINGS = ("encoder", "mean", "class")
SEGMENT, PERIOD = 2**28, 60  # bytes, seconds after which what was computed is kept, so that no kill loses it
Precision = Literal["float32", "bfloat16"]
Out = Literal["vector", "tokens", "maps"]
Pooling = Literal["encoder", "mean", "class"]


def subject(
    encoder: Encoder,
    precision: Precision = "float32",
    layer: int | None = None,
    pooling: Pooling = "encoder",
) -> dict[str, Any]:
    """The facts that decide an encoder's features, and nothing else."""
    spec = encoder.spec
    shape = (
        {"model": spec.model, "args": spec.args, "stem": spec.stem} if spec.model else {"module": spec.name}
    )
    return {
        "encoder": shape,
        "weights": encoder.digest(),
        "preprocessing": spec.preprocessing(),
        "layer": "last" if layer is None else layer,
        "pooling": pooling,
        "precision": precision,
    }


class Extractor:
    """An encoder, and how its features are computed.

    Args:
        encoder: it is left as it was.
        precision: "float32", or "bfloat16" for a forward pass in mixed precision; part of the key.
        batch_size: images in one forward pass.
        device: by default a GPU where there is one.
        workers: threads that decode; by default one per processor, at most 8.
        layer: the block of a ViT whose output is taken; by default the last, with what comes after it.
        pooling: how tokens or maps become a vector: "encoder" as the encoder does, "mean" over patches or
            places, "class" for a ViT's first token. Of an earlier layer "encoder" means "mean".

    Raises TapetumError for what this encoder cannot give.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        precision: Precision = "float32",
        batch_size: int = 256,
        device: str | torch.device | None = None,
        workers: int | None = None,
        layer: int | None = None,
        pooling: Pooling = "encoder",
    ):
        if precision not in ("float32", "bfloat16"):
            raise unknown("precision", precision, ("float32", "bfloat16"))
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        if layer is not None and pooling == "encoder":
            pooling = "mean"
        self.encoder, self.precision, self.batch_size = encoder, precision, batch_size
        self.device, self.workers = device_named(device), workers  # a wrong one is said before the work
        self.layer, self.pooling = layer, pooling
        self.subject = subject(encoder, precision, layer, pooling)

    def of(self, encoder: Encoder, **changes: Any) -> "Extractor":
        """Another encoder's features, computed in the same way but for these settings."""
        names = ("precision", "batch_size", "device", "workers", "layer", "pooling")
        return Extractor(encoder, **{name: getattr(self, name) for name in names} | changes)

    def plain_of(self, encoder: Encoder) -> "Extractor":
        """The same of one that has neither layers nor tokens, in float32: raw pixels, statistics."""
        return self.of(encoder, precision="float32", layer=None, pooling="encoder")

    def features(self, source: Source, out: Out = "vector", view: View | None = None) -> Features:
        """The features of all images, sorted by path; what the store does not hold is computed first.

        Raises TapetumError when no image can be read or features are not finite.
        """
        if out not in OUTS:
            raise unknown("output", out, OUTS)
        source = in_order(source).formed(self.encoder.spec.form)
        keys = source.digests()
        about = {"subject": self.subject, "out": out, "view": view.facts if view else None}
        shelf = Shelf(cache.folder() / short_id(about | {"extractor": EXTRACTOR_VERSION}), about)
        segments, where = shelf.read()
        reasons: dict[bytes | int, str] = {}  # by key; by row where an image has none
        if any(key not in where for key in keys):
            with shelf.filling():
                _, where = shelf.read()
                rows = {key or row: row for row, key in enumerate(keys) if key not in where}
                reasons = self._fill(shelf, source, rows, keys, out, view)
            segments, where = shelf.read()
            cache.keep_within(cache.allowed(), shelf.folder)
        damaged = {row: reasons[key or row] for row, key in enumerate(keys) if key not in where}
        if len(damaged) == len(source):
            raise TapetumError(
                f"none of the {len(source):,} images of {source.name} can be read: {damaged[0]}."
            )
        places = np.array([where.get(key, (-1, -1)) for key in keys])
        x = gather(segments, places, np.nan, shelf.folder, free_memory() / 4)
        return Features(x, source, self.subject, damaged, keys)

    def _fill(
        self,
        shelf: Shelf,
        source: Source,
        rows: dict[bytes | int, int],
        keys: list[bytes],
        out: Out,
        view: View | None,
    ) -> dict[bytes | int, str]:
        """Compute the features of these rows, and keep them now and then; gives what cannot be read."""
        keep_freed()
        encoder, where = self.encoder, self.device
        training, home = encoder.training, encoder.mean.device
        damaged: dict[bytes | int, str] = {}
        ready: list[np.ndarray] = []
        held: list[bytes] = []
        dtype = np.float32 if out == "vector" else np.float16
        kept = time.monotonic()
        encoder.eval().to(where)
        try:
            with Progress(len(rows), "features") as bar:
                for pixels, at, bad in self._batches(source, list(rows.values())):
                    damaged |= {keys[row] or row: reason for row, reason in bad.items()}
                    if at:
                        seeds = torch.tensor([seed(keys[row]) for row in at])
                        ready.append(self._forward(pixels.to(where), seeds, out, view).astype(dtype))
                        held += [keys[row] for row in at]
                        if not np.isfinite(ready[-1]).all():
                            kind = "finite numbers" + " of 16 bits" * (out != "vector")
                            raise TapetumError(f"{encoder.name} gives features that are not {kind}.")
                    full = sum(part.nbytes for part in ready) >= SEGMENT
                    if ready and (full or time.monotonic() - kept > PERIOD):
                        shelf.add(held, np.concatenate(ready))
                        ready, held, kept = [], [], time.monotonic()
                    bar.advance(len(at) + len(bad))
            if ready:
                shelf.add(held, np.concatenate(ready))
        finally:
            encoder.train(training).to(home)
        return damaged

    def computed(self, source: Source) -> np.ndarray:
        """Vectors float32 [N, D] of images in their order, computed now and kept nowhere, for an encoder that
        is used once. Rows of images that cannot be read are not-a-number."""
        return self.computed_and_damaged(source)[0]

    def computed_and_damaged(self, source: Source) -> tuple[np.ndarray, dict[int, str]]:
        """The same, with {row: reason} of what cannot be read."""
        encoder, where = self.encoder, self.device
        training, home = encoder.training, encoder.mean.device
        source = source.formed(encoder.spec.form)
        x = np.full((len(source), encoder.dim), np.nan, dtype=np.float32)
        damaged: dict[int, str] = {}
        encoder.eval().to(where)
        try:
            for pixels, at, bad in self._batches(source, list(range(len(source)))):
                damaged |= bad
                if at:
                    x[at] = self._forward(pixels.to(where), torch.empty(0), "vector", None)
        finally:
            encoder.train(training).to(home)
        return x, damaged

    @torch.inference_mode()
    def _forward(self, pixels: Tensor, seeds: Tensor, out: Out, view: View | None) -> np.ndarray:
        """uint8 [B, C, S, S] -> float32 [B, ...]."""
        x = view.apply(pixels, seeds) if view else pixels
        x = x.float().div_(255) if x.dtype == torch.uint8 else x.float()
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.given(x, out).float().cpu().numpy()

    def given(self, x: Tensor, out: Out = "vector") -> Tensor:
        """What is taken of the encoder for pixels x [B, C, S, S] in [0, 1], with gradients if they are on."""
        encoder = self.encoder
        if self.layer is None and (out == "maps" or (out, self.pooling) == ("vector", "encoder")):
            return encoder(x) if out == "vector" else encoder.maps(x)
        found = encoder.features(x, layers=() if self.layer is None else (self.layer,))
        prefix, tokens = found.prefix, found.tokens
        if self.layer is not None and prefix is not None:
            prefix, tokens = found.layers[0].tensor_split([prefix.shape[1]], dim=1)
        if tokens is None and found.maps is not None:
            tokens = found.maps.flatten(2).mT  # [B, H W, D]
        if tokens is None:
            raise TapetumError(f"{encoder.name} gives neither tokens nor maps.")
        if out == "tokens":
            return tokens
        if out == "maps":
            return tokens.mT.unflatten(2, (int(tokens.shape[1] ** 0.5), -1))
        if self.pooling == "mean":
            return tokens.mean(1)
        if prefix is None or not prefix.shape[1]:
            raise TapetumError(f"{encoder.name} has no class token; allowed poolings: encoder, mean.")
        return prefix[:, 0]

    def _batches(self, source: Source, rows: list[int]) -> Iterator[tuple[Tensor, list[int], dict[int, str]]]:
        """Prepared images [b, C, S, S] uint8 with their rows, and the rows that cannot be read; decoded
        ahead."""

        def load(part: list[int]) -> tuple[Tensor, list[int], dict[int, str]]:
            ready, at, bad = [], [], {}
            for row in part:
                source.store.expect(source.keys[row])
            for row in part:
                try:
                    ready.append(self.encoder.prepare(*source.read_sized(row, squares)))
                    at.append(row)
                except Damaged as error:
                    bad[row] = str(error)
            return torch.from_numpy(np.stack(ready)) if ready else torch.empty(0), at, bad

        squares = int(source.store.squares)  # packed images come as they lie there
        parts = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        threads = self.workers or min(8, cores())
        with ThreadPoolExecutor(threads) as pool:
            yield from read_ahead(pool, load, parts, threads)


def seed(key: bytes) -> int:
    """The number of an image that a view's random numbers hang on."""
    return int.from_bytes(key[:8], "little", signed=True)


def device_named(name: str | torch.device | None) -> torch.device:
    """A device that is there; by default a GPU where there is one."""
    try:
        where = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise TapetumError(f"there is no device {str(name)!r} here; cpu is everywhere.") from error
    return where
