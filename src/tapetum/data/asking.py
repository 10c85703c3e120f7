"""How a distant file system is asked: connected once, again where it fails, its errors in a few words."""

import functools
import os
import time
from collections.abc import Callable
from ftplib import error_perm
from typing import Any, TypeVar

from tapetum.base.addresses import shown
from tapetum.base.errors import TapetumError
from tapetum.data.form import Damaged

TRIES, PAUSE = 4, 0.5  # how often something is asked for, and seconds before the second time; they double
REFUSED = "access refused"
TIMEOUT = 60.0  # seconds that one answer may take
_FINAL = (IsADirectoryError, NotImplementedError, TypeError, ImportError, error_perm)
Answer = TypeVar("Answer")


def asked(head: str, address: str, ask: Callable[..., Answer]) -> Answer:
    """ask(file system, path in it, **how to wait), up to TRIES times, once for what is not there or refused.
    Raises Damaged.

    head: scheme and host or bucket of the address.
    """
    kind = _kind(head)
    how = {"timeout": TIMEOUT} if getattr(kind, "async_impl", False) else {}
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            fs = _system(os.getpid(), head)  # some connect, and log in, when they are made
            return ask(fs, plain(fs, address), **how)
        except Exception as error:  # each of fsspec's libraries has errors of its own
            reason, final = _reason(error)
            if final:
                raise Damaged(reason) from None
    raise Damaged(f"failed {TRIES} times ({reason})")


def plain(fs: Any, address: str) -> str:
    """An address as its file system calls it."""
    return str(fs._strip_protocol(address))


@functools.lru_cache(maxsize=64)
def _system(process: int, head: str) -> Any:
    """The file system of an address, in this process: none of them outlives a fork."""
    import fsspec

    how = _kind(head)._get_kwargs_from_urls(head + "/")
    return fsspec.filesystem(head.partition("://")[0], use_listings_cache=False, **how)


def _kind(head: str) -> Any:
    """The class of an address' file system. Raises TapetumError where there is none."""
    scheme = head.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise TapetumError(f"addresses such as {head} need fsspec: pip install 'tapetum[remote]'.") from None
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise TapetumError(f"{scheme}:// needs one more package: {_words(error)}.") from None
    except ValueError:
        raise TapetumError(
            f"there is no way to {scheme}://; among others there are s3, gs, hf, abfs, sftp, http and file."
        ) from None


def _reason(error: BaseException) -> tuple[str, bool]:
    """What went wrong in a few words, and whether asking again is of no use."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, OSError | TimeoutError | _web_error()):
        return _reason(cause)  # so fsspec calls every failure over http
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "not there", True
    unknown = any(word in type(error).__name__ for word in ("Credentials", "Authentication"))
    if status in (401, 403) or isinstance(error, PermissionError) or unknown:
        return REFUSED, True
    if isinstance(status, int):
        return f"status {status}", status < 500 and status not in (408, 425, 429)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no answer in time", False
    return _words(error), isinstance(error, _FINAL)


def _web_error() -> type[Exception]:
    try:
        from aiohttp import ClientError
    except ImportError:
        return OSError
    return ClientError


def _words(error: BaseException) -> str:
    text = " ".join(shown(str(error)).split())[:120].rstrip(".")
    return text or type(error).__name__
