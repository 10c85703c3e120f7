"""Memory that is freed stays with the process, since activations come and go; and how much it ever took."""

import contextlib
import ctypes
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

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


def peak(device: str = "cpu") -> int:
    """The most bytes that this process ever held: on "cuda" its tensors there, else all; 0 if unknown."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, IndexError):  # Linux: rusage would count a parent's peak too
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
