"""Being asked to stop: the step that runs is finished and a checkpoint written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupt:
    """Whether ctrl-C or SIGTERM asked to stop.

    The first ctrl-C asks; another one ends the process at once, which loses what came after
    the last checkpoint and nothing else.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while something is trained."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may ask for signals
            return
        held: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing end what is written here half-way."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not self._held:
            raise KeyboardInterrupt
        self.requested = True
