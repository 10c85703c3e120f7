"""Reading ahead: in order, no further than said, and nothing left waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tapetum.base.threads import read_ahead


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_come_in_order(workers):
    pool = ThreadPoolExecutor(workers) if workers else None
    assert list(read_ahead(pool, lambda x: x * x, range(50), 3)) == [x * x for x in range(50)]
    assert list(read_ahead(pool, str, [], 3)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_no_item_is_taken_further_ahead_than_said(workers):
    taken = []
    items = (taken.append(i) or i for i in range(30))
    pool = ThreadPoolExecutor(workers) if workers else None
    for i in read_ahead(pool, int, items, 4):
        assert len(taken) == min(30, i + 1 + (4 if workers else 0))


def test_an_error_comes_where_its_item_stands_and_ends_it():
    with ThreadPoolExecutor(2) as pool:
        results = read_ahead(pool, lambda x: 1 // x, [2, 1, 0, 1], 3)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


def test_what_is_not_asked_for_any_more_is_not_begun():
    release, begun = threading.Event(), []

    def wait(i):
        begun.append(i)
        release.wait()
        return i

    with ThreadPoolExecutor(1) as pool:
        results = read_ahead(pool, lambda i: i if i == 0 else wait(i), range(20), 10)
        assert next(results) == 0
        results.close()
        release.set()
    assert len(begun) <= 1
