"""Stopping on a signal: the current step is finished and a checkpoint written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupt:
    """Whether Ctrl-C or SIGTERM requested a stop.

    The first Ctrl-C requests a stop; a second one ends the process at once, losing only the work
    since the last checkpoint.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals during training."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can set signal handlers
            return
        previous: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Don't let a second signal interrupt the writes in this context."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not self._deferred:
            raise KeyboardInterrupt
        self.requested = True
