"""The settings of a run that takes seconds, which tests of whole runs share."""

from typing import Any

SMALL: dict[str, Any] = {
    "method": "simclr",
    "method_settings": {"hidden": 16, "dim": 8},
    "encoder": "resnet10_w32",
    "encoder_settings": {"channels": [8, 16, 32, 64]},
    "image_size": 32,
    "batch_size": 16,
    "log_every": 1,
    "precision": "fp32",
}
