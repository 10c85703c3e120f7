"""What a process is and runs on, for environment.json."""

import os
import platform
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tapetum.base import distributed
from tapetum.base.files import write_json
from tapetum.train import config


def note(path: Path) -> None:
    """Add this start to a list in a JSON file."""
    write_json(path, [*config.read_json_list(path), environment()])


def environment() -> dict[str, Any]:
    """What this process is and runs on."""
    names = ("tapetum", "torch", "timm", "numpy", "pillow", "safetensors")
    extras = [name for name in ("numba", "simplejpeg") if find_spec(name)]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in (*names, *extras)},
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": distributed.world(),
        "gpus": gpus,
    }
