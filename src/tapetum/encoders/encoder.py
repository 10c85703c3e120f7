"""An encoder: a backbone that carries its preprocessing and gives everything in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import replacing, write_json
from tapetum.encoders import backbones
from tapetum.encoders import prepare as preparation
from tapetum.encoders import weights as stored
from tapetum.encoders.chunks import Chunked, by_chunks
from tapetum.encoders.spec import MEAN, STD, Spec

FORMAT = 1


@dataclass
class Features:
    """What one pass gives; what the backbone has none of is None.

    vector [B, D]; prefix [B, P, D] (class and register tokens); tokens [B, N, D] row by row;
    maps [B, C, H, W]; layers: what the asked blocks gave, [B, P + N, D] each; embedded [B, N, D]: the
    patches before the first block, without their places.
    """

    vector: Tensor
    prefix: Tensor | None = None
    tokens: Tensor | None = None
    maps: Tensor | None = None
    layers: list[Tensor] = field(default_factory=list)
    embedded: Tensor | None = None


class Encoder(Chunked):
    """A backbone with its preprocessing. `encoders.build` and `encoders.load` make one.

    It takes pixels in [0, 1] and normalises for itself.

    Attributes:
        net: the backbone.
        spec: how to build it again, and how images are prepared for it.
        dim: width D of its features.
        patch, grid: side of a patch in pixels and patches a side; None where there are no patches.
    """

    by_name = "a run, an encoder's file, or timm:NAME"  # how a setting of this type is typed
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: Spec):
        super().__init__()
        self.net, self.spec = net, spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)
        self.patch = backbones.patch(net)
        self.grid = spec.image_size // self.patch if self.patch else None
        self.lies_on_grid = False
        self.blank: nn.Parameter | None = None
        self.dim = self._measure()

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        image_size: int,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        name: str | None = None,
    ) -> "Encoder":
        """Any module that takes normalised [B, C, S, S] and gives features [B, D] or maps [B, D, H, W].

        Only Python can build it again: its weights are saved, and loaded by `weights.load_into`.
        """
        return cls(module, Spec(name or type(module).__name__, "", image_size=image_size, mean=mean, std=std))

    @torch.no_grad()
    def _measure(self) -> int:
        was = self.training
        try:
            device = next(self.net.parameters(), self.mean).device
            x = torch.zeros(1, len(self.spec.mean), self.image_size, self.image_size, device=device)
            features = self.to(device).eval().features(x)
        except Exception as error:  # whatever a network of a stranger's making raises
            why = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise TapetumError(
                f"{self.name} does not take images of {self.image_size} pixels: {why}."
            ) from error
        finally:
            self.train(was)
        shape = list(features.vector.shape)
        if len(shape) != 2:
            raise TapetumError(f"{self.name} gives features of shape {shape}, not one vector an image.")
        self.lies_on_grid = features.maps is not None or features.tokens is not None
        return shape[1]

    @property
    def name(self) -> str:
        """What the backbone is called."""
        return self.spec.name

    @property
    def image_size(self) -> int:
        """The side of the images that it is made for, in pixels."""
        return self.spec.image_size

    def gives(self, what: str) -> bool:
        """Whether it can give "vector", "tokens" (which can be kept and hidden) or "maps"."""
        return what == "vector" or (self.patch is not None if what == "tokens" else self.lies_on_grid)

    def add_blank(self) -> None:
        """Make the learnt token that stands for hidden patches in `features(hide=...)`."""
        if self.blank is None:
            width = getattr(self.net, "embed_dim", self.dim)
            self.blank = nn.Parameter(0.02 * torch.randn(width))

    def pool_patches(self) -> None:
        """Let the vector be the mean of the patches' tokens, for methods that teach a class token nothing."""
        if self.patch is not None and getattr(self.net, "global_pool", "") == "token":
            self.net.reset_classifier(0, global_pool="avg")  # type: ignore[operator]
            norm = "use_fc_norm" if isinstance(self.net, backbones.Eva) else "fc_norm"
            self.spec = replace(self.spec, args={**self.spec.args, "global_pool": "avg", norm: False})

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the backbone's authors do not decay."""
        names: set[str] = getattr(self.net, "no_weight_decay", set)()
        return {f"net.{name}" for name in names} | {"blank"}

    def features(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        hide: Tensor | None = None,
        layers: Sequence[int] = (),
        causal: bool | Tensor = False,
    ) -> Features:
        """Everything about pixels x [B, C, S, S] in [0, 1] in one pass.

        Args:
            x: of any size S that the backbone takes.
            keep: [B, K] int64, the patches that are shown; the backbone sees no others.
            hide: [B, N] bool, patches shown as blanks (`add_blank` first).
            layers: numbers of the blocks whose output is wanted.
            causal: each token sees only itself and those before it; a tensor [B] int64 lets all tokens of an
                image see so many of its first patches, too.

        Raises TapetumError for what this backbone cannot do.
        """
        return by_chunks(self, self._features, x, keep, hide, layers, causal)

    def _features(
        self,
        x: Tensor,
        keep: Tensor | None,
        hide: Tensor | None,
        layers: Sequence[int],
        causal: bool | Tensor,
    ) -> Features:
        x = preparation.normalised(x, self.mean, self.std)
        if self.patch is not None:
            blank = self.blank if hide is not None else None
            if hide is not None and blank is None:
                raise TapetumError("hidden patches need encoder.add_blank() first.")
            return Features(
                *backbones.transformer(
                    self.net, x, keep=keep, hide=hide, blank=blank, layers=layers, causal=causal
                )
            )
        if keep is not None or hide is not None or causal is not False:
            raise TapetumError(f"{self.name} has no patches to keep or hide; use a ViT.")
        return Features(*backbones.other(self.net, x, layers))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> features [B, D]."""
        return self.features(x).vector

    def tokens(self, x: Tensor, keep: Tensor | None = None, hide: Tensor | None = None) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> tokens of the patches [B, N, D]; see `features`.

        Raises TapetumError where the backbone has none.
        """
        tokens = self.features(x, keep=keep, hide=hide).tokens
        if tokens is None:
            raise TapetumError(f"{self.name} gives no tokens; use a ViT.")
        return tokens

    def maps(self, x: Tensor) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> feature maps [B, D, H, W]; a ViT's are its tokens.

        Raises TapetumError where the backbone has none.
        """
        features = self.features(x)
        if features.maps is not None:
            return features.maps
        if features.tokens is None:
            raise TapetumError(f"{self.name} gives no feature maps.")
        side = round((features.tokens.shape[1] * x.shape[-2] / x.shape[-1]) ** 0.5)  # rows of the grid
        return features.tokens.mT.unflatten(2, (side, -1))

    def prepare(self, pixels: np.ndarray, true: tuple[int, int] | None = None) -> np.ndarray:
        """An image uint8 [H, W, C] -> uint8 [C, S, S], as this encoder wants it; `true` is the (height,
        width) of an image that was squashed into these pixels."""
        return preparation.prepare(pixels, self.spec, true)

    @torch.no_grad()
    def encode(
        self,
        images: Any,
        *,
        out: Literal["vector", "tokens", "maps"] = "vector",
        batch_size: int = 64,
        errors: Literal["raise", "nan"] = "raise",
        device: str | torch.device | None = None,
        bf16: bool = False,
    ) -> np.ndarray:
        """Features of images as people have them.

        Args:
            images: paths, PIL images, arrays or tensors (uint8 or in [0, 1]), one or many, of any sizes.
            out: "vector" gives [N, D], "tokens" [N, P, D], "maps" [N, D, H, W]; float32, row i for image i.
            batch_size: images at once.
            errors: what to do with an image that cannot be read: raise TapetumError, or give a row of NaN.
            device: where to compute; by default a GPU where there is one.
            bf16: compute in bfloat16 where that is safe; faster, and some 1e-2 less exact.

        Raises TapetumError for what is no image, or names the first image that cannot be read.
        """
        if out not in ("vector", "tokens", "maps"):
            raise unknown("output", out, ("vector", "tokens", "maps"))
        if errors not in ("raise", "nan"):
            raise unknown("way with errors", errors, ("raise", "nan"))
        images, single = preparation.as_list(images, self.spec.form)
        was, home = self.training, self.mean.device
        self.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        result = None
        try:
            with Progress(len(images), "encoding") as progress:
                for pixels, at in preparation.batches(images, self.spec, batch_size, errors):
                    x = pixels.to(self.mean.device)
                    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                        y = (self(x) if out == "vector" else getattr(self, out)(x)).float().cpu().numpy()
                    if result is None:
                        result = np.full((len(images), *y.shape[1:]), np.nan, dtype=np.float32)
                    result[at] = y
                    progress.advance(len(at))
        finally:
            self.train(was).to(home)
        if result is None:
            result = np.full((len(images), self.dim), np.nan, dtype=np.float32)
        return result[0] if single else result

    def digest(self) -> str:
        """SHA-256 of the weights: equal for equal weights, whatever their memory layout or device."""
        return stored.digest(stored.own_tensors(self.net))

    def save(self, folder: str | Path) -> None:
        """Write encoder.safetensors and encoder.json, each whole or not at all."""
        folder = Path(folder)
        with replacing(folder / "encoder.safetensors") as path:
            save_file(stored.own_tensors(self.net), path, {"format": "pt"})
        facts: dict[str, Any] = {
            "format": FORMAT,
            "digest": self.digest(),
            "dim": self.dim,
            **self.spec.as_dict(),
        }
        write_json(folder / "encoder.json", facts)
