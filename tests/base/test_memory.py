"""Freed memory stays with the process."""

import platform
import resource

import pytest
import torch

from tapetum.base.memory import keep_freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_large_block_is_not_mapped_anew():
    keep_freed()
    torch.ones(2**26)  # 256 MB of floats, freed at once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**25)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert pages < 3000  # of 4 x 32,768, each faulting when it is mapped anew
