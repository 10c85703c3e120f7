"""Checkpoints of split weights: a safetensors file for each process, as torch.distributed.checkpoint has it.

Files are written here and read by torch's reader of that format, which reads headers in JSON and bytes of
tensors. Its writer would let the processes tell each other their plans in pickles; see
docs/decisions/sharding.md.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tapetum.base import distributed
from tapetum.base.errors import TapetumError
from tapetum.base.files import digest, sync
from tapetum.train.sharding import split

PLACES = "DCP_SHARDING_INFO"  # in a file's header: where each part begins in its whole tensor
DIGEST = 32  # bytes of a SHA-256


def write(folder: Path, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Write what each process holds, and on the first one what all have, too; all processes call it together.

    Returns the SHA-256 of every file by name. Raises TapetumError on all of them where one could not write.
    """
    problem = ""
    path = folder / _name(distributed.rank())
    try:
        _write(path, tensors)
        own = list(bytes.fromhex(digest(path)))
    except (OSError, SafetensorError) as error:
        problem, own = str(error), DIGEST * [0]
    digests = [bytes(d) for d in distributed.gather(torch.tensor([own], dtype=torch.uint8)).tolist()]
    if failed := [i for i, code in enumerate(digests) if not any(code)]:
        raise TapetumError(f"process {failed[0]} cannot write its part" + (f": {problem}" if problem else ""))
    return {_name(i): code.hex() for i, code in enumerate(digests)}


def _name(rank: int) -> str:
    return f"shard-{rank + 1:05d}-of-{distributed.world():05d}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    held, places = {}, {}
    for name, tensor in tensors.items():
        rows = 0
        if split(tensor):
            rows = min(-(-len(tensor) // distributed.world()) * distributed.rank(), len(tensor))
            tensor = tensor.to_local()  # type: ignore[attr-defined]
        elif distributed.rank():
            continue
        if tensor.numel() or not distributed.rank():
            held[name] = tensor.detach().cpu().contiguous()
            places[name] = {"saved_offsets": [rows, *(tensor.ndim - 1) * [0]] if tensor.ndim else []}
    save_file(held, path, {PLACES: json.dumps(places)})  # of several entries the order would be any
    sync(path)


def needed(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether a checkpoint is of several parts, or is to be read into split tensors."""
    return not (path / "method.safetensors").exists() or any(map(split, tensors.values()))


def found(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shapes and types of all tensors in a checkpoint, by name. Raises TapetumError for damaged files."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    try:
        known: dict[str, Any] = dict(HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)
        return {name: (facts.size, facts.properties.dtype) for name, facts in known.items()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TapetumError(f"the checkpoint {path} cannot be read: {error}.") from error


def fill(path: Path, tensors: dict[str, Tensor]) -> None:
    """Read tensors from a checkpoint in place: of split ones each process reads its own rows alone.

    Raises TapetumError where it cannot be read.
    """
    from torch.distributed import checkpoint as dcp

    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # each process reads for itself
        try:
            dcp.load(dict(tensors), storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
        except Exception as error:  # of kinds of its own, around whatever a damaged file leads to
            why = " ".join(str(error).split())[:200]
            raise TapetumError(f"the checkpoint {path} cannot be read: {why}.") from error
