"""Loading generated source, and watching what it computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any


def load_source(source: str, name: str) -> ModuleType:
    """Return generated source as a module; it is not entered into ``sys.modules``."""
    module = ModuleType(name)
    module.__file__ = f"<generated {name}>"
    exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102  # our own output
    return module


def watch(module: ModuleType, run: Callable[[], object]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Call ``run``; yield ``self`` and the local variables of each of the module's methods.

    A generated method names its values as the compiler does, so that a wrong one can be found.
    """
    seen: list[tuple[Any, dict[str, Any]]] = []

    def on_event(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_filename == module.__file__:
            variables = dict(frame.f_locals)
            if "self" in variables:
                seen.append((variables.pop("self"), variables))

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(before)
    yield from seen
