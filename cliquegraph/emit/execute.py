"""Loads generated source, and observes the values that it computes."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.regions import update_of
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import DropPath, JoinWeights, Keep
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import MapType, Part

Place = tuple[str, str]
"""A section and the name of a value in it."""


def load_source(source: str, name: str) -> ModuleType:
    """Return generated source as a module, without adding it to ``sys.modules``."""
    module = ModuleType(name)
    module.__file__ = file = f"<generated {name}>"
    # Triton reads the source of kernels when it first sees them.
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    try:
        exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102  # our own output
    finally:
        linecache.cache.pop(file, None)
    return module


def watch(module: ModuleType, run: Callable[[], object]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Call ``run``; yield ``self`` and the local values of each of the module's methods, by name.

    Generated methods name their values as the compiler does, so that a wrong one can be located.
    A result without a name is ``returned``; a growing list of features contains X0 and the result
    of each layer.
    """
    calls: list[tuple[Any, dict[str, Any]]] = []

    def on_event(frame: FrameType, event: str, result: object) -> None:
        if event == "return" and frame.f_code.co_filename == module.__file__:
            variables = {"returned": result, **frame.f_locals}
            for layer, value in enumerate(variables.pop("features", ())):
                variables[f"x{layer}"] = value
            if "self" in variables:
                # The maps of a feature have its name.
                maps = {name: getattr(value, "maps", value) for name, value in variables.items()}
                calls.append((maps.pop("self"), maps))

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(before)
    yield from calls


def named_values(graph: Graph, watched: Mapping[Place, Array]) -> dict[Place, Array]:
    """Return arrays by section and name of the value.

    Args:
        graph: the graph.
        watched: arrays by section and variable, ``""`` for the network itself.
    """
    named = dict(watched)
    last = {node.origin.section: node for node in graph.nodes}
    for node in graph.nodes:
        section, value = node.origin.section, node.output
        if section.part is Part.BLOCK and node.origin.layer is None:
            # The network computes it from the results of the block.
            place, name = (str(section), value.hint), ("", f"{value.hint}{section.index}")
        elif section.part is Part.CLASSIFIER and value is graph.logits:
            place, name = ("", value.hint), ("", "returned")
        elif section.part is not Part.BLOCK and node is last[section]:
            letter = "x" if isinstance(value.type, MapType) else "z"
            place, name = (str(section), letter), (str(section), "returned")
        else:
            continue
        if name in watched:
            named[place] = watched[name]
    return named


def drop_paths(graph: Graph) -> tuple[str, ...]:
    """Return the path of the member that draws for each ``Keep`` and ``JoinWeights``, in order.

    Raises:
        VerificationError: one member draws several masks, which can't be set apart.
    """
    paths: list[str] = []
    for node in _drawing(graph):
        beside = tuple(other for other in graph.nodes if other.origin == node.origin)
        member = DropPath.mnemonic if isinstance(node.op, Keep) else node.op.mnemonic
        paths.append(f"{node.origin.section}.{update_of(beside)}.{member}")
        if paths[-1] in paths[:-1]:
            raise VerificationError(
                f"{paths[-1]} draws in several stages, but `verify` can set only one mask for each "
                "module; give each stage its own normalizations"
            )
    return tuple(paths)


def all_kept(graph: Graph) -> tuple[Array, ...]:
    """Return for each member of ``drop_paths`` what it draws where nothing is dropped."""
    return tuple(
        np.full(node.op.count, 1 / node.op.count)
        if isinstance(node.op, JoinWeights)
        else np.ones((1, 1, 1, 1))
        for node in _drawing(graph)
    )


def _drawing(graph: Graph) -> tuple[Node, ...]:
    return tuple(node for node in graph.nodes if isinstance(node.op, Keep | JoinWeights))


def require_nothing_kept(
    modules: Iterable[tuple[str, object]], array: type, own: frozenset[str] = frozenset()
) -> None:
    """Raise a ``VerificationError`` if a model has arrays other than those that it declares.

    Arrays that a forward pass leaves on a module stay in memory until the next one.

    Args:
        modules: the parts of the model, by name.
        array: the framework's type of arrays.
        own: attributes in which the framework stores declared arrays.
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
