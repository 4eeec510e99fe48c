"""Compute what several updates compute alike only once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import value_hint
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import Conv, DrawColumn, Dropout, JoinWeights, Keep
from cliquegraph.ir.types import Param, Part, Section

COMMON = "common"
"""The name, before the layer, of a value that several updates of the layer read."""

_HEAD = (Part.READOUT, Part.CLASSIFIER)
"""Parts that have one member, which every stage calls."""


@dataclass(frozen=True)
class ShareCommon:
    """Remove common subexpressions: the same op on the same values with the same tensors.

    Such as the convolution of a recurrent layer's input, which every stage reads through the same
    kernel. Values are numbered: two nodes have one number if their ops are equal and they read
    values of equal numbers and the same tensors. A node that is random or moves running statistics
    has a number of its own.

    Only convolutions, and what follows them, are merged: to read the result of anything else from
    another update would keep it in memory for little. Updates that share a member (with
    ``norm_per_stage: false``) stay alike.
    """

    name = "share common"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph without repeated nodes, and without those that only they read."""
        numbers: dict[Value, int] = {graph.input: 0}
        first: dict[Hashable, Node] = {}
        merged: dict[Value, Value] = {}
        kept: list[Node] = [graph.nodes[0]]
        alike = _alike(graph)
        for node in graph.nodes[1:]:
            key = _key(node, numbers)
            before = first.setdefault(key, node)
            if before is not node and node.origin not in alike and _is_merged(node, merged):
                merged |= zip(node.outputs, before.outputs, strict=True)
            else:
                kept.append(node)
            for value, same in zip(node.outputs, before.outputs, strict=True):
                numbers[value] = numbers.setdefault(same, len(numbers))
        if not merged:
            return graph
        return _name_shared(_without_unread(graph, kept, merged))


def _alike(graph: Graph) -> set[Origin]:
    """The updates that share a member with another: its normalizations have the name of one."""
    updates: dict[Param, set[Origin]] = defaultdict(set)
    for node in graph.nodes:
        for operand in node.operands:
            if not operand.param.slot.shared:
                updates[operand.param].add(node.origin)
    return {origin for each in updates.values() if len(each) > 1 for origin in each}


def _key(node: Node, numbers: dict[Value, int]) -> Hashable:
    """A key that is equal for nodes that compute the same."""
    observes = any(not operand.param.field.trainable for operand in node.operands)
    if observes or isinstance(node.op, Dropout | Keep | DrawColumn | JoinWeights):
        return node.outputs
    operands = tuple((operand.param, operand.start, operand.stop) for operand in node.operands)
    return type(node.op), node.op, tuple(numbers[value] for value in node.inputs), operands


def _is_merged(node: Node, merged: dict[Value, Value]) -> bool:
    if _is_version(node) or node.origin.section.part in _HEAD:
        return False
    return isinstance(node.op, Conv) or any(value in merged for value in node.inputs)


def _is_version(node: Node) -> bool:
    """Whether a node writes a version of a layer, which every update does, read or not."""
    return node.origin.layer is not None and bool(node.output.hint)


def _without_unread(graph: Graph, nodes: list[Node], merged: dict[Value, Value]) -> Graph:
    """The graph of nodes that read the first of equal values; nodes that lost all readers go."""
    results = {merged.get(value, value) for value in graph.outputs}
    read = set(results)
    live: list[Node] = []
    for node in reversed(nodes):
        had_readers = any(value in graph.consumers for value in node.outputs)
        if had_readers and read.isdisjoint(node.outputs) and not _is_version(node):
            continue
        inputs = tuple(merged.get(value, value) for value in node.inputs)
        read.update(inputs)
        live.append(replace(node, inputs=inputs))
    return replace(
        graph,
        nodes=tuple(reversed(live)),
        logits=merged.get(graph.logits, graph.logits),
        features=tuple(merged.get(value, value) for value in graph.features),
    )


def _name_shared(graph: Graph) -> Graph:
    """Name the values that other updates read now."""
    renamed: dict[Value, Value] = {}
    count: Counter[tuple[Section, int]] = Counter()
    nodes = []
    for node in graph.nodes:
        readers = graph.consumers.get(node.output, ())
        elsewhere = any(reader.origin != node.origin for reader in readers)
        inputs = tuple(renamed.get(value, value) for value in node.inputs)
        node = replace(node, inputs=inputs)
        layer = node.origin.layer
        if elsewhere and not node.output.hint and layer is not None:
            count[node.origin.section, layer] += 1
            number = count[node.origin.section, layer]
            hint = value_hint(COMMON, layer, number if number > 1 else None)
            named = Value(node.output.type, hint)
            renamed[node.output] = named
            node = replace(node, outputs=(named,))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
