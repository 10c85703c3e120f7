"""A change of the prepared images before they reach the encoder, under a name that the store keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class View:
    """Args:
    facts: plain data that name the change, such as {"corruption": "fog", "severity": 3}.
    apply: (pixels uint8 [B, C, S, S], keys int64 [B]) -> uint8, or floats in [0, 1], of the same shape. An
        image's key is made of its content and is all that its random numbers may hang on.
    """

    facts: dict[str, Any]
    apply: Callable[[Tensor, Tensor], Tensor]
