"""Where data lies: what was typed as a path on this machine or a place behind an address."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from tapetum.base.addresses import ADDRESS
from tapetum.base.errors import TapetumError
from tapetum.base.files import cache_dir, read_json, short_id, write_json
from tapetum.data.far import Far


def place(text: str | os.PathLike) -> Path | Far:
    """A path; text with a scheme is an address, of which file:// is a path again. Raises TapetumError."""
    if isinstance(text, Far):
        return text
    text = os.fspath(text)
    found = ADDRESS.match(text)
    if not found:
        return Path(text).expanduser()
    if found[1].lower() in ("file", "local"):
        rest = text[found.end() :]
        return Path(url2pathname(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))
    return Far.of(text)


def here(path: Path | Far) -> Path | Far:
    """The same, or its copy on this disk where filecache:: before the address asked for one."""
    if not isinstance(path, Far) or not path.copy or path.is_dir():
        return path
    return path.copied()


def mapped(path: Path | Far) -> Path:
    """A path that can be mapped into memory. Raises TapetumError for what lies elsewhere."""
    if isinstance(path, Far):
        raise TapetumError(
            f"{path} is of a kind that must lie on this machine's disk; "
            f"filecache::{path} copies a file into the cache first."
        )
    return path


def remembered(path: Path | Far, scan: Callable[[Path | Far], list[Any]]) -> list[Any]:
    """scan(path), which for a distant file is kept in the cache while that stays the same; rows are lists."""
    stamp = path.stamp() if isinstance(path, Far) else None
    if not stamp:
        return scan(path)
    file = cache_dir() / "listings" / f"{short_id({'listing': stamp})}.json"
    with contextlib.suppress(TapetumError):
        return read_json(file)
    rows = scan(path)
    with contextlib.suppress(TapetumError):  # a full disk
        write_json(file, rows)
    return rows
