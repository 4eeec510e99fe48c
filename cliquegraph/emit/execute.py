"""Loading generated source, and watching what it computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, ModuleType
from typing import Any

from cliquegraph.diagnostics.errors import VerificationError


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


def require_nothing_kept(
    modules: Iterable[tuple[str, object]], array: type, own: frozenset[str] = frozenset()
) -> None:
    """Raise a ``VerificationError`` where a model holds arrays besides those that it declares.

    What a forward pass leaves on a module stays in memory until the next one.

    Args:
        modules: the parts of the model, by name.
        array: the framework's type of arrays.
        own: attributes in which the framework keeps what is declared.
    """
    for name, module in modules:
        for key, value in vars(module).items():
            if key not in own and any(isinstance(leaf, array) for leaf in _leaves(value)):
                raise VerificationError(
                    f"{name or 'the model'} keeps {key} after a forward pass; it must hold "
                    "parameters and running statistics alone"
                )


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple | set):
        yield value
        return
    for each in value:
        yield from _leaves(each)
