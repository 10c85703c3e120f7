"""Checkpoints of split weights: a safetensors file for each process, as torch.distributed.checkpoint has it.

Files are written here and read by torch's reader of that format, which reads headers in JSON and bytes of
tensors. Its writer would let the processes tell each other their plans in pickles; see
docs/decisions/sharding.md.
"""

import json
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
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
SENTENCE = 200  # bytes that one process can tell the others of what went wrong


@contextmanager
def agreed() -> Iterator[None]:
    """What fails in here on one process fails on all of them, once each has come to the end of it: none goes
    on, or waits for one that does not come. Raises TapetumError with what the first of those said."""
    text = b""
    try:
        yield
    except (OSError, SafetensorError, TapetumError) as error:
        text = str(error).rstrip(".").encode()[:SENTENCE] or b"?"
    said = distributed.gather(torch.tensor([list(text.ljust(SENTENCE, b"\0"))], dtype=torch.uint8))
    for rank, row in enumerate(said.tolist()):
        if failed := bytes(row).rstrip(b"\0").decode(errors="replace"):
            raise TapetumError(f"process {rank} cannot write its part: {failed}.")


def write(folder: Path, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Write what each process holds, and on the first one what all have, too; all processes call it together.

    Returns the SHA-256 of every file by name. Raises TapetumError on all of them where one could not write.
    """
    path = folder / _name(distributed.rank(), distributed.world())
    with agreed():
        _write(path, tensors)
        own = list(bytes.fromhex(digest(path)))
    digests = distributed.gather(torch.tensor([own], dtype=torch.uint8)).tolist()
    return {_name(i, len(digests)): bytes(code).hex() for i, code in enumerate(digests)}


def complete(names: Collection[str]) -> bool:
    """Whether these are the files of one split checkpoint, and none is missing."""
    return bool(names) and set(names) == {_name(i, len(names)) for i in range(len(names))}


def _name(rank: int, world: int) -> str:
    return f"shard-{rank + 1:05d}-of-{world:05d}.safetensors"


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
    # One entry, as of several the order would be any.
    save_file(held, path, {PLACES: json.dumps(places, sort_keys=True)})
    sync(path)


def needed(path: Path, tensors: Iterable[Tensor]) -> bool:
    """Whether a checkpoint is of several parts, or is to be read into split tensors."""
    return not (path / "method.safetensors").exists() or any(map(split, tensors))


def found(path: Path, of_optimizer: bool) -> dict[str, Tensor]:
    """The method's or the optimiser's tensors in a checkpoint, by name: shapes and types without content.

    Raises TapetumError for damaged files.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    try:
        known: dict[str, Any] = dict(HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TapetumError(f"the checkpoint {path} cannot be read: {error}.") from error
    for name, facts in known.items():
        if sum(chunk.sizes.numel() for chunk in facts.chunks) != facts.size.numel():
            raise TapetumError(f"the checkpoint {path} lacks rows of {name}, or has some of them twice.")
    return {
        name: torch.empty(facts.size, dtype=facts.properties.dtype, device="meta")
        for name, facts in known.items()
        if name[:1].isdigit() == of_optimizer
    }


def read(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
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
    return tensors
