"""Whether a class of a file does what the class of a template does: its name alone says little."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import CodeType
from typing import Any

from cliquegraph.emit.execute import load_source
from cliquegraph.emit.render import environment


@cache
def class_of_template(package: str, template: str, name: str, imports: str) -> Any:
    """Return the class that a template defines.

    Args:
        package: the backend's, in whose ``templates`` it lies.
        template: its file.
        name: the class.
        imports: of the file that contains it: instructions depend on whether a name is imported in
            the same file.
    """
    source = environment(package).get_template(template).render()
    return getattr(load_source(imports + source, name), name)


def deviation(kind: Any, ours: Any, methods: Sequence[str], modules: Sequence[str]) -> Any:
    """Return the first method of a class that differs from that of a template; None if all agree.

    Args:
        kind: the class.
        ours: that of the template.
        methods: the methods' names.
        modules: what their globals must name alike, ``torch``.
    """
    for method in methods:
        function, own = getattr(kind, method), getattr(ours, method)
        if not hasattr(function, "__code__"):
            return function
        same_names = all(
            function.__globals__.get(name) is own.__globals__[name] for name in modules
        )
        if not same_names or _behavior(function) != _behavior(own):
            return function
    return None


def _behavior(function: Any) -> tuple[object, ...]:
    """What a method executes, without its lines."""
    return *_executed(function.__code__), function.__defaults__, function.__kwdefaults__


def _executed(code: CodeType) -> tuple[object, ...]:
    """The instructions of a code object, and what they name."""
    inner = (_executed(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.co_code, *inner, code.co_names, code.co_varnames
