"""What a finished run leaves: the encoder and, where its method predicts, the head."""

from pathlib import Path
from typing import cast

from safetensors.torch import save_file
from torch import nn

from tapetum.base import distributed
from tapetum.base.files import replacing, write_json
from tapetum.methods.method import Method
from tapetum.train import sharding


def save(folder: Path, method: Method, classes: list[str] | None) -> None:
    """Write encoder.safetensors, encoder.json and, where the method predicts, head.safetensors, head.json.

    All processes call it, and the first one writes. Split weights become whole for it, and stay so.
    """
    product = method.product()
    kept = [product, *([cast(nn.Module, method.classifier)] if hasattr(method, "predict") else [])]
    for module in kept:
        sharding.whole(module)
    if distributed.rank():
        return
    product.save(folder)
    for head in kept[1:]:
        with replacing(folder / "head.safetensors") as path:
            save_file({n: t.detach().cpu().contiguous() for n, t in head.state_dict().items()}, path)
        write_json(folder / "head.json", {"classes": classes})
