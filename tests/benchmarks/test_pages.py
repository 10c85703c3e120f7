"""What measures pages works on small ones, and notices what a page does not do; how fast, no test asks."""

import json
from pathlib import Path

import pytest

from benchmark_modules import load

pages, rows = map(load, ("pages", "rows"))
SMALL = {"IMAGES": 40, "POINTS": 60, "RUNS": 12, "LINES": 20}


@pytest.fixture
def kept(tmp_path, monkeypatch, data_folder) -> Path:
    """Rows go into a folder of the test, and there is little on a page."""
    pytest.importorskip("playwright")
    if not Path(pages.CHROMIUM).exists():
        pytest.skip(f"no Chromium at {pages.CHROMIUM}")
    for name, number in SMALL.items():
        monkeypatch.setattr(pages, name, number)
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    return tmp_path / pages.ROWS


def test_every_part_is_measured_and_kept(kept):
    pages.main(["--rounds", "2", "--note", "small"])
    report, shown, runs = (json.loads(line) for line in kept.read_text().splitlines())
    assert [row["task"] for row in (report, shown, runs)] == list(pages.PARTS)
    assert (report["images"], shown["images"], runs["runs"]) == (40, 60, 12)
    acts = [report["open"], *(shown[n] for n in ("hover", "lasso", "filter"))]
    acts += [runs[n] for n in ("search", "unsearch", "filter", "select", "select all")]
    assert all(0 < least <= median <= most for median, least, most in acts)
    assert {row["note"] for row in (report, shown, runs)} == {"small"} and report["megabytes"] > 0


def test_a_lasso_that_takes_nothing_is_no_measurement(kept, monkeypatch):
    monkeypatch.setattr(pages, "LASSO", 'send("pointermove", 0.5, 0.5, 0);')
    with pytest.raises(AssertionError, match="selected nothing"):
        pages.main(["--only", "map", "--rounds", "1"])
    assert not kept.exists()
