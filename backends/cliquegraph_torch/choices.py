"""How a generated file is traced that decides by values, and computes maps part by part.

``is_derivable`` decides by the values of a scale how a backward pass computes its gradient:
derived from that of the kernel, or summed. ``parts`` divides pixels into parts that fit the cache
of a CPU, of at least ``ROWS`` pixels, more than the images of a proof have. A trace takes one way
and one size of parts; two of them show both ways, and several parts as well as a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any

from torch import Tensor, autograd, nn

from cliquegraph.emit.behavior import class_of_template, deviation
from cliquegraph_torch.recorder import Recorder

_CHOICE, _ROWS = "is_derivable", "ROWS"

_IMPORTS = """\
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Moments:
    pass


"""

_FEWEST = 5  # pixels of a part: the smallest maps of a batch of three have 12


def chooses(model: nn.Module) -> bool:
    """Tell whether a model's file has ``is_derivable``, with the instructions of our template.

    Whatever another function of this name reads is refused as anywhere.
    """
    names = _globals(model)
    if _CHOICE not in names or "bool" in names:
        return False
    ours = class_of_template("cliquegraph_torch", "slab.py.jinja", _CHOICE, _IMPORTS)
    own, expected = (SimpleNamespace(**{_CHOICE: each}) for each in (names[_CHOICE], ours))
    return deviation(own, expected, (_CHOICE,), ("torch",)) is None


@contextmanager
def chosen(model: nn.Module, recorder: Recorder, pixels: int, *, derives: bool) -> Iterator[None]:
    """Let a model's file derive gradients of scales, or sum them, part by part.

    What each backward pass returns that decides is noted, so that the two ways can be compared one
    by one: then they are equal however the decisions are mixed.

    Args:
        model: one of a file that ``chooses``.
        recorder: records the trace.
        pixels: of the images.
        derives: whether gradients of scales are derived, of all pixels at once.
    """
    names = _globals(model)
    own: dict[str, object] = {_CHOICE: names[_CHOICE]}
    names[_CHOICE] = lambda scale, data: derives
    if _ROWS in names and not derives:
        own[_ROWS] = names[_ROWS]
        # Of narrow maps parts are larger: 0 is a single pixel.
        names[_ROWS] = max(_FEWEST, pixels // 64) if pixels > 64 else 0
    functions = [each for each in names.values() if _decides(each)]
    backwards = [each.backward for each in functions]
    for function in functions:
        function.backward = staticmethod(_noted(function.backward, recorder))
    try:
        yield
    finally:
        names.update(own)
        for function, backward in zip(functions, backwards, strict=True):
            function.backward = staticmethod(backward)


def _globals(model: nn.Module) -> dict[str, Any]:
    """The names of the file that defines a model."""
    forward: Any = type(model).forward
    found: dict[str, Any] = getattr(forward, "__globals__", {})
    return found


def _decides(value: object) -> bool:
    """Whether a name of a file is an autograd function whose backward pass decides."""
    if not isinstance(value, type) or not issubclass(value, autograd.Function):
        return False
    code = getattr(value.backward, "__code__", None)
    return code is not None and _CHOICE in code.co_names


def _noted(backward: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    @wraps(backward)
    def run(*args: Any) -> Any:
        result = backward(*args)
        results = result if isinstance(result, tuple) else (result,)
        recorder.note([each for each in results if isinstance(each, Tensor)])
        return result

    return run
