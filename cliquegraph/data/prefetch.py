"""Prefetching of items in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """Marks the end of the items, with the producer's error if there is one."""

    error: BaseException | None = None


def prefetched(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield the items, up to ``depth`` of which are produced ahead while the consumer works.

    Errors of the producer are raised here, after the items before them. The thread ends with the
    items, or when the consumer closes or drops this generator.
    """
    ready: queue.Queue[T | _End] = queue.Queue(max(1, depth))
    stopped = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            for item in items:
                if stopped.is_set():
                    break
                ready.put(item)
            if isinstance(items, Generator):
                items.close()
        except BaseException as error:  # noqa: BLE001 (raised in the consumer's thread)
            end = _End(error)
        if not stopped.is_set():
            ready.put(end)

    thread = threading.Thread(target=produce, name="prefetched", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        while thread.is_alive():
            # Make room for an item that the thread may be waiting to put; then it checks the event.
            while not ready.empty():
                ready.get()
            thread.join(0.01)
