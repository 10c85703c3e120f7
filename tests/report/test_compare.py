"""A comparison in words, tables, files and a picture: what is drawn lies where the numbers are."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

import tapetum
from small_results import result, run, said, write
from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.evaluate.scoreboard import compare
from tapetum.report import dots, tables
from tapetum.report.compare import as_json, words
from tapetum.report.sheet import COLOURS


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[str]:
    """A, B surely better, C like A; two numbers, of which less of the second is better; pixels."""
    folder = tmp_path_factory.mktemp("runs")
    for name, share, i in (("A", 0.5, 0), ("B", 0.75, 1), ("C", 0.51, 0)):
        error = result(said(1 - share, i + 5), name, name="error")
        pixels = result(said(0.2, 9), "P", "pixels")
        run(folder / name, result(said(share, i), name), error, pixels, minutes=4 * (name == "B"))
    return [str(folder / name) for name in "ABC"]


@pytest.fixture(scope="module")
def board(runs):
    return compare(runs)


def ask(capsys, *arguments: object) -> tuple[int, str, str]:
    code = cli.main(list(map(str, arguments)))
    return (code, *capsys.readouterr())


# ---- tables and words ----


def test_the_screen_shows_values_differences_subjects_and_cost(runs, board, capsys):
    code, out, err = ask(capsys, "compare", *runs)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    row = board.rows[0]
    assert ["A", "B", "C", "pixels"] in lines
    shown = [f"{row.results[n].value:.3f}" for n in ("A", "B", "C", "pixels")]
    assert next(line for line in lines if line[:2] == ["knn", "accuracy"])[2::3] == shown
    found = row.apart["B"]
    low, high = found.interval
    assert f"B {found.value:+.3f} [{low:+.3f}, {high:+.3f}] < 0.001 < 0.001 * " in " ".join(out.split())
    assert out.count(" * ") == 2, "B in both numbers"
    assert f"{found.only[0]}/{found.only[1]}" in out
    assert ["weights", "A", "B", "C", "P"] in lines and not any(line[:1] == ["precision"] for line in lines)
    assert ["parameters", *4 * ["1.25", "M"]] in lines
    assert ["minutes", "of", "training", "4.0"] in lines and ["2.0", "GB"] in [line[-2:] for line in lines]


def test_words_say_what_is_beyond_chance_and_what_is_not(board):
    text = " ".join(words(board))
    gains = [row.apart["B"].value for row in board.rows]
    assert (
        f"B is beyond chance higher in knn accuracy ({gains[0]:+.3f}); "
        f"and lower in error accuracy ({gains[1]:+.3f}) than A." in text
    )
    assert "C and A cannot be told apart in any number." in text
    assert "Holm's correction for all 4 comparisons" in text
    assert "McNemar's exact test" in text and "Less is better of error accuracy." in text


def test_what_cannot_be_compared_is_among_the_words(runs, tmp_path):
    other = run(tmp_path / "D", result(said(0.5, 1), "D"), result(said(0.5, 1), "D", name="svm"))
    assert words(compare([runs[0], str(other)]))[-2:] == [
        "Only A has: error accuracy.",
        "Only D has: svm accuracy.",
    ]


def test_sets_are_named_only_where_there_are_several(tmp_path):
    for name in "AB":
        parts = [result(said(0.5, 1), name, data=data, set=data) for data in ("cats", "dogs")]
        run(tmp_path / name, *parts)
    board = compare([str(tmp_path / name) for name in "AB"])
    assert [tables.label(board, row) for row in board.rows] == [
        "knn accuracy on cats",
        "knn accuracy on dogs",
    ]
    assert [row[:2] for row in tables.tables(board)[0].rows] == [
        ["knn accuracy", "cats"],
        ["knn accuracy", "dogs"],
    ]
    [over] = [one for one in tables.tables(board) if one.title == "over all"]
    assert over.rows[0][:2] == ["knn accuracy, 2 sets", "A"]


def test_many_subjects_stand_in_several_tables_that_fit():
    names = [f"encoder {i}" for i in range(9)]
    whole = tables.Table("values", ["", "on", *names], [["knn", "cats", *map(str, range(9))]], keys=2)
    parts = list(tables.pieces(whole, 60))
    assert [len(part.columns) for part in parts] == [6, 6, 3]  # 5 + 6 + 11 a subject
    assert [name for part in parts for name in part.columns[2:]] == names
    assert [cell for part in parts for cell in part.rows[0][2:]] == list("012345678")
    assert all(part.rows[0][:2] == ["knn", "cats"] for part in parts)
    assert [len(part.columns) for part in tables.pieces(whole, 5)] == 9 * [3], "one subject at least"
    assert next(tables.pieces(tables.Table("words", ["a" * 99], [["b"]]), 20)).columns == ["a" * 99]


@pytest.mark.parametrize(
    "value, name, expected",
    [(999, "flops", "999"), (168e6, "flops", "168 M"), (4.1e9, "flops", "4.1 G"), (3072, "dim", "3,072"),
     (2e9, "memory", "2.0 GB"), (0.5, "minutes", "0.5"), (None, "flops", "")],
)  # fmt: skip
def test_costs_are_short(value, name, expected):
    assert tables.amount(value, name) == expected


# ---- files ----


def test_files_hold_the_same_numbers(runs, board, tmp_path, capsys):
    outs = [tmp_path / f"c.{kind}" for kind in ("json", "csv", "md", "png")]
    code, *_ = ask(capsys, "compare", *runs, "--out", ",".join(map(str, outs)))
    assert code == 0
    everything = json.loads(outs[0].read_text())
    assert everything == json.loads(json.dumps(as_json(board)))
    assert [s["name"] for s in everything["subjects"] if s["baseline"]] == ["pixels"]
    with outs[1].open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7, "four have the first number, three the second"
    for number in everything["numbers"]:
        for name, found in number["values"].items():
            [line] = [x for x in lines if (x["number"], x["subject"]) == (number["number"], name)]
            assert float(line["value"]) == found["value"] and float(line["high"]) == found["interval"][1]
            if name in number["differences"]:
                assert float(line["p_holm"]) == number["differences"][name]["p_holm"]
                assert line["beyond_chance"] == str(name == "B")
    page = outs[2].read_text()
    assert page.startswith("# Comparison\n\n## values") and "| ---: |" in page
    assert all(f"- {line}\n" in page for line in words(board))
    widths = {line.count("|") for line in page.split("## ")[1].splitlines() if line.startswith("|")}
    assert widths == {6}
    code, _, err = ask(capsys, "compare", *runs, "--out", outs[1])
    assert code == 2 and "exists already" in err
    assert ask(capsys, "compare", *runs, "--out", outs[1], "--overwrite")[0] == 0
    code, _, err = ask(capsys, "compare", *runs, "--out", tmp_path / "c.pdf")
    assert code == 2 and "unknown format '.pdf'" in err


def test_flags_may_stand_between_runs_and_python_asks_the_same(runs, capsys):
    code, out, _ = ask(capsys, "compare", runs[0], "--against", "B", runs[1], "--protocols", "knn", "--json")
    typed = json.loads(out)
    assert code == 0 and typed["reference"] == "B" and len(typed["numbers"]) == 1
    asked = tapetum.compare(runs[0], Path(runs[1]), against="B", protocols=["knn"])
    assert json.loads(json.dumps(asked)) == typed
    with pytest.raises(TapetumError, match="compare needs runs"):
        tapetum.compare()
    code, _, err = ask(capsys, "compare", runs[0], "--agianst", "B")
    assert code == 2 and "did you mean '--against'" in err


# ---- the picture ----


def ink_of(image: Image.Image, colour: str, box: tuple[int, int, int, int]) -> np.ndarray:
    """Columns and rows [n, 2] of a box that have just this colour."""
    part = np.asarray(image.crop(box).convert("RGB")).astype(int)
    rows, columns = np.nonzero((abs(part - ImageColor.getrgb(colour)) < 3).all(2))
    return np.stack([columns + box[0], rows + box[1]], 1)


def test_dots_and_intervals_lie_at_their_values(board):
    image = dots.drawn(board)
    pen, scale = dots.Pen(1, 1), dots.SCALE
    left = dots.MARGIN + max(pen.length(s.name, 11) for s in board.all) + 12
    middle = (left + dots.PANEL + dots.GAP / 2) * scale
    row = board.rows[0]
    axis = dots.Axis.over(row, left + 8, left + dots.PANEL - 8)
    for i, name in enumerate("ABC"):
        found = ink_of(image, COLOURS[i], (0, 0, int(middle), image.height))
        r = row.results[name]
        ends = [axis.at(v) * scale for v in r.interval]
        assert found[:, 0].min() == pytest.approx(ends[0], abs=2)
        assert found[:, 0].max() == pytest.approx(ends[1], abs=2)
        lane = np.median(found[:, 1])
        thick = found[abs(found[:, 1] - lane) > 2 * scale]
        assert thick[:, 0].mean() == pytest.approx(axis.at(r.value) * scale, abs=2)
    grey = ink_of(image, dots.GREY, (int(left * scale), 0, int(middle), image.height))
    assert abs(grey[:, 0] - axis.at(row.results["pixels"].value) * scale).min() < 2


def test_what_is_not_told_apart_is_hollow(board):
    image = dots.drawn(board)
    pen, scale = dots.Pen(1, 1), dots.SCALE
    left = dots.MARGIN + max(pen.length(s.name, 11) for s in board.all) + 12
    axis = dots.Axis.over(board.rows[0], left + 8, left + dots.PANEL - 8)
    for i, name in enumerate("ABC"):
        ink = ink_of(image, COLOURS[i], (0, 0, int((left + dots.PANEL) * scale), image.height))
        y = int(np.median(ink[:, 1]))
        middle = image.getpixel((round(axis.at(board.rows[0].results[name].value) * scale), y))
        hollow = middle == ImageColor.getrgb(dots.PAPER)
        assert hollow == (name == "C")


def test_subjects_differ_without_colour_too():
    assert len(set(zip(COLOURS, dots.SHAPES * 2))) == len(COLOURS)
    drawn = []
    for shape in dots.SHAPES:
        pen = dots.Pen(20, 20)
        pen.mark(10, 10, shape, "#000000", True)
        drawn.append(np.asarray(pen.finished().convert("L")))
    for i, one in enumerate(drawn):
        assert 100 < (one < 128).sum() < 500
        assert all((abs(one.astype(int) - other) > 100).sum() > 20 for other in drawn[:i])


@pytest.mark.parametrize(
    "low, high, expected",
    [(0.0, 1.0, ["0", "0.5", "1.0"]), (0.51, 0.58, ["0.52", "0.54", "0.56", "0.58"]),
     (-30.0, 260.0, ["0", "100", "200"]), (1800.0, 4100.0, ["2,000", "3,000", "4,000"])],
)  # fmt: skip
def test_ticks_are_round(low, high, expected):
    axis = dots.Axis(low, high, 0, 100)
    assert [axis.words(tick) for tick in axis.ticks()] == expected
    assert axis.at(low) == 0 and axis.at(high) == 100


def test_a_panel_of_equal_values_and_one_without_interval_is_drawn(tmp_path):
    same = [result(None, name, value=0.5, name="labelfree") for name in "AB"]
    odd = [result(None, name, value=1e-9, name="other") for name in "AB"]
    for name, *parts in zip("AB", same, odd):
        run(tmp_path / name, *parts)
    write(tmp_path / "B" / "results.json", result(None, "B", value=2.0, name="labelfree", head={"k": 1}))
    image = dots.drawn(compare([str(tmp_path / name) for name in "AB"]))
    assert image.width > 2 * dots.PANEL


def test_more_numbers_than_can_be_read_are_not_all_drawn(board, monkeypatch):
    monkeypatch.setattr(dots, "MOST", 1)
    assert dots.drawn(board).width < dots.SCALE * 2 * dots.PANEL
    assert "The first 1 of 2 numbers." in dots._legend(board)
