"""The parts of an embedding that are written already: Parquet files in a folder or behind an address."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.files import write_atomic
from tapetum.data.far import Far
from tapetum.data.tables import parquet_file

ABOUT, SAID = "_tapetum.json", b"tapetum"  # what the folder is, and where a part says of itself what it is

Place = Path | Far


def file_of(out: Place, number: int) -> Place:
    """The file of a part; readers of Parquet take the parts in the order of their names."""
    return out / f"part-{number:06d}.parquet"


def begun(out: Place, count: int, facts: dict[str, Any], overwrite: bool) -> dict[int, dict[str, Any]]:
    """What the parts that are there already say of themselves, by number; `facts` are noted in the folder.

    Raises TapetumError where `out` is of something else, unless `overwrite`, which removes parts.
    """
    if out.suffix in (".npz", ".safetensors") or out.is_file():
        raise TapetumError(f"{out} is a file; --engine ray writes a folder of Parquet files.")
    names = _names(out)
    facts = json.loads(json.dumps(facts))  # as they are read again: lists, not tuples
    same = ABOUT in names and _facts(out / ABOUT) == facts
    if names and not same and not overwrite:
        what = "features of something else" if ABOUT in names else "other files"
        raise TapetumError(f"{out} holds {what}; give another name, or ask to overwrite it.")
    if overwrite or not same:
        for name in names:
            if name.startswith("part-") and name.endswith(".parquet"):
                (out / name).unlink()
        put(out / ABOUT, json.dumps(facts, indent=1).encode())
        return {}
    there = [number for number in range(count) if file_of(out, number).name in names]
    with ThreadPoolExecutor(16) as pool:
        read = pool.map(lambda number: written(file_of(out, number)), there)
        return {number: said for number, said in zip(there, read) if said}


def _names(folder: Place) -> set[str]:
    if isinstance(folder, Far):
        return {found.path for found in folder.files(1)} if folder.exists() else set()
    return {item.name for item in folder.iterdir()} if folder.is_dir() else set()


def _facts(about: Place) -> Any:
    try:
        return json.loads(about.read_text())
    except ValueError:
        return None


def written(file: Place) -> dict[str, Any] | None:
    """What a part says of itself; None where it is not there or not whole."""
    if not file.exists():
        return None
    try:
        return json.loads(parquet_file(file).schema_arrow.metadata[SAID])
    except Exception:  # whatever a damaged file makes a parser raise: it is written again
        return None


def put(file: Place, content: bytes) -> None:
    """Write a file so that a reader finds all of it or nothing."""
    if isinstance(file, Far):
        file.write(content)
    else:
        write_atomic(file, content)
