"""A function of many things in turn, computed ahead by threads, and never further ahead than is said."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Late(Exception):
    """What was to be computed for `item` has not come in time."""

    def __init__(self, item: Any):
        super().__init__(item)
        self.item = item


class Pool(Executor):
    """Threads that a process does not wait for when it ends: one may hang in a read for ever."""

    def __init__(self, threads: int, name: str):
        self._todo: queue.SimpleQueue = queue.SimpleQueue()
        self._most, self._name = threads, name
        self._begun = 0

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self._todo.put((future, function, args, kwargs))
        if self._begun < self._most:
            name = f"{self._name}-{self._begun}"
            threading.Thread(target=_work, args=(self._todo,), name=name, daemon=True).start()
            self._begun += 1
        return future

    def __del__(self) -> None:
        for _ in range(self._begun):
            self._todo.put(None)


def _work(todo: queue.SimpleQueue) -> None:
    while job := todo.get():
        future, function, args, kwargs = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
        del job, future, function, args, kwargs  # nothing is held while waiting


def read_ahead(
    pool: Executor | None,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    timeout: float | None = None,
) -> Iterator[Result]:
    """function(item) for each item in turn; the pool begins at most `ahead` items before they are asked for.

    Without a pool each is computed when it is asked for. Whoever stops asking leaves nothing waiting. With a
    pool, Late is raised when the next result takes more than `timeout` seconds.
    """
    if pool is None:
        yield from map(function, items)
        return
    begun: deque[tuple[Item, Future[Result]]] = deque()

    def result() -> Result:
        item, future = begun.popleft()
        if not wait([future], timeout).done:
            raise Late(item)
        return future.result()

    try:
        for item in items:
            begun.append((item, pool.submit(function, item)))
            if len(begun) > ahead:
                yield result()
        while begun:
            yield result()
    finally:
        for _, future in begun:
            future.cancel()
