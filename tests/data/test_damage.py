"""Random damage to a data file ends in a source, a Damaged image or one sentence, never in anything else."""

import io
import random
import tarfile
import zipfile

import numpy as np
import pytest

from tapetum.base.errors import TapetumError
from tapetum.data import Damaged, open_data


def make(kind, path, png):
    images = {f"c{i % 2}/{i}.png": png(i) for i in range(4)}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in images.items():
                out.writestr(name, content)
    elif kind == "tar":
        with tarfile.open(path, "w") as out:
            for name, content in images.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    elif kind == "npz":
        np.savez(path, images=np.zeros((4, 8, 8, 3), np.uint8), labels=[0, 1, 0, 1])
    elif kind == "npy":
        np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    elif kind in ("csv", "jsonl"):
        for name, content in images.items():
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).write_bytes(content)
        rows = ["path,label", *(f"{name},{name[1]}" for name in images)]
        lines = [f'{{"path": "{name}", "label": 1}}' for name in images]
        path.write_text("\n".join(rows if kind == "csv" else lines))
    else:
        pa = pytest.importorskip("pyarrow")
        table = pa.table(
            {"image": [{"bytes": b, "path": p} for p, b in images.items()], "label": [0, 1, 0, 1]}
        )
        if kind == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)


@pytest.mark.parametrize("kind", ["zip", "tar", "npz", "npy", "csv", "jsonl", "parquet", "arrow"])
def test_random_damage(kind, tmp_path, png):
    path = tmp_path / f"whole.{kind}"
    make(kind, path, png)
    assert len(open_data(path)) == 4
    whole, dice, sentences = path.read_bytes(), random.Random(0), 0
    for turn in range(60):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            low, high = dice.choice([(0, len(content)), (0, 400), (len(content) - 400, len(content))])
            content[dice.randrange(max(low, 0), min(high, len(content)))] = dice.randrange(256)
        broken = tmp_path / f"broken{turn}.{kind}"
        broken.write_bytes(content[: dice.randrange(len(content))] if turn % 5 == 0 else content)
        try:
            source = open_data(broken)
            source.summary()
            for i in range(len(source)):
                try:
                    source.read(i)
                except Damaged as error:
                    assert str(error)
        except TapetumError as error:
            sentences += 1
            assert "\n" not in str(error)
    assert sentences
