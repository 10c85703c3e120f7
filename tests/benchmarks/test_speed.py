"""Benchmarks run in a tiny form, so that they do not rot; how fast anything is, no test asks."""

import json
from pathlib import Path

import pytest
import torch

from benchmark_modules import load

contenders, rows, speed, step, views = map(load, ("contenders", "rows", "speed", "step", "views"))


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """Rows and page go into a folder of the test, which takes no longer and no more cores than it must."""
    monkeypatch.setattr(views, "SHORTEST", 1e-6)
    monkeypatch.setattr(step, "cores", lambda: 1)
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "PAGE", tmp_path / "speed.md")
    return tmp_path


@pytest.mark.parametrize("name", contenders.CPU)
@pytest.mark.parametrize("part", ["32-blur", "224"])
def test_each_contender_makes_the_views_that_are_asked_for(name, part, tmp_path):
    policy = views.POLICIES[part]
    try:
        one = contenders.CPU[name](policy, "cpu")
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    blocks = torch.randint(0, 2, (15, 20, 3), generator=torch.Generator().manual_seed(0))
    pixels = (255 * blocks).byte().numpy().repeat(25, 0).repeat(25, 1)
    file = tmp_path / "a.jpg"
    views.Image.fromarray(pixels).save(file, quality=95)
    for images in ([one.take(pixels)] * 8, [one.read(file)] * 8):
        x = one.views(images)
        assert x.shape == (16, 3, policy.size, policy.size) and x.dtype == torch.float32
        low, high = float(x.min()), float(x.max())
        assert (low < -1 and high > 1) if policy.normalise else (-1e-3 <= low < 0.3 and 0.7 < high <= 1.001)
        assert len({float(v.mean()) for v in x}) > 12  # each view is drawn by itself


def test_views_of_all_are_measured_shown_and_kept(data_folder, kept, capsys):
    views.main(["--only", "32,224", "--images", "4", "--rounds", "2"])
    found = [json.loads(line) for line in (kept / "views.jsonl").read_text().splitlines()]
    assert [row["task"] for row in found] == ["32", "224"]
    for row in found:
        assert set(row["rates"]) | set(row["missing"]) == {speed.OURS, *contenders.CPU}
        assert all(len(rates) == 2 and min(rates) > 0 for rates in row["rates"].values())
        assert {"commit", "machine", "date", "versions"} <= set(row)
    page, said = (kept / "speed.md").read_text(), capsys.readouterr().out
    for task in ("32", "224"):
        assert speed.TASKS[task].title in page and speed.TASKS[task].title in said
        assert f"benchmarks.views --only {task}`" in page
    assert speed.TASKS["gpu"].title not in page
    before = page
    views.main(["--only", "32", "--images", "4", "--rounds", "1", "--dry"])
    assert (kept / "speed.md").read_text() == before
    assert len((kept / "views.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, which would be measured")
def test_without_a_gpu_its_parts_say_so(kept, capsys):
    views.main(["--only", "gpu"])
    step.main(["--only", "gpu-step"])
    assert capsys.readouterr().out.count("there is no GPU here") == 2
    assert list(kept.iterdir()) == []


def test_steps_are_measured_beside_ready_tensors(data_folder, kept, capfd):
    step.main(["--only", "step", "--images", "64", "--batch", "8", "--steps", "1", "--rounds", "1"])
    [row] = [json.loads(line) for line in (kept / "step.jsonl").read_text().splitlines()]
    assert set(row["rates"]) == {speed.OURS, speed.READY}
    assert speed.READY in (kept / "speed.md").read_text()


@pytest.mark.skipif(rows.version("lightly") is None, reason="lightly is not installed")
def test_steps_are_measured_beside_lightlys_example(data_folder, kept, monkeypatch):
    monkeypatch.setattr(step, "WORKERS", 1)
    step.main(["--only", "lightly", "--images", "64", "--batch", "8", "--steps", "1", "--rounds", "1"])
    [row] = [json.loads(line) for line in (kept / "step.jsonl").read_text().splitlines()]
    assert len(row["rates"]) == 3 and "As it is: 1 workers" in row["settings"]


def test_a_part_unknown_is_one_sentence(capsys):
    for module in (views, step):
        with pytest.raises(SystemExit, match="there is no part 'tenfold'; there are "):
            module.main(["--only", "tenfold"])


def test_contenders_take_turns_and_only_warm_up_first():
    turns = []

    def measure(name):
        return lambda: turns.append(name) or float(len(turns))

    found = rows.in_turn({"a": measure("a"), "b": measure("b")}, 2)
    assert turns == ["a", "b"] * 3 and found == {"a": [3, 5], "b": [4, 6]}
    assert rows.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == (3.0, 2.0, 4.0)


def test_the_page_takes_the_last_row_and_sorts_by_speed(kept):
    facts = {"commit": "c", "machine": "m", "date": "d", "missing": {"lightly": "not installed"}}
    for rate in (9.0, 30.0):
        speed.keep({"task": "32", "rates": {"kornia": [2.0, 4.0, 3.0], speed.OURS: [rate] * 3}, **facts})
    page = (kept / "speed.md").read_text().splitlines()
    [ours] = [line for line in page if line.startswith("| tapetum ")]
    [theirs] = [line for line in page if line.startswith("| kornia ")]
    assert page.index(ours) < page.index(theirs) and ours == "| tapetum | 30 | 30 to 30 |  |  |"
    assert theirs == "| kornia | 3 | 2 to 4 | 10 (7.5 to 15) | 4 |"
    assert "Not measured: lightly (not installed)." in "\n".join(page)


def test_what_is_not_under_the_mit_licence_takes_no_part(monkeypatch):
    for package, found in (("albumentations", "2.0.9"), ("albumentationsx", "2.1.0")):
        there = {package: found}
        monkeypatch.setattr(contenders, "version", there.get)
        _, missing = contenders.contenders(views.POLICIES["32"])
        assert "MIT" in missing["albumentations"] or "AGPL" in missing["albumentations"]
        assert missing["kornia"] == "not installed"
