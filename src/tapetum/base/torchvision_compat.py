"""Makes torchvision, and timm which imports it, importable beside a CPU-only torch.

torchvision's wheels are built for CUDA. Beside a CPU-only torch its compiled part does not load, and its
Python part then fails to register two operators that were never declared. Declaring them is enough for
what timm uses. A healthy installation is left alone: declaring them there would abort the process.
"""

import importlib
import sys

BROKEN = "operator torchvision::nms does not exist"
_declared: list = []  # keeps the library object, and so the declaration, alive


def ensure() -> None:
    """Import torchvision, declaring its operators first where its compiled part is missing."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if str(error) != BROKEN:
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")


ensure()
timm = importlib.import_module("timm")
importlib.import_module("timm.optim")
