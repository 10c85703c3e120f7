"""Bytes of distant files that this process has asked for and still holds: ahead of their use, and bounded."""

import io
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future

from tapetum.base.threads import Pool
from tapetum.data.far import TOGETHER, Far
from tapetum.data.form import MAX_BYTES, Damaged

BLOCK = 2**20  # bytes of a file that are asked for at a time
MOST = 5 * 2**27  # bytes that are held: 64 runs of a tar, as `stores` reads them, and those that begin
GONE = 300  # seconds after which nobody will come for what was expected

Key = tuple[Far, int, int]


class Held:
    """Answers to what was asked for, from any number of threads: all that is still to come for, else the last
    used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = Pool(TOGETHER, "tapetum-far")
        self._expected: OrderedDict[Key, tuple[Future[bytes], float]] = OrderedDict()  # and since when
        self._used: OrderedDict[Key, Future[bytes]] = OrderedDict()
        self._bytes = 0

    def expect(self, place: Far, start: int, end: int) -> None:
        """Ask for these bytes without waiting, but where that would drive out what is read before them."""
        key = place, start, end
        with self._lock:
            if key not in self._expected and key not in self._used and self._room(end - start):
                self._expected[key] = self._begun(key), time.monotonic()

    def ask(self, place: Far, start: int, end: int) -> "Future[bytes]":
        """The bytes from start up to end, which are asked for now unless they were before."""
        key = place, start, end
        with self._lock:
            found = self._expected.pop(key, (None,))[0] or self._used.pop(key, None)
            if not found or (found.done() and found.exception()):
                self._bytes -= (end - start) * bool(found)
                self._room(end - start)
                found = self._begun(key)
            self._used[key] = found
        return found

    def take(self, place: Far, start: int, end: int) -> bytes:
        """The same, waited for and not held any longer."""
        found = self.ask(place, start, end)
        try:
            return found.result()
        finally:
            with self._lock:
                if self._used.pop((place, start, end), None):
                    self._bytes -= end - start

    def _begun(self, key: Key) -> "Future[bytes]":
        place, start, end = key
        self._bytes += end - start
        return self._pool.submit(place.read, start, end)

    def _room(self, length: int) -> bool:
        """Forget what was used longest ago until so much fits in; whether it does."""
        while self._expected and time.monotonic() - next(iter(self._expected.values()))[1] > GONE:
            key, (found, _) = self._expected.popitem(last=False)
            self._used[key] = found
            self._used.move_to_end(key, last=False)
        while self._bytes + length > MOST and self._used:
            (_, start, end), _ = self._used.popitem(last=False)
            self._bytes -= end - start
        return self._bytes + length <= MOST


HELD = Held()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELD.__init__)  # type: ignore[misc] # threads do not come along


class Blocks:
    """Reads parts of a distant file at offsets, as `Pread` does of one on the disk."""

    def __init__(self, place: Far):
        self.place = place

    def __call__(self, offset: int, length: int) -> bytes:
        if length > MAX_BYTES:
            raise Damaged(f"longer than {MAX_BYTES:,} bytes")
        size = self.place.stat().st_size
        if offset < 0 or offset + length > size:
            raise Damaged("cut off: its archive ends before it")
        first = offset // BLOCK
        asked = [
            HELD.ask(self.place, start, min(start + BLOCK, size))
            for start in range(first * BLOCK, offset + length, BLOCK)
        ]
        content = b"".join(future.result() for future in asked)
        part = content[offset - first * BLOCK :][:length]
        if len(part) < length:
            raise Damaged("cut off: its archive ends before it")
        return part

    def expect(self, offset: int, length: int) -> None:
        """Ask for this part without waiting for it."""
        size = self.place.stat().st_size
        for start in range(offset // BLOCK * BLOCK, min(offset + length, size), BLOCK):
            HELD.expect(self.place, start, min(start + BLOCK, size))


class File(io.RawIOBase):
    """A distant file, opened for reading; what goes wrong is Damaged and names it."""

    def __init__(self, place: Far):
        self.place, self.part, self.at = place, Blocks(place), 0
        try:
            self.size = place.stat().st_size
        except Damaged as error:
            raise Damaged(f"cannot read {place}: {error}") from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError("a place before the beginning")
        self.at = base + offset
        return self.at

    def readinto(self, room) -> int:  # type: ignore[no-untyped-def]
        length = max(0, min(len(room), self.size - self.at))
        if length:
            try:
                room[:length] = self.part(self.at, length)
            except Damaged as error:
                raise Damaged(f"cannot read {self.place}: {error}") from error
            self.at += length
        return length
