"""Items made ahead: in order, with their errors, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cliquegraph.data import prefetched


def threads() -> int:
    return sum(thread.name == "prefetched" for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 2, 5, 100])
def test_items_come_in_order(depth: int) -> None:
    assert list(prefetched(iter(range(50)), depth)) == list(range(50))
    assert list(prefetched(iter([None, 0, ()]), depth)) == [None, 0, ()]
    assert threads() == 0


def test_they_are_made_ahead_and_no_further() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            yield item

    found = prefetched(items(), depth=3)
    assert next(found) == 0
    deadline = time.monotonic() + 10
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3, 4]  # one taken, three ready, one that waits for room
    found.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    found = prefetched(items())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)
    assert threads() == 0
    with pytest.raises(StopIteration):
        next(found)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_consumer_may_stop(taken: int) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            item = 0
            while True:
                yield item
                item += 1
        finally:
            closed.set()

    kept = items()  # so that nothing but prefetched closes it
    found = prefetched(kept, depth=2)
    assert [next(found) for _ in range(taken)] == list(range(taken))
    found.close()  # type: ignore[attr-defined]
    assert threads() == 0
    assert closed.is_set() == (taken > 0)  # what never began needs no end
    assert list(found) == []


def test_a_consumer_may_fail() -> None:
    def consume() -> None:
        for item in prefetched(iter(range(1000))):
            if item == 3:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        consume()
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threads() == 0
