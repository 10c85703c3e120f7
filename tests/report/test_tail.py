"""Lines of a growing file: each is read once, damaged ones are passed over, a new file is begun anew."""

import pytest

from tapetum.report.tail import Tail, is_number


def test_each_line_is_read_once_and_a_half_one_waits(tmp_path):
    file = tmp_path / "x.jsonl"
    tail = Tail(file, ("step",))
    tail.refresh()
    assert (tail.rows, tail.begun) == ([], 0)
    file.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    tail.refresh()
    assert [row["step"] for row in tail.rows] == [1, 2] and tail.begun == 1
    tail.rows[0] = {"step": "as it was"}
    with file.open("ab") as more:
        more.write(b'ep": 3}\n{"step": 4}')
    tail.refresh()
    assert [row["step"] for row in tail.rows] == ["as it was", 2, 3, 4] and tail.damaged == 0
    with file.open("ab") as more:
        more.write(b'\n{"step": 5}\n')
    tail.refresh()
    assert [row["step"] for row in tail.rows][2:] == [3, 4, 5] and (tail.begun, tail.damaged) == (1, 0)


def test_damaged_lines_are_counted_and_passed_over(tmp_path):
    file = tmp_path / "x.jsonl"
    wrong = [b"{", b"7", b"[]", b'{"loss": 1}', b'{"step": "x"}', b"\0\0\0", b"\xff", b"[" * 9999]
    file.write_bytes(b'{"step": 1}\n' + b"\n".join(wrong) + b'\n{"step": 2}\n')
    tail = Tail(file, ("step",))
    tail.refresh()
    assert [row["step"] for row in tail.rows] == [1, 2] and tail.damaged == len(wrong)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    file, other = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n')
    tail = Tail(file, ("step",))
    tail.refresh()
    other.write_text('{"step": 1}\n{"step": 3}\n{"step": 4}\n')
    other.replace(file)
    tail.refresh()
    assert [row["step"] for row in tail.rows] == [1, 3, 4] and tail.begun == 2
    file.write_text('{"step": 9}\n')  # the same file, cut short
    tail.refresh()
    assert [row["step"] for row in tail.rows] == [9] and tail.begun == 3
    file.unlink()
    tail.refresh()
    assert tail.rows == []


@pytest.mark.parametrize("value", [10**309, -1.7e308, float("nan"), float("-inf"), True, "1", None])
def test_what_no_one_can_reckon_with_is_no_number(value):
    assert not is_number(value) and all(map(is_number, [0, -2.5, 1e300]))
