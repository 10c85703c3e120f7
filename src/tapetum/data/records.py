"""What a packed store holds of one image: its decoded square, or a JPEG file."""

import io
from typing import NamedTuple

from PIL import Image

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError
from tapetum.data.canvas import squash
from tapetum.data.decode import Damaged, decode
from tapetum.data.packed import Pack, proportions
from tapetum.data.resize import resized
from tapetum.data.source import Source

_QUALITY = 90  # of JPEG
_SAMPLE = 16  # images that are tried to see how long JPEG gets


class Record(NamedTuple):
    """Its bytes (none where the image cannot be read), the image's true size, and what was wrong with it."""

    content: bytes
    height: int = 0
    width: int = 0
    reason: str = ""


def record(source: Source, side: int, kind: str, i: int) -> Record:
    """Image i, to be stored."""
    try:
        content, size = (_raw if kind == "raw" else _jpeg)(source, side, i)
    except Damaged as error:
        return Record(b"", reason=str(error))
    return Record(content, *size)


def _raw(source: Source, side: int, i: int) -> tuple[bytes, tuple[int, int]]:
    """As training keeps it: [C, side, side]."""
    pixels, size = squash(source, i, side)
    return pixels.tobytes(), size


def _jpeg(source: Source, side: int, i: int) -> tuple[bytes, tuple[int, int]]:
    """In its true proportions; a file that is JPEG already and no larger stays as it is."""
    pixels, size = source.read_sized(i, 0 if source.store.squares else side)
    if source.store.encoded and min(size) <= side:
        content = source.store.content(source.keys[i])
        if content.startswith(b"\xff\xd8\xff"):
            return content, size
    pixels = resized(pixels, proportions(*size, side))
    out = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue(), size


def check_records(store: Pack) -> int:
    """How many images of a pack are whole: as its checksum says, and, if a JPEG, of its size.

    Raises TapetumError with the number of those that are not, and the first.
    """
    wrong: list[str] = []
    whole = 0
    with Progress(len(store.table), "checking records") as progress:
        for key in range(len(store.table)):
            progress.advance()
            try:
                _check_record(store, key)
                whole += 1
            except Damaged:  # the pack says so itself
                continue
            except TapetumError as error:
                wrong.append(str(error))
    if wrong:
        raise TapetumError(
            f"{len(wrong):,} of {len(store.table):,} records are damaged; the first: {wrong[0]}"
        )
    return whole


def _check_record(store: Pack, key: int) -> None:
    content, true = store.content(key), store.size(key)
    if store.raw:
        return
    try:
        size = decode(content, form=store.form).shape[:2]
    except Damaged as error:
        raise TapetumError(f"record {key} of {store.path} is no image of {true}: {error}.") from error
    if size not in (true, proportions(*true, store.side)):
        raise TapetumError(f"record {key} of {store.path} is no image of {true}: {size}.")


def expected(source: Source, side: int) -> dict[str, int]:
    """The bytes that all images take in each form that can hold them; of JPEG an estimate from some."""
    need = {"raw": len(source) * source.form.channels * side * side}
    if source.form.channels in (1, 3):
        tried = range(0, len(source), max(1, len(source) // _SAMPLE))
        lengths = [len(found) for i in tried if (found := record(source, side, "jpeg", i).content)]
        need["jpeg"] = len(source) * sum(lengths) // max(1, len(lengths))
    return need
