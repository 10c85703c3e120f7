"""A classifier: an encoder, a calibrated head, class names, and a sense of what is unlike its training."""

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, replacing, short_id, write_json
from tapetum.encoders import Encoder, load
from tapetum.encoders.export import whole_folder
from tapetum.encoders.weights import read

FORMAT = 1
FACTS, TENSORS = "classifier.json", "classifier.safetensors"
FILES = (TENSORS, "encoder.json", "encoder.safetensors")
PORTION = 2**12  # features that a head takes at once


class Head(nn.Module):
    """What follows the features: a linear layer, a temperature, and the training images' own features.

    mean, std: [D], of the training features; all that follows takes features standardised by them.
    weight, bias: [C, D] and [C].
    bank: [n, D] standardised training features of length one.
    k: how unlike the training images an image is, is 1 - its cosine to the k-th nearest of them (deep nearest
        neighbours, Sun et al. 2022, arXiv:2204.06507). Two images are enough for it, where Mahalanobis'
        distance inverts a covariance, which takes more images than the features have numbers.
    temperature: what logits are divided by.
    """

    NAMES = ("mean", "std", "weight", "bias", "bank")
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    bank: Tensor

    def __init__(self, tensors: dict[str, Tensor], k: int, temperature: float = 1.0):
        super().__init__()
        self.k, self.temperature = k, temperature
        for name in self.NAMES:
            self.register_buffer(name, tensors[name].float().contiguous())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D] -> logits [B, C], not yet calibrated, and distances [B] in [0, 2]."""
        x = (x - self.mean) / self.std
        near = F.normalize(x, dim=1) @ self.bank.T  # [B, n]
        return F.linear(x, self.weight, self.bias), 1 - near.topk(self.k, dim=1).values[:, -1]

    @torch.no_grad()
    def of_many(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same for any number of features [N, D], in portions."""
        logits, distance = zip(*(self(part) for part in x.split(PORTION)))
        return torch.cat(logits), torch.cat(distance)


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of N images; not-a-number, or "", of those that cannot be read.

    classes: names [C].
    probabilities: float32 [N, C], calibrated.
    distance: float32 [N], how unlike the training images.
    unlike: bool [N], more so than all but a few of them are; None where the classifier cannot tell.
    """

    classes: list[str]
    probabilities: np.ndarray
    distance: np.ndarray
    unlike: np.ndarray | None

    @property
    def there(self) -> np.ndarray:
        """bool [N]: which images could be read."""
        return np.isfinite(self.distance)

    @property
    def names(self) -> list[str]:
        """The likeliest class of each image."""
        best = self.probabilities.argmax(1).tolist()
        return [self.classes[c] if there else "" for c, there in zip(best, self.there)]

    @property
    def probability(self) -> np.ndarray:
        """float32 [N], of that class."""
        return self.probabilities.max(1)


class Classifier(nn.Module):
    """An encoder and its head. `fit` makes one, `Classifier.load` reads one.

    Args:
        encoder: with its preprocessing.
        head: what follows its features.
        classes: names [C].
        threshold: the distance beyond which an image is unlike the training images; None where unknown.
        precision: "float32" or "bfloat16", what features are computed in.
        report: how it was made and how good it is, as plain data.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        classes: list[str],
        threshold: float | None,
        precision: Literal["float32", "bfloat16"] = "float32",
        report: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.encoder, self.head, self.classes, self.threshold = encoder.eval(), head, classes, threshold
        self.precision, self.report = precision, report or {}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pixels [B, C, S, S] in [0, 1] -> probabilities [B, classes], features [B, D] and, where there is a
        threshold, whether each is unlike the training images [B]."""
        features = self.encoder(x)
        logits, distance = self.head(features)
        found = ((logits / self.head.temperature).softmax(1), features)
        return found if self.threshold is None else (*found, distance > self.threshold)

    def of_features(self, x: np.ndarray) -> Predictions:
        """What follows from features [N, D] by its encoder; rows that are not-a-number stay so."""
        logits, distance = self.head.of_many(torch.from_numpy(np.array(x, dtype=np.float32)))
        far = None if self.threshold is None else (distance > self.threshold).numpy()
        return Predictions(
            self.classes, (logits / self.head.temperature).softmax(1).numpy(), distance.numpy(), far
        )

    def predict(
        self,
        images: Any,
        *,
        batch_size: int = 64,
        errors: Literal["raise", "nan"] = "raise",
        device: str | torch.device | None = None,
    ) -> Predictions:
        """Classes of images as people have them; one image counts as a list of one.

        Args:
            images: paths, PIL images, arrays or tensors (uint8 or in [0, 1]), one or many, of any sizes.
            batch_size, errors, device: see `Encoder.encode`.

        Raises TapetumError for what is no image, or names the first image that cannot be read.
        """
        bf16 = self.precision == "bfloat16"
        x = self.encoder.encode(images, batch_size=batch_size, errors=errors, device=device, bf16=bf16)
        return self.of_features(np.atleast_2d(x))

    def save(self, folder: str | Path) -> None:
        """Write a folder, whole or not at all; its encoder can be loaded from it, too.

        Raises TapetumError when it exists, or only Python can build the encoder again.
        """
        folder = Path(folder)
        savable(self.encoder, folder)
        tensors = {name: getattr(self.head, name).cpu() for name in Head.NAMES}
        with whole_folder(folder) as part:
            self.encoder.save(part)
            with replacing(part / TENSORS) as path:
                save_file(tensors, path, {"format": "pt"})
            facts = {
                "format": FORMAT,
                "classes": self.classes,
                "temperature": self.head.temperature,
                "k": self.head.k,
                "threshold": self.threshold,
                "precision": self.precision,
                "report": self.report,
                "files": {name: _digest(part / name) for name in FILES},
            }
            write_json(part / FACTS, facts | {"digest": short_id(facts)})

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """Raises TapetumError when a file is missing or damaged, or is not one that was written here."""
        folder = Path(folder)
        facts = facts_of(folder)
        for name, written in facts["files"].items():
            if _digest(folder / name) != written:
                raise TapetumError(f"{folder / name} is damaged: it is not what was written.")
        tensors, encoder = read(folder / TENSORS), load(str(folder))
        width, rows = encoder.dim, len(tensors.get("bank", ()))
        shapes = {
            "mean": [width],
            "std": [width],
            "weight": [len(facts["classes"]), width],
            "bias": [len(facts["classes"])],
            "bank": [rows, width],
        }
        found = {name: list(t.shape) for name, t in tensors.items() if t.dtype == torch.float32}
        if found != shapes or facts["k"] > rows or not all(t.isfinite().all() for t in tensors.values()):
            raise TapetumError(f"{folder / TENSORS} does not hold the head of its encoder and classes.")
        head = Head(tensors, facts["k"], facts["temperature"])
        return cls(encoder, head, facts["classes"], facts["threshold"], facts["precision"], facts["report"])

    def portable(self) -> "Classifier":
        """A copy on the CPU in float32, for other tools."""
        return copy.deepcopy(self).cpu().float().eval()


def is_classifier(what: Any) -> bool:
    """Whether a path is a classifier's folder."""
    return isinstance(what, str | Path) and (Path(what) / FACTS).is_file()


