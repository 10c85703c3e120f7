"""What a run is for, written beside it: the encoder and, where the method predicts, its head."""

from pathlib import Path
from typing import cast

from safetensors.torch import save_file
from torch import nn

from tapetum.base.files import replacing, write_json
from tapetum.train.setup import Job


def write(folder: Path, job: Job) -> None:
    """Write encoder.safetensors, encoder.json and, where the method predicts, head.safetensors and
    head.json."""
    job.method.product().save(folder)
    if hasattr(job.method, "predict"):
        head = cast(nn.Module, job.method.classifier).state_dict()
        with replacing(folder / "head.safetensors") as path:
            save_file({n: t.detach().cpu().contiguous() for n, t in head.items()}, path)
        write_json(folder / "head.json", {"classes": job.source.classes})
