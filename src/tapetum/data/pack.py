"""Writes a packed store, see `packed.py`: image by image, so that one that was stopped half-way goes on."""

import io
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.console import Progress, say
from tapetum.base.console import size as in_bytes
from tapetum.base.errors import TapetumError
from tapetum.base.files import lock, read_lines, sync, write_lines
from tapetum.base.threads import read_ahead
from tapetum.data.canvas import cores, free_memory, typical_side
from tapetum.data.decode import Damaged
from tapetum.data.form import Form
from tapetum.data.open import open_data
from tapetum.data.packed import HEADER, ROW, VERSION, digest, header
from tapetum.data.records import expected, record
from tapetum.data.source import Source

_FLUSH = 64 * 2**20, 2.0  # bytes or seconds after which records are seen safe on the disk
Row = list[Any]  # in the journal: [length, height, width, digest in hex], or [0, 0, 0, what was wrong]


def pack(
    data: Any,
    out: str,
    size: int | None = None,
    format: str = "auto",
    channels: int | None = None,
    levels: tuple[float, float] | None = None,
    labels: Any = "auto",
    split: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """The body of the verb `pack`; see tapetum.verbs.pack for the settings.

    What is written when it is stopped is kept beside `out`, and the same call goes on from there. Raises
    TapetumError for an `out` that cannot be, another's half-written pack, a full disk.
    """
    source = open_data(data, labels, split)
    source = source.formed(Form(channels or source.store.channels or 3, levels or source.store.levels))
    place = _place(Path(out), source.name)
    part, journal = (place.with_name(f".{place.name}.{end}") for end in ("part", "journal"))
    side = size or min(256, typical_side(source))
    kind = _chosen(source, side, format, _lines(journal)[:1], place)
    job = {"pack": VERSION, "format": kind, "side": side, "images": len(source), "of": _contents(source)}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        with part.open("r+b") as file:
            if not lock(file, wait=False):
                raise TapetumError(f"another process is writing {place}.")
            rows = _begun(file, journal, job, place)
            _write(file, journal, rows, source, side, kind, cores() if workers is None else workers)
            damaged = sum(not row[0] for row in rows)
            length = _finish(file, rows, source, side, kind) if damaged < len(rows) else 0
        if length:
            part.replace(place)
            sync(place.parent)
        else:
            part.unlink()
        journal.unlink()
    except OSError as error:
        raise TapetumError(
            f"cannot write {place}: {error.strerror or error}; what is done is kept, and the same command "
            "goes on."
        ) from error
    if not length:
        raise TapetumError(f"none of the {len(rows):,} images of {source.name} can be read: {rows[0][3]}.")
    lost = f" ({damaged:,} could not be read)" * bool(damaged)
    say(f"wrote {place}: {len(rows):,} images{lost}, {in_bytes(length)}")
    facts = {"images": len(rows), "damaged": damaged, "format": kind, "side": side, "bytes": length}
    return {"out": str(place), **facts}


def _place(out: Path, name: str) -> Path:
    """The file to write."""
    if out.is_dir():
        out = out / f"{Path(name).name}.pack"
    elif not out.suffix:
        out = out.with_name(f"{out.name}.pack")
    if out.suffix != ".pack":
        raise TapetumError(f"a pack's name ends in .pack, which {out} does not.")
    if out.exists():
        raise TapetumError(f"{out} exists already; choose another --out, or remove it.")
    if not (folder := _nearest(out)).is_dir():
        raise TapetumError(f"{folder} is a file, not a folder for {out.name}.")
    return out


def _nearest(out: Path) -> Path:
    """The folder of a file, or the first above it that exists."""
    return next(parent for parent in out.parents if parent.exists())


def _chosen(source: Source, side: int, kind: str, begun: list[dict[str, Any]], place: Path) -> str:
    """Raw or jpeg, said with its reason. Raises TapetumError for what cannot hold the images."""
    need = expected(source, side)
    memory, disk = free_memory(), shutil.disk_usage(folder := _nearest(place)).free
    channels = source.form.channels
    if kind != "auto":
        why = "as asked"
    elif begun and begun[0].get("format") in need:
        kind, why = begun[0]["format"], "as it was begun"
    elif "jpeg" not in need:
        kind, why = "raw", f"JPEG has no {channels} channels"
    elif need["raw"] <= min(memory // 2, disk):
        kind, why = "raw", f"of {in_bytes(memory)} free memory it leaves half, and nothing is decoded again"
    else:
        kind, why = "jpeg", f"decoded it would take {in_bytes(need['raw'])} of {in_bytes(memory)} free memory"
    if kind not in need:
        raise TapetumError(f"JPEG holds 1 or 3 channels, and {source.name} has {channels}; use --format raw.")
    if need[kind] > disk and not begun:
        raise TapetumError(
            f"the pack would take about {in_bytes(need[kind])}, and {folder} has {in_bytes(disk)} left; "
            "a smaller --size or --format jpeg takes less."
        )
    say(f"packing as {kind} of {side} pixels, about {in_bytes(need[kind])}: {why}")
    return kind


def _contents(source: Source) -> str:
    """Names what decides the records, as far as it can be told without reading every file."""
    rows = []
    for path, key in zip(source.paths, source.keys):
        try:
            rows.append((path, source.store.stamp(key) or source.store.digest(key).hex()))
        except Damaged as error:
            rows.append((path, str(error)))
    return digest(repr((rows, source.form)).encode(errors="surrogateescape")).hex()


# ---- what is on the disk ----


def _lines(journal: Path) -> list[Any]:
    try:
        return read_lines(journal, object)
    except FileNotFoundError:
        return []


def _begun(file: io.BufferedRandom, journal: Path, job: dict[str, Any], place: Path) -> list[Row]:
    """The rows of the records that are on the disk already; the file ends after the last of them."""
    first, *rows = _lines(journal) or [None]
    if first not in (None, job):
        raise TapetumError(
            f"{journal} and the file beside it are half a pack of other images or settings; go on with "
            "those, or remove both."
        )
    left, kept = file.seek(0, os.SEEK_END) - HEADER, []
    for row in rows:
        left -= row[0]
        if left < 0:
            break
        kept.append(row)
    file.truncate(0 if not kept else HEADER + sum(row[0] for row in kept))
    file.seek(0, os.SEEK_END)
    if kept:
        say(f"going on with {place} at image {len(kept):,} of {job['images']:,}")
    else:
        file.write(bytes(HEADER))
    write_lines(journal, [job, *kept])  # without the half line that a kill may have left
    return kept


def _write(
    file: io.BufferedRandom,
    journal: Path,
    rows: list[Row],
    source: Source,
    side: int,
    kind: str,
    threads: int,
) -> None:
    """Write the records that are missing and add their rows; a row is noted once its record is safe."""
    done = safe = len(rows)
    last, waiting = time.monotonic(), 0

    def flush() -> None:
        file.flush()
        os.fsync(file.fileno())
        notes.write("".join(json.dumps(row) + "\n" for row in rows[safe:]))
        notes.flush()
        os.fsync(notes.fileno())

    with (
        ThreadPoolExecutor(max(1, threads), "tapetum-pack") as pool,
        journal.open("a") as notes,
        Progress(len(source), "packing", done=done) as progress,
    ):
        todo = range(done, len(source))
        for one in read_ahead(
            pool if threads else None, partial(record, source, side, kind), todo, 4 * threads
        ):
            file.write(one.content)
            name = digest(one.content).hex() if one.content else one.reason
            rows.append([len(one.content), one.height, one.width, name])
            waiting += len(one.content)
            progress.advance()
            if waiting > _FLUSH[0] or time.monotonic() - last > _FLUSH[1]:
                flush()
                safe, last, waiting = len(rows), time.monotonic(), 0
        flush()


def _finish(file: io.BufferedRandom, rows: list[Row], source: Source, side: int, kind: str) -> int:
    """Write table, index and header, and see them safe. Returns the length of the file."""
    lengths = np.array([row[0] for row in rows], dtype=np.uint64)
    table = np.zeros(len(rows), ROW)
    table["offset"], table["length"] = HEADER + lengths.cumsum() - lengths, lengths
    table["height"], table["width"] = [row[1] for row in rows], [row[2] for row in rows]
    digests = "".join(row[3] if row[0] else "00" * 16 for row in rows)
    table["digest"] = np.frombuffer(bytes.fromhex(digests), np.uint8).reshape(-1, 16)
    index = {
        "name": source.name,
        "format": kind,
        "side": side,
        "channels": source.form.channels,
        "levels": source.form.levels,
        "classes": source.classes,
        "label_origin": source.label_origin,
        "notes": source.notes,
        "skipped": source.skipped,
        "damaged": {str(i): row[3] for i, row in enumerate(rows) if not row[0]},
        "paths": source.paths,
        "labels": None if source.labels is None else source.labels.tolist(),
        "split_of": source.split_of,
        "texts": source.texts,
        "columns": source.columns,
    }
    written = json.dumps(index).encode()
    at = HEADER + int(lengths.sum()) + table.nbytes
    file.write(table.tobytes() + written)
    file.seek(0)
    file.write(header(len(rows), at, table.tobytes(), written))
    file.flush()
    os.fsync(file.fileno())
    return at + len(written)