def savable(encoder: Encoder, folder: Path) -> None:
    """Raises TapetumError when a classifier with this encoder could not be saved there."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise TapetumError(f"{folder} exists already and is not overwritten: choose another --out.")
    if not encoder.spec.model:
        raise TapetumError(
            f"{encoder.name} is a module that only Python can build; a classifier needs timm's."
        )


def _digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise TapetumError(f"{file} cannot be read: {error.strerror}.") from error


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_WANTED: dict[str, Callable[[Any], bool]] = {
    "classes": lambda v: (
        isinstance(v, list) and len(v) == len(set(map(str, v))) > 1 and all(isinstance(n, str) for n in v)
    ),
    "temperature": lambda v: _number(v) and v > 0,
    "k": lambda v: type(v) is int and v > 0,
    "threshold": lambda v: v is None or _number(v),
    "precision": lambda v: v in ("float32", "bfloat16"),
    "report": lambda v: isinstance(v, dict),
    "files": lambda v: isinstance(v, dict) and set(v) == set(FILES),
}


def facts_of(folder: Path) -> dict[str, Any]:
    """What a classifier says of itself. Raises TapetumError when that is missing or damaged."""
    if not folder.is_dir() or not (folder / FACTS).exists():
        raise TapetumError(
            f"{folder} is not a classifier: there is no {FACTS} in it; `tapetum fit` makes one."
        )
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise TapetumError(f"{folder / FACTS} describes no classifier of format {FORMAT}.")
    written = {name: value for name, value in facts.items() if name != "digest"}
    try:
        whole = short_id(written) == facts.get("digest")
    except ValueError:  # not-a-number
        whole = False
    if not whole:
        raise TapetumError(f"{folder / FACTS} is damaged: its facts are not those that were written.")
    if wrong := [name for name, fits in _WANTED.items() if name not in facts or not fits(facts[name])]:
        raise TapetumError(f"{folder / FACTS} does not describe a classifier: see its {wrong[0]}.")
    return facts
