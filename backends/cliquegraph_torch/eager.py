"""What eager PyTorch runs as one call, and what each call keeps for the backward pass.

The generated code runs most nodes by themselves: PyTorch's ``derivatives.yaml`` says what each
keeps, its inputs or its output and perhaps buffers of its own. A normalization by given moments,
and what is marked ``recompute``, it runs in one call with what stands before and behind, a unit.
A unit normalizes the concatenation in place, and keeps what it read and not the concatenation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property, singledispatch

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.units import units_of
from cliquegraph_torch.precision import Sizes

OVERWRITTEN: tuple[type[ops.Op], ...] = (ops.BatchNorm, ops.Affine, ops.Conv, ops.Linear, ops.Add)
"""What a ReLU is written over, if nothing else reads it.

Each returns a new tensor that no gradient is computed from; dropout in evaluation returns what
it was given, and the sigmoid's gradient is computed from its output.
"""

Kept = dict[Hashable, int]
"""Bytes of each storage: of a value of the graph, or of something that a call allocates."""


@dataclass(frozen=True, eq=False)
class Call:
    """Nodes that run at once, in order; values that are neither read nor written stay inside.

    ``in_place`` where what is returned is written over what is read.
    """

    nodes: tuple[Node, ...]
    in_place: bool = False

    @property
    def last(self) -> Node:
        """The node that writes what the call returns."""
        return self.nodes[-1]

    @property
    def origin(self) -> Origin:
        """What the nodes were lowered from."""
        return self.last.origin

    @property
    def output(self) -> Value:
        """What the call returns."""
        return self.last.output

    @cached_property
    def reads(self) -> tuple[Value, ...]:
        """What the call reads: maps, then moments."""
        written = {value for node in self.nodes for value in node.outputs}
        read = (value for node in self.nodes for value in node.inputs)
        return tuple(dict.fromkeys(value for value in read if value not in written))

    @property
    def is_unit(self) -> bool:
        """Whether the nodes run together, in a function that the generated code defines."""
        return len(self.nodes) > 1

    @property
    def own_moments(self) -> bool:
        """Whether a unit takes the moments of what it reads itself."""
        return self.is_unit and any(isinstance(node.op, ops.BatchNorm) for node in self.nodes)

    @property
    def joined(self) -> Value | None:
        """What a unit makes of its maps in one buffer: side by side, normalized, rectified."""
        if not self.is_unit:
            return None
        return self.last.inputs[0] if isinstance(self.last.op, ops.Conv) else self.output

    def kept(self, sizes: Sizes) -> Kept:
        """Return what the call keeps for the backward pass; parameters are not counted."""
        if self.joined is None:
            return _kept_by(self.last, sizes) | dict(self.cast_weights(sizes))
        maps = [value for value in self.reads if not sizes.is_fixed(value)]
        kept: Kept = {value: sizes.of(value) for value in maps}
        if any(isinstance(node.op, ops.Normalize | ops.BatchNorm) for node in self.nodes):
            # The moments of all that is read, side by side.
            kept[self, "moments"] = sizes.statistics(2 * self.joined.type.channels)
        if not any(node.recompute for node in self.nodes):
            kept[self.joined] = sizes.of(self.joined)
        return kept

    def cast_weights(self, sizes: Sizes) -> Iterator[tuple[Hashable, int]]:
        """Yield the copies of weights that autocast makes: of a whole parameter, or of a slice."""
        if sizes.casts and isinstance(self.last.op, ops.Conv | ops.Linear):
            weight = self.last.operands[0]
            key = weight.param if weight.is_whole else (self, "weight")
            yield key, sizes.cast(weight.shape)


def calls_of(graph: Graph) -> list[Call]:
    """Return the calls of a training pass, in order.

    What makes a block feature that nothing reads does not run in one: the network has the maps
    of such a feature in a list.
    """
    units = {last: unit.nodes for last, unit in units_of(graph).items()}
    inside = {node for unit in units.values() for node in unit}
    found: list[Call] = []
    for node in graph.nodes[1:]:
        if node in units:
            found.append(Call(units[node]))
        elif node not in inside and node not in graph.unread_features:
            overwrites = bool(found) and _overwrites(graph, node, found[-1])
            found.append(Call((node,), overwrites))
    return found


def _overwrites(graph: Graph, node: Node, before: Call) -> bool:
    """Whether the generated code writes a ReLU over what the call before it returns."""
    maker = before.last
    return (
        isinstance(node.op, ops.Relu)
        and isinstance(maker.op, OVERWRITTEN)
        and not before.is_unit
        and (maker.outputs, maker.origin) == (node.inputs, node.origin)
        and graph.consumers[maker.output] == (node,)
        and maker.output not in graph.outputs
    )


def behind_logits(graph: Graph, calls: list[Call]) -> set[Call]:
    """Return the calls that gradients run through: autograd lets go of the others."""
    needed = {graph.logits}
    found = set()
    for call in reversed(calls):
        if call.output in needed and not isinstance(call.last.op, ops.Keep):
            needed.update(call.reads)
            found.add(call)
    return found


def _kept_by(node: Node, sizes: Sizes) -> Kept:
    """What a node keeps that runs by itself."""
    kept: Kept = {value: sizes.of(value) for value in kept_values(node.op, node)}
    if extra := extra_bytes(node.op, node, sizes):
        kept[node, "extra"] = extra
    return kept


@singledispatch
def kept_values(op: ops.Op, node: Node) -> tuple[Value, ...]:
    """Return the values that the gradient of an op is computed from."""
    return ()


@kept_values.register(ops.Moments)
@kept_values.register(ops.Affine)
@kept_values.register(ops.Conv)
@kept_values.register(ops.Linear)
@kept_values.register(ops.MaxPool)
@kept_values.register(ops.AvgPool)
@kept_values.register(ops.ScaleChannels)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.inputs


@kept_values.register
def _(op: ops.BatchNorm, node: Node) -> tuple[Value, ...]:
    return node.inputs[:1]  # a mask moves statistics, and has no gradient


@kept_values.register
def _(op: ops.DropPath, node: Node) -> tuple[Value, ...]:
    return node.inputs[1:]


@kept_values.register(ops.Relu)
@kept_values.register(ops.Sigmoid)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.outputs


@singledispatch
def extra_bytes(op: ops.Op, node: Node, sizes: Sizes) -> int:
    """Return the bytes that an op keeps beside values of the graph."""
    return 0


@extra_bytes.register
def _(op: ops.BatchNorm, node: Node, sizes: Sizes) -> int:
    # Mean, 1 / standard deviation; where there is a mask, what statistics move towards as well.
    return sizes.statistics((4 if len(node.inputs) > 1 else 2) * node.output.type.channels)


@extra_bytes.register
def _(op: ops.Moments, node: Node, sizes: Sizes) -> int:
    return sizes.statistics(node.output.type.channels)  # the mean


@extra_bytes.register
def _(op: ops.MaxPool, node: Node, sizes: Sizes) -> int:
    return sizes.positions(node.output)


@extra_bytes.register
def _(op: ops.Dropout, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # the mask, as a CPU has it; CUDA's takes a byte for each number
