"""Looks into pickled checkpoints without unpickling: which code they name, which tensors they describe."""

import io
import os
import pickletools
import re
import zipfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.encoders.instructions import MOST, Called, Named, Stored, entries, followed

LONGEST = 2**28  # bytes of a pickle, which holds names and shapes; the numbers lie beside it
LONGEST_NAME = 500  # characters of a tensor's name, those of the dicts around it included
DIMENSIONS = 64  # of a tensor, as many as torch has
_PARTS = 5  # pickles one after the other in torch's older form
# what tensors are rebuilt with, dicts that keep an order, and the settings beside many published weights
_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
    r"|torch\.(cuda\.)?(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|Complex\w+)Storage"
    r"|torch\.storage\.(Untyped|Typed)Storage|torch\.(u?int\d+|float\d+\w*|bfloat16|bool|complex\d+)"
    r"|torch\.(Size|device)|torch\.serialization\._get_layout"
    r"|collections\.OrderedDict|argparse\.Namespace|_codecs\.encode"
)


@dataclass
class Pickled:
    """Args:
    form: "torch's zip", "torch's older form", "TorchScript" or "pickle".
    names: what it would import, sorted.
    tensors: {name: (type, shape)} as far as it describes them.
    """

    form: str
    names: list[str]
    tensors: dict[str, tuple[str, list[int]]]

    @property
    def strange(self) -> list[str]:
        """The names of what is more than tensors."""
        return [name for name in self.names if not _HARMLESS.fullmatch(name)]

    def words(self) -> str:
        """Whether it is what a file of weights should be."""
        if self.form == "TorchScript":
            return "it holds a program, which tapetum never runs"
        if self.strange:
            return f"it would import {', '.join(self.strange[:8])}: unpickled, it could run any code"
        return "it names only what tensors are rebuilt with"


def look(file: Path) -> Pickled:
    """What a pickled file is. Raises TapetumError where it is damaged or none."""
    try:
        with file.open("rb") as opened:
            if zipfile.is_zipfile(opened):
                form, contents = _archived(file)
            else:
                opened.seek(0)
                form, contents = "pickle", _in_a_row(opened)
        named: dict[str, None] = {}
        found = [followed(content, named) for content in contents]
    except TapetumError as error:
        raise TapetumError(f"{file} is damaged or no weights file: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)[:120].rstrip(".")
        raise TapetumError(f"{file} is damaged or no weights file: {why}.") from error
    if len(found) > 1:
        form = "torch's older form"
    tensors = {name: tensor for content in found for name, tensor in _tensors(content).items()}
    return Pickled(form, sorted(named), tensors)


def _archived(file: Path) -> tuple[str, list[io.BytesIO]]:
    """The pickles of torch's zip; its members are never packed, and each stands once."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise TapetumError("a member of its archive stands twice.")
        if any(re.search(r"/code/.*\.py$", name) for name in names):
            return "TorchScript", []
        if any(member.compress_type or member.file_size != member.compress_size for member in members):
            raise TapetumError("its archive is compressed, as torch writes none.")
        wanted = [m for m in members if m.filename.endswith("/data.pkl")]
        if not wanted:
            raise TapetumError("its archive holds no weights.")
        if any(member.file_size > LONGEST for member in wanted):
            raise TapetumError(f"its names alone take over {LONGEST:,} bytes.")
        return "torch's zip", [io.BytesIO(archive.read(member)) for member in wanted]


def _in_a_row(opened: Any) -> list[io.BytesIO]:
    """The pickles that a file begins with: one, or those of torch's older form."""
    content = io.BytesIO(opened.read(min(LONGEST, os.fstat(opened.fileno()).st_size)))
    parts: list[io.BytesIO] = []
    while len(parts) < _PARTS:
        start = content.tell()
        try:
            for number, _ in enumerate(pickletools.genops(content)):
                if number > MOST:
                    raise TapetumError(f"it has over {MOST:,} instructions.")
        except ValueError:
            if not parts:
                raise
            break
        parts.append(io.BytesIO(content.getvalue()[start : content.tell()]))
    return parts


# ---- the tensors ----


def _tensors(content: Any) -> dict[str, tuple[str, list[int]]]:
    """Name, type and shape of what rebuilds tensors, in dicts within dicts; each dict once."""
    found, seen, waiting = {}, set(), deque([("", content)])
    while waiting:
        prefix, value = waiting.popleft()
        for name, part in entries(value).items():
            name = prefix + name
            if len(name) > LONGEST_NAME:  # names of names add up
                continue
            if tensor := _tensor(part):
                found[name] = tensor
            elif entries(part) and id(part) not in seen:
                seen.add(id(part))
                waiting.append((f"{name}.", part))
    return found


def _tensor(value: Any) -> tuple[str, list[int]] | None:
    if _calls(value, "torch._utils._rebuild_parameter", 1):
        value = value.given[0]
    if not _calls(value, "torch._utils._rebuild_tensor", 3):
        return None
    storage, _, shape = value.given[:3]
    about = storage.about if isinstance(storage, Stored) and isinstance(storage.about, tuple) else ()
    kind = next((part.name for part in about if isinstance(part, Named)), "?").rpartition(".")[2]
    shape = shape[:DIMENSIONS] if isinstance(shape, tuple) else ()
    sides = [n for n in shape if isinstance(n, int) and 0 <= n < 2**62]  # others have no words
    return kind.removesuffix("Storage").lower(), sides


def _calls(value: Any, name: str, least: int) -> bool:
    """Whether it would call what has a name that begins so, with at least so many arguments."""
    return (
        isinstance(value, Called)
        and isinstance(value.what, Named)
        and value.what.name.startswith(name)
        and isinstance(value.given, tuple)
        and len(value.given) >= least
    )
