"""Memory that is freed stays with the process: activations come and go at each step."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 32 * 2**20  # bytes; what glibc allows for the second


def keep_freed() -> None:
    """Tell glibc's malloc to keep blocks of up to 32 MB when they are freed; without glibc nothing happens.

    By default it gives them back to the kernel, which fills them with zeros page by page when they are wanted
    at the next step: on two CPU cores small ResNets train about a sixth faster without
    (benchmarks/results/malloc.md). Larger blocks come and go as before.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
