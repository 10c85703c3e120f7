"""A machine with hostile data on it, and the verbs that a person would try on them, in one guarded process.

python -m hostile.machine FOLDER [unguarded]: makes it all in FOLDER, and prints in JSON what came of it.
"""

import contextlib
import io
import json
import os
import platform
import resource
import sys
import tarfile
import zipfile
from pathlib import Path

import torch

from hostile import archives, runs
from hostile.guard import Guard, tree
from hostile.made import ESC, TAG, commands, member, photo, png, scans, tarred, zipped
from hostile.weights import STACKED

ROOM = 3 * 2**30  # bytes of addresses beyond those of a process that has loaded torch
SMALL = (
    "--encoder resnet10_w32 --image-size 32 --batch-size 8 --steps 2 --precision fp32 --workers 0 "
    "--encoder.channels 4,8,8,16 --method simclr --method.hidden 16 --method.dim 8 --log-every 1"
)
DATA = ("hostile.zip", "hostile.tar", "photos")
EVIL = ("evil.pt", "evil.pth", "evil.bin", "evil.safetensors")
COMMANDS = [
    *(f"{verb}" for data in DATA for verb in (
        f"inspect {data}", f"preview {data} --out runs/{data}.png",
        f"look {data} --encoder pixels --out runs/{data}.html --images 20",
        f"pretrain {data} --out runs/{data} {SMALL}",
        f"evaluate runs/{data} --train-data {data} --protocols knn",
        f"report runs/{data} --images 20")),
    *(f"pretrain photos --out runs/{n} --config {n}.yaml {SMALL}" for n in ("call", "laughs", "reach")),
    "evaluate runs/photos --train-data photos --protocols suite.yaml",
    *(f"{verb}" for name in EVIL for verb in (
        f"inspect {name}", f"pretrain photos --out runs/w --weights {name} {SMALL}",
        f"look photos --encoder resnet18@{name} --out runs/w.html --images 20",
        f"evaluate resnet18@{name} --train-data photos --protocols knn",
        f"export resnet18@{name} --format timm --out runs/w")),
    *(f"{verb} stranger" for verb in ("inspect", "pretrain --resume", "preview")),
    "evaluate stranger --train-data photos --protocols knn",
    "report stranger --images 20 --out runs/stranger.html",
]  # fmt: skip


def make(folder: Path) -> None:
    """Good images among hostile ones, hostile settings and checkpoints, a stranger's run, a home."""
    folder.mkdir(parents=True)
    good = {f"{'cat' if i % 2 else 'dog'}/{i}.png": photo(16 + i % 24) for i in range(80)}
    bad = {
        "cat/huge.png": png(60_000, 60_000),
        "cat/scans.jpg": scans(300),
        "dog/program.png": b"#!/bin/sh\ntouch canary\n",
        "dog/pickle.png": STACKED,
        f"dog/{ESC}.png": photo(9),
        f"{TAG.replace('/', '')}/a.png": photo(8),
        f"{TAG.replace('/', '')}/b.png": photo(10),
    }
    for name, content in {**good, **bad}.items():
        place = folder / "photos" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (folder / "photos/cat/zero.png").symlink_to("/dev/zero")
    (folder / "photos/cat/kcore.png").symlink_to("/proc/kcore")
    (folder / "photos/cat/up").symlink_to("..")
    members = [*good.items(), *bad.items(), *((name, photo()) for name in archives.NAMES.values())]
    zipped(*members, ("dog/bomb.png", bytes(2**26)), name="hostile.zip", packing=zipfile.ZIP_DEFLATED)(folder)
    special = [member(f"dog/{i}.png", **how) for i, how in enumerate(archives.SPECIAL.values(), 90)]
    tarred(*(member(name, content) for name, content in members), *special, name="hostile.tar")(folder)
    (folder / "call.yaml").write_text(f"seed: {runs.CODE}\n")
    (folder / "laughs.yaml").write_text(runs.MAPS)
    (folder / "reach.yaml").write_text("encoder.checkpoint_path: evil.pth\n")
    (folder / "suite.yaml").write_text(f"protocols: [{runs.CODE}]\n")
    evil = {"state_dict": {"conv1.weight": torch.zeros(2)}, **commands()}
    torch.save(evil, folder / "evil.pt")
    torch.save(evil, folder / "evil.pth", _use_new_zipfile_serialization=False)
    (folder / "evil.bin").write_bytes(STACKED)
    (folder / "evil.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    (folder / "home").mkdir()
    (folder / "home/precious").write_text("mine\n")
    (folder / "home/step_00000001").mkdir()
    stranger = runs.run(folder / "stranger", data="photos", logger=["wandb"], out="home")
    (stranger / "checkpoints").symlink_to("../home")
    (stranger / "skipped.jsonl").symlink_to("../home/precious")
    (stranger / "encoder.json").write_text(
        json.dumps({"name": ESC, "model": "resnet18", "args": {"checkpoint_path": "evil.pth"}})
    )
    assert tarfile.is_tarfile(folder / "hostile.tar")


def ran(command: str, folder: Path) -> tuple[int, str]:
    from tapetum import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main(command.split())
    return code, said.getvalue()


def main(folder: Path) -> None:
    sys.modules["numba"] = None  # type: ignore[assignment] - it compiles for longer than all the rest takes
    import tapetum.base.torchvision_compat  # noqa: F401 - before the limit, as in all tests
    from tapetum import encoders

    machine = folder / "machine"
    make(machine)
    for name in ("cache", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    encoders.build("resnet10_w32", 32)
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + ROOM, addresses + ROOM))
    os.chdir(machine)
    platform.processor()  # which asks the system by a command, once
    before, guard = tree(machine), Guard()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = []
    places = (machine / "runs", folder / "cache", folder / "tmp")
    with guard.watching(machine, *places) as seen:
        for command in COMMANDS:
            code, said = ran(command, machine)
            outcomes.append({"command": command, "code": code, "said": said[-1500:]})
    after = {name: facts for name, facts in tree(machine).items() if name.split("/")[0] != "runs"}
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    canaries = [str(path) for path in folder.rglob("canary")]
    facts = {
        "outcomes": outcomes,
        "events": list(seen),
        "changed": changed,
        "mb": more >> 10,
        "canaries": canaries,
    }
    sys.__stdout__.write("\n" + json.dumps(facts, default=str) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
