"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from tapetum.base.memory import keep_freed

if {keep}:
    keep_freed()
layers = [layer for _ in range(4) for layer in (torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.ReLU())]
net, x = torch.nn.Sequential(*layers), torch.rand(128, 16, 32, 32)  # activations of 8 MB
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    net(x).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_blocks_that_come_and_go_fault_no_pages():
    faults = [
        int(
            subprocess.run(
                [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, check=True
            ).stdout
        )
        for keep in (False, True)
    ]
    assert faults[1] < 0.5 * faults[0], faults


def test_the_peak_is_what_was_held_at_most():
    program = (
        "from tapetum.base.memory import peak\n"
        "before = peak(); held = b'x' * 2**27; during = peak(); del held; print(before, during, peak())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert 2**26 < during - before < 2**28 and after > 0.95 * during
    assert 2**22 < before < 2**32, "bytes, in the unit of this system"
