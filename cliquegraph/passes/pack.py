"""Pack the kernels of each layer into one bank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import EDGE_KERNEL, is_edge_kernel
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import BatchNorm, Concat, Conv
from cliquegraph.ir.types import Bank, Field, Param, ParamSlice, Piece, Section, Slot, cut

_Visits = Mapping[Section, Mapping[int, int]]
"""The position of each layer in its block's visiting order; X0 comes first."""


@dataclass(frozen=True)
class Pack:
    """Store each layer's kernels concatenated, so that updates slice and never concatenate.

    1. The kernels W(i→j) of a layer j that some update reads together become one ``Bank`` along
       the input channels, in visiting order, X0 first and j last.
    2. Stage 1 reads a prefix of its bank, later stages the suffix without X0, or all.
    3. Where layers are not visited in ascending order, an update concatenates its sources in the
       bank's order, and the normalization of that concatenation is stored in the same order.
    """

    name = "pack"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with banks."""
        visits = _visits(graph)
        replaced: dict[Node, Node] = {}
        norms: dict[Param, Param] = {}
        for layer in _edge_convolutions(graph):
            groups = _groups(layer, visits)
            for number, nodes in enumerate(groups, start=1):
                bank = _bank(nodes, visits, number if len(groups) > 1 else None)
                for node in nodes:
                    _read_bank(graph, node, bank, replaced, norms)
        return replace(graph, nodes=tuple(replaced.get(node, node) for node in graph.nodes))


def _edge_convolutions(graph: Graph) -> list[list[Node]]:
    """The convolutions with edge kernels, by layer, in the order of their first."""
    layers: dict[tuple[Section, int | None], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if not isinstance(node.op, Conv) or node.op.depthwise:
            continue
        if is_edge_kernel(node.operands[0].param.slot):
            slot = node.operands[0].param.slot
            layers[slot.section, slot.layer].append(node)
    return list(layers.values())


def _groups(nodes: Sequence[Node], visits: _Visits) -> list[list[Node]]:
    """The convolutions of one layer in groups: each reads one slice of its group's bank.

    An update reads a bank once, so a layer with two lists of edge ops has two banks.
    """
    groups: list[list[Node]] = []
    for nodes_of_kernels in _group_by_kernel(nodes):
        for group in groups:
            if _fit_one_bank([*group, *nodes_of_kernels], visits):
                group += nodes_of_kernels
                break
        else:
            groups.append(nodes_of_kernels)
    return groups


def _group_by_kernel(nodes: Iterable[Node]) -> list[list[Node]]:
    """Group nodes that have a kernel in common."""
    groups: list[list[Node]] = []
    for node in nodes:
        kernels = _kernels([node])
        matches = [group for group in groups if _kernels(group) & kernels]
        first = matches[0] if matches else []
        if not matches:
            groups.append(first)
        for other in matches[1:]:
            first += other
            groups.remove(other)
        first.append(node)
    return groups


def _kernels(nodes: Iterable[Node]) -> set[Param]:
    return {operand.param for node in nodes for operand in node.operands}


def _fit_one_bank(nodes: Sequence[Node], visits: _Visits) -> bool:
    """Whether convolutions of one layer can read slices of one bank, one per update."""
    kernels = [operand.param for node in nodes for operand in node.operands]
    shapes = {(kernel.slot.index, kernel.shape[0], kernel.shape[2:]) for kernel in kernels}
    if len(shapes) > 1 or len({node.origin for node in nodes}) < len(nodes):
        return False
    ordered = _order_kernels(nodes, visits)
    return all(_is_run([ordered.index(o.param) for o in node.operands]) for node in nodes)


def _is_run(places: Sequence[int]) -> bool:
    return max(places) - min(places) + 1 == len(places)


def _visits(graph: Graph) -> dict[Section, dict[int, int]]:
    """The position of each layer in its block's visiting order; X0 comes first."""
    positions: dict[Section, dict[int, int]] = defaultdict(lambda: {0: 0})
    for node in graph.nodes:
        layer = node.origin.layer
        if layer is not None:
            visits = positions[node.origin.section]
            visits.setdefault(layer, len(visits))
    return positions


def _order_kernels(readers: Iterable[Node], visits: _Visits) -> list[Param]:
    """The kernels that convolutions of one layer read, in the order of their bank."""
    kernels = dict.fromkeys(operand.param for node in readers for operand in node.operands)

    def place(param: Param) -> tuple[bool, int]:
        slot, source = param.slot, param.slot.source or 0
        return source == slot.layer, visits[slot.section][source]

    return sorted(kernels, key=place)


def _bank(readers: Iterable[Node], visits: _Visits, number: int | None) -> Bank:
    ordered = _order_kernels(readers, visits)
    pieces = tuple(piece for param in ordered for piece in param.pieces)
    slot = ordered[0].slot
    bank_slot = Slot(slot.section, EDGE_KERNEL, slot.layer, index=number, shared=True)
    return Bank(bank_slot, Field.WEIGHT, pieces, axis=ordered[0].axis)


def _read_bank(
    graph: Graph, conv: Node, bank: Bank, replaced: dict[Node, Node], norms: dict[Param, Param]
) -> None:
    """Make ``conv`` read a slice of ``bank``, with its sources in the bank's order."""
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
                norms.setdefault(o.param, _permute(o.param, widths, order)).whole()
                for o in node.operands
            )
            replaced[node] = replace(node, operands=operands)
        node = graph.producers[node.inputs[0]]
    replaced[node] = replace(node, inputs=tuple(node.inputs[i] for i in order))


def _widths(graph: Graph, norm: Node) -> list[int]:
    """The channels of each source of a normalized concatenation."""
    sources: tuple[Value, ...] = graph.producers[norm.inputs[0]].inputs
    return [value.type.channels for value in sources]


def _permute(param: Param, widths: list[int], order: list[int]) -> Param:
    starts = [sum(widths[:i]) for i in range(len(widths))]
    parts = cut(param.pieces, *starts, sum(widths))
    return replace(param, pieces=tuple(piece for i in order for piece in parts[i]))
