"""The op graph as text, for people and golden tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import operand_name, param_name, slot_name
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import Affine, BatchNorm, Moments, Normalize, Op


class Names:
    """Unique names for values; they belong to the printer, not to the graph."""

    def __init__(self) -> None:
        self._names: dict[Value, str] = {}
        self._used: set[str] = set()
        self._next = 0

    def __getitem__(self, value: Value) -> str:
        if value not in self._names:
            hint = value.hint
            while not hint or hint in self._used:
                hint = f"{value.hint}.{self._next}" if value.hint else str(self._next)
                self._next += 1
            self._used.add(hint)
            self._names[value] = hint
        return f"%{self._names[value]}"


def print_graph(graph: Graph) -> str:
    """Return the graph as text: one line per node, under a comment per section and update.

    ``%x2_1: 12x8x8 = conv(%3, filters=12, kernel=3) block1.w2.weight[0:28]`` reads: the value
    X2 of stage 1, of 12 channels and 8×8 pixels, is the convolution of value 3 with channels 0
    to 27 of the kernel bank of layer 2.

    Args:
        graph: the op graph, at any level.
    """
    require_type(graph, Graph, "cliquegraph.lower(cliquegraph.unroll(network))")
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    names = Names()
    yield f"graph {graph.name}"
    last: Origin | None = None
    for node in graph.nodes:
        if node.origin != last:
            yield f"  # {node.origin}"
            last = node.origin
        yield f"  {_node(node, names)}"
    for slab in graph.slabs:
        columns = (f"{names[value]} [{a}:{b}]" for value, (a, b) in slab.columns.items())
        yield f"  slab of {slab.channels} columns: {', '.join(columns)}"
    yield f"  return {', '.join(names[value] for value in graph.outputs)}"
    if graph.idle:
        live = {operand.param for node in graph.nodes for operand in node.operands}
        unused = [param for param in graph.params if param not in live]
        yield f"  # unused but retained: {', '.join(map(param_name, unused)) or 'nothing'}"


def _node(node: Node, names: Names) -> str:
    arguments = [names[value] for value in node.inputs] + attributes(node.op)
    results = ", ".join(f"{names[value]}: {value.type}" for value in node.outputs)
    line = [f"{results} = {node.op.mnemonic}({', '.join(arguments)})", *_operands(node)]
    return " ".join([*line, "recompute"] if node.recompute else line)


def attributes(op: Op) -> list[str]:
    """Return an op's attributes as ``name=value``; those that are False are omitted."""
    values = {field.name: getattr(op, field.name) for field in fields(op)}
    return [f"{name}={value!r}" for name, value in values.items() if value is not False]


def _operands(node: Node) -> list[str]:
    if isinstance(node.op, BatchNorm | Moments | Normalize | Affine):
        return list(dict.fromkeys(slot_name(operand.param.slot) for operand in node.operands))
    return [operand_name(operand) for operand in node.operands]
