"""Items made ahead, in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """What comes after the last item: nothing, or what went wrong."""

    error: BaseException | None = None


def prefetched(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield the items, of which up to ``depth`` are made ahead while the consumer works.

    What an item raises is raised here, in its turn. The thread ends with the items, or when the
    consumer stops: closes this generator, or lets go of it.
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
        while not isinstance(found := ready.get(), _End):
            yield found
        if found.error is not None:
            raise found.error
    finally:
        stopped.set()
        while thread.is_alive():
            # Room for what the thread may still be waiting to put; it sees the sign before more.
            while not ready.empty():
                ready.get()
            thread.join(0.01)
