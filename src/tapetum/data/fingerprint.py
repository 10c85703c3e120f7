"""Names contents by a digest that neither depends on where they lie nor is slow to compute again."""

import hashlib
import os
import sqlite3
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tapetum.base.console import Progress
from tapetum.base.files import cache_dir
from tapetum.data.decode import Damaged
from tapetum.data.stores import Store

_CHUNK = 512  # names in one question to the cache
_PART = 32  # images that a thread reads at a time


def fingerprint(digests: Sequence[bytes], paths: Sequence[str], labels: Sequence[str | None]) -> str:
    """The digest (32 hex digits) of all (path, digest of the content, label), in the order of the paths."""
    rows = sorted(zip(map(name_bytes, paths), digests, (name_bytes(label or "") for label in labels)))
    whole = hashlib.blake2b(digest_size=16)
    for path, digest, label in rows:
        whole.update(b"%d:%s%d:%s%d:%s" % (len(path), path, len(digest), digest, len(label), label))
    return whole.hexdigest()


def name_bytes(text: str) -> bytes:
    """A name in one spelling; names of files need not be text, and JSON can hold half a character."""
    text = unicodedata.normalize("NFC", text)
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def digests(store: Store, keys: Sequence[Any]) -> list[bytes]:
    """16 bytes that name every image's content, from the cache where its stamp is known there; none (b"") of
    what cannot be read."""
    stamps = [store.stamp(key) for key in keys]
    names = [hashlib.blake2b(name_bytes(s), digest_size=16).digest() if s else None for s in stamps]
    known = _cached([name for name in names if name])
    missing = [i for i, name in enumerate(names) if name not in known]

    def read(part: list[int]) -> list[bytes]:
        return [_digest(store, keys[i]) for i in part]

    found: dict[int, bytes] = {}
    if missing:
        threads = min(16, (os.cpu_count() or 1) + 4)
        parts = [missing[start : start + _PART] for start in range(0, len(missing), _PART)]
        with ThreadPoolExecutor(threads) as pool, Progress(len(missing), "reading contents") as bar:
            for part, contents in zip(parts, pool.map(read, parts)):
                found.update(zip(part, contents))
                bar.advance(len(part))
        _keep([(name, found[i]) for i in missing if (name := names[i]) and found[i]])
    return [found[i] if i in found else known[name] for i, name in enumerate(names)]


def _digest(store: Store, key: Any) -> bytes:
    try:
        return store.digest(key)
    except Damaged:  # not there or not readable; not kept, since that may be mended
        return b""


def _open() -> sqlite3.Connection:
    folder = cache_dir() / "fingerprints"
    folder.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(folder / "digests.sqlite", timeout=20)
    base.execute("CREATE TABLE IF NOT EXISTS digests (name BLOB PRIMARY KEY, digest BLOB) WITHOUT ROWID")
    return base


def _cached(names: list[bytes]) -> dict[bytes | None, bytes]:
    """What the cache knows; nothing when it is damaged or out of reach."""
    known: dict[bytes | None, bytes] = {}
    try:
        with closing(_open()) as base:
            for start in range(0, len(names), _CHUNK):
                part = names[start : start + _CHUNK]
                marks = ",".join("?" * len(part))
                known.update(base.execute(f"SELECT name, digest FROM digests WHERE name IN ({marks})", part))
            return {name: d for name, d in known.items() if isinstance(d, bytes) and len(d) == 16}
    except (sqlite3.Error, OSError):
        return {}


def _keep(rows: list[tuple[bytes, bytes]]) -> None:
    """Add to the cache; a damaged one is thrown away, and one out of reach is done without."""
    for attempt in range(2):
        try:
            with closing(_open()) as base, base:
                base.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", rows)
            return
        except sqlite3.OperationalError:  # locked, read-only, full
            return
        except (sqlite3.DatabaseError, OSError):
            if attempt == 0:
                try:
                    Path(cache_dir() / "fingerprints" / "digests.sqlite").unlink(missing_ok=True)
                except OSError:
                    return
