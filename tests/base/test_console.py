"""What people read: times, sizes, progress and tables; programs read the other stream."""

import pytest

from tapetum.base import console


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (425, "7m05s"),
        (3599.6, "1h00m"),
        (11_520, "3h12m"),
        (187_200, "2d04h"),
    ],
)
def test_a_duration(seconds, text):
    assert console.duration(seconds) == text


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (123_000, "123 kB"),
        (2.5e9, "2.5 GB"),
        (7e15, "7000.0 TB"),
    ],
)
def test_a_size(count, text):
    assert console.size(count) == text


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Progress(1000, "reading", done=200, every=20) as progress:
        for _ in range(8):
            now[0] += 5
            progress.advance(50, loss=1.23456, waiting="3%")
    assert capsys.readouterr().out.splitlines() == [
        "reading: 400/1,000 images  10/s  1m00s left  loss 1.235  waiting 3%",
        "reading: 600/1,000 images  10/s  40s left  loss 1.235  waiting 3%",
    ]


def test_progress_on_a_terminal_is_one_line_that_is_wiped(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console._stream(), "isatty", lambda: True)
    with console.Progress(10, "reading") as progress:
        for _ in range(10):
            now[0] += 0.25
            progress.advance()
    out = capsys.readouterr().out
    assert "\n" not in out and out.count("reading: ") == 10 and out.endswith(" \r")


def test_what_is_for_people_leaves_stdout_to_programs(capsys, monkeypatch):
    for mode in (False, True):
        monkeypatch.setattr(console, "json_mode", mode)
        console.say("a line")
        console.table([("one", 1.5), ("two", "")], ("name", "value"), "a title")
        out, err = capsys.readouterr()
        said, silent = (err, out) if mode else (out, err)
        assert silent == "" and [line.split() for line in said.splitlines()] == [
            ["a", "line"],
            ["a", "title"],
            ["name", "value"],
            ["one", "1.5"],
            ["two"],
        ]
    console.warn("mind this")
    assert capsys.readouterr().err == "warning: mind this\n"


def test_a_long_cell_is_folded_and_not_cut(capsys):
    words = " ".join(f"word{i}" for i in range(60))
    console.table([("x", words)], ("name", "meaning"))
    assert capsys.readouterr().out.split()[2:] == ["x", *words.split()]
