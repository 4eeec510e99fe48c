"""Pack the kernels of each layer into one bank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import EDGE_KERNEL
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import BatchNorm, Concat, Conv
from cliquegraph.ir.types import Bank, Field, Param, ParamSlice, Piece, Section, Slot

_Layer = tuple[Section, int]


@dataclass(frozen=True)
class Pack:
    """Store each layer's kernels side by side, so that a step slices and never concatenates.

    1. The kernels W(i→j) of a layer j become one ``Bank`` along the input channels, in the
       order in which the layers are visited, X0 first.
    2. Stage 1 reads a prefix of its bank and later stages the suffix without X0.
    3. Where layers are not visited in ascending order, a step concatenates its sources in the
       bank's order, and the normalisation of that concatenation is stored in the same order.
    """

    name = "pack"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with banks."""
        readers = _edge_convolutions(graph)
        visits = _visits(graph)
        banks = {layer: _bank(layer, nodes, visits[layer[0]]) for layer, nodes in readers.items()}
        replaced: dict[Node, Node] = {}
        norms: dict[Param, Param] = {}
        for layer, nodes in readers.items():
            for node in nodes:
                _read_bank(graph, node, banks[layer], replaced, norms)
        return replace(graph, nodes=tuple(replaced.get(node, node) for node in graph.nodes))


def _edge_convolutions(graph: Graph) -> dict[_Layer, list[Node]]:
    found: dict[_Layer, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if isinstance(node.op, Conv) and node.operands[0].param.slot.source is not None:
            slot = node.operands[0].param.slot
            assert slot.layer is not None  # noqa: S101  # an edge has a target
            found[slot.section, slot.layer].append(node)
    return found


def _visits(graph: Graph) -> dict[Section, dict[int, int]]:
    """The position of each layer in its block's order of visits; X0 comes first."""
    found: dict[Section, dict[int, int]] = defaultdict(lambda: {0: 0})
    for node in graph.nodes:
        layer = node.origin.layer
        if layer is not None:
            visits = found[node.origin.section]
            visits.setdefault(layer, len(visits))
    return found


def _bank(layer: _Layer, readers: Iterable[Node], visits: dict[int, int]) -> Bank:
    kernels = dict.fromkeys(operand.param for node in readers for operand in node.operands)
    ordered = sorted(kernels, key=lambda param: visits[param.slot.source or 0])
    pieces = tuple(piece for param in ordered for piece in param.pieces)
    slot = Slot(layer[0], EDGE_KERNEL, layer[1])
    return Bank(slot, Field.WEIGHT, pieces, axis=ordered[0].axis)


def _read_bank(
    graph: Graph, conv: Node, bank: Bank, replaced: dict[Node, Node], norms: dict[Param, Param]
) -> None:
    """Make ``conv`` read a slice of ``bank``, and its sources stand in the bank's order."""
    starts: dict[Piece, int] = {}
    position = 0
    for piece in bank.pieces:
        starts[piece] = position
        position += piece.extent
    places = [starts[piece] for operand in conv.operands for piece in operand.param.pieces]
    order = sorted(range(len(places)), key=places.__getitem__)
    extent = sum(operand.extent for operand in conv.operands)
    start = places[order[0]]
    end = places[order[-1]] + conv.operands[order[-1]].extent
    if end - start != extent:
        raise VerificationError(f"conv in {conv.origin} does not read one slice of its bank")
    replaced[conv] = replace(conv, operands=(ParamSlice(bank, start, end),))
    if order != sorted(order):
        _reorder_sources(graph, conv, order, replaced, norms)


def _reorder_sources(
    graph: Graph,
    conv: Node,
    order: list[int],
    replaced: dict[Node, Node],
    norms: dict[Param, Param],
) -> None:
    node = graph.producers[conv.inputs[0]]
    while not isinstance(node.op, Concat):
        if isinstance(node.op, BatchNorm):
            widths = _widths(graph, node)
            operands = tuple(
                norms.setdefault(o.param, _permuted(o.param, widths, order)).whole()
                for o in node.operands
            )
            replaced[node] = replace(node, operands=operands)
        node = graph.producers[node.inputs[0]]
    replaced[node] = replace(node, inputs=tuple(node.inputs[i] for i in order))


def _widths(graph: Graph, norm: Node) -> list[int]:
    """The channels of each source of a normalised concatenation."""
    sources: tuple[Value, ...] = graph.producers[norm.inputs[0]].inputs
    return [value.type.channels for value in sources]


def _permuted(param: Param, widths: list[int], order: list[int]) -> Param:
    starts = [sum(widths[:i]) for i in range(len(widths))]
    (whole,) = param.pieces
    pieces = tuple(Piece(whole.tensor, starts[i], starts[i] + widths[i]) for i in order)
    return replace(param, pieces=pieces)
