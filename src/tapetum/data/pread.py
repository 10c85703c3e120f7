"""Parts of a file on this disk, read at offsets by any number of threads."""

import contextlib
import os
import threading

from tapetum.data.form import MAX_BYTES, Damaged

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


class Pread:
    """Reads parts of a file at offsets, from any number of threads and processes at once."""

    def __init__(self, path: str):
        self.path = path
        self._lock = threading.Lock()
        self._handle: int | None = None

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.__init__(path)  # type: ignore[misc]

    def __call__(self, offset: int, length: int) -> bytes:
        if length > MAX_BYTES:
            raise Damaged(f"longer than {MAX_BYTES:,} bytes")
        try:
            handle = self._opened()
            if offset + length > os.fstat(handle).st_size:  # before room is made for it
                raise Damaged("cut off: its archive ends before it")
            if hasattr(os, "pread"):  # moves no shared position, so it also works after a fork
                content = os.pread(handle, length, offset)
            else:
                with self._lock:
                    os.lseek(handle, offset, os.SEEK_SET)
                    content = os.read(handle, length)
        except (OSError, OverflowError, MemoryError) as error:
            raise Damaged(f"its archive cannot be read ({error})") from error
        if len(content) < length:
            raise Damaged("cut off: its archive ends before it")
        return content

    def expect(self, offset: int, length: int) -> None:
        """Ask the system to read this part, all at once and without waiting for it."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._opened(), offset, length, os.POSIX_FADV_WILLNEED)

    def _opened(self) -> int:
        if self._handle is None:
            with self._lock:
                if self._handle is None:
                    self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        return self._handle

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def allow_open(files: int) -> None:
    """Let this process have so many files open, as far as the system allows."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = files + 256 if hard == resource.RLIM_INFINITY else min(files + 256, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
