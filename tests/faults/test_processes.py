"""Real processes that are killed, hang, or fail one of several: what is left goes on to the same end."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tapetum
from killed_runs import ended, start
from run_files import rows
from small_faults import TINY, assert_same, pixels
from small_runs import typed
from tapetum.base.errors import TapetumError
from tapetum.train import checkpoint

# `tapetum pretrain` in a process of its own, with faults named in its environment:
# KILL=8:2 kills it when it has written the second of the files of step 8's checkpoint (3: before the
# checkpoint takes its name, 4: before old ones go); HANG=07.png never ends to read that image after step 3.
RUNNER = """
import os, signal, sys, threading
from tapetum.data import canvas
from tapetum.data.stores import Files
from tapetum.train import checkpoint, run

if "STREAM" in os.environ:
    canvas.free_memory = lambda: 0
if "KILL" in os.environ:
    step, place = map(int, os.environ["KILL"].split(":"))
    count = 0

    def counted(real, more=1):
        def call(*args, **kwargs):
            global count
            given = real(*args, **kwargs)
            if f"{step:08d}" in str(args[0]):
                count += more
                if count >= place:
                    os.kill(os.getpid(), signal.SIGKILL)
            return given
        return call

    checkpoint._write = counted(checkpoint._write)
    checkpoint.write_json = counted(checkpoint.write_json)
    if place == 4:
        checkpoint.Path.rename = counted(checkpoint.Path.rename)
if "HANG" in os.environ:
    read, log, late = Files.content, run.Run._log, threading.Event()

    def content(self, key):
        if key == os.environ["HANG"] and late.is_set():
            threading.Event().wait()
        return read(self, key)

    def noted(self, step, rate):
        log(self, step, rate)
        if step.number == 3:
            late.set()

    Files.content, run.Run._log = content, noted

from tapetum.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""
# A method of somebody's own: on the second process step 3 is spoilt, and more than two images at once are
# too many from step 5 on; DIE=1 kills that process at step 6.
METHOD = '''
"""SimCLR with faults on the second of two processes."""
import os, signal
from tapetum.methods.contrastive.simclr import SimCLR

class Faulty(SimCLR):
    """Args:
        hidden: width of the projector.
        dim: of what it gives.
    """

    def __init__(self, encoder, *, hidden: int = 8, dim: int = 4):
        super().__init__(encoder, hidden=hidden, dim=dim)

    def loss(self, batch, t):
        step, second = round(8 * t) + 1, os.environ.get("RANK") == "1"
        said = super().loss(batch, t)
        if second and step == 6 and os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)
        if second and step == 5 and (self.encoder.chunk or 4) > 2 and not os.environ.get("DIE"):
            raise MemoryError
        return {**said, "loss": said["loss"] * float("nan")} if second and step == 3 else said
'''
FAULTY = ("-c", RUNNER)
SETTINGS: dict[str, Any] = {**TINY, "steps": 8, "checkpoint_steps": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(pixels()):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photos) -> Path:
    """The run that nothing happens to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    tapetum.pretrain(str(photos), out=str(run), **SETTINGS)
    (run / "mishaps.jsonl").touch()
    return run


@pytest.fixture
def new(photos) -> list[object]:
    return [photos, "--resume", "auto", *typed(SETTINGS)]


@pytest.mark.parametrize("place", ["8:1", "6:2", "8:3", "4:4"])
def test_killed_while_it_writes_a_checkpoint(new, tmp_path, whole, place):
    run = tmp_path / "run"
    code, said = ended(start(*new, "--out", run, how=FAULTY, KILL=place))
    assert code == -signal.SIGKILL, said
    step, at = map(int, place.split(":"))
    assert (run / "checkpoints" / f"step_{step:08d}").exists() == (at == 4)
    found = checkpoint.newest(run / "checkpoints")
    assert found and found[1]["step"] == (step if at == 4 else step - 2)
    tapetum.pretrain(resume=str(run))
    (run / "mishaps.jsonl").touch()
    assert_same(run, whole)


def test_a_second_start_is_told_and_the_first_goes_on(new, tmp_path, whole, photos):
    run = tmp_path / "run"
    first = start(*new, "--out", run, how=FAULTY)
    while first.poll() is None and not (run / ".lock").exists():
        time.sleep(0.005)
    while first.poll() is None and not (run / ".lock").read_bytes():
        time.sleep(0.005)
    with pytest.raises(TapetumError, match=f"is being trained by process {first.pid} on"):
        tapetum.pretrain(str(photos), out=str(run), resume="auto", **SETTINGS)
    assert ended(first)[0] == 0
    (run / "mishaps.jsonl").touch()
    assert_same(run, whole)


def test_a_read_that_hangs_ends_the_process_with_all_saved(photos, tmp_path):
    run, settings = tmp_path / "run", {**SETTINGS, "steps": 20, "read_timeout": 1}
    code, said = ended(start(photos, "--out", run, *typed(settings), how=FAULTY, HANG="07.png", STREAM=1))
    assert code == 2 and "gives no answer" in said and "has taken more than 1 seconds" in said
    found = checkpoint.newest(run / "checkpoints")
    assert found and found[1]["step"] >= 3
    tapetum.pretrain(resume=str(run))
    assert [row["step"] for row in rows(run) if "loss" in row] == list(range(1, 21))


def test_what_happens_to_one_of_two_processes_happens_to_both(tmp_path, photos):
    run, plugin = tmp_path / "run", tmp_path / "faulty.py"
    plugin.write_text(METHOD)
    settings = {**SETTINGS, "method": str(plugin), "devices": 2}
    code, said = ended(start(photos, "--out", run, *typed(settings), how=("-m", "tapetum")))
    assert code == 0, said
    assert said.count("at step 3, which is left out") == 1
    assert said.count("memory ran out in step 5 with 4 images at once on one of the processes") == 1
    assert "going on with" in said and [r["step"] for r in rows(run, "mishaps.jsonl")] == [3]
    assert [row["step"] for row in rows(run) if "loss" in row] == [1, 2, 4, 5, 6, 7, 8]
    found = checkpoint.newest(run / "checkpoints")
    assert found and found[1]["micro_batch"] == [2, 2] and found[1]["mishaps"]["skipped"] == 1


def test_one_of_two_processes_is_killed(tmp_path, photos):
    run, plugin = tmp_path / "run", tmp_path / "faulty.py"
    plugin.write_text(METHOD)
    settings = {**SETTINGS, "method": str(plugin), "devices": 2}
    code, said = ended(start(photos, "--out", run, *typed(settings), how=("-m", "tapetum"), DIE=1))
    assert code == 1 and ("was killed" in said or "another process of this run has ended" in said), said
    assert said.count("error: ") == 1
    found = checkpoint.newest(run / "checkpoints")
    assert found and found[1]["step"] == 4
