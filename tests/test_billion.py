"""The plan of a billion images is what the measured rows say."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("build_billion", ROOT / "docs" / "build_billion.py")
assert spec and spec.loader
build_billion = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_billion)


def test_the_page_is_what_the_rows_say():
    text = build_billion.PAGE.read_text()
    assert text == build_billion.page(text), "docs/billion.md is out of date: say `make docs`"
    for name, made in build_billion.TABLES.items():
        assert made() in text, name


def test_other_assumptions_make_another_page(monkeypatch):
    text = build_billion.PAGE.read_text()
    monkeypatch.setitem(build_billion.ASSUMED, "images", (2e9, "images"))
    assert build_billion.page(text) != text
