"""What eager PyTorch runs as one call, and what each call saves for backward.

The generated code runs most nodes by themselves: PyTorch's ``derivatives.yaml`` defines what each
saves, its inputs or its output and perhaps buffers of its own. A normalization by given moments,
and nodes marked ``recompute``, run in one call with the nodes before and after them, a unit. A unit
normalizes the concatenation in place, and saves its inputs, not the concatenation.
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

OVERWRITTEN: tuple[type[ops.Op], ...] = (
    *(ops.BatchNorm, ops.GroupNorm, ops.Affine, ops.Conv, ops.Linear),
    *(ops.Add, ops.WeightedMean, ops.Bias, ops.Gate),
)
"""Ops whose output a ReLU overwrites, if nothing else reads it.

Each returns a new tensor that its gradient does not need. Not among them: dropout, which returns
its input in evaluation, and the sigmoid, whose gradient is computed from its output.
"""

_CONSTANT = ops.Keep | ops.DrawColumn | ops.JoinWeights | ops.Zeros
"""Ops whose output has no gradient."""

Saved = dict[Hashable, int]
"""Bytes of each storage: of a value of the graph, or of something that a call allocates."""


@dataclass(frozen=True, eq=False)
class Call:
    """Nodes that run in one call, in order; values that only they read stay inside.

    With ``in_place`` the output overwrites the input.
    """

    nodes: tuple[Node, ...]
    in_place: bool = False

    @property
    def last(self) -> Node:
        """The node that writes the output of the call."""
        return self.nodes[-1]

    @property
    def origin(self) -> Origin:
        """What the nodes were lowered from."""
        return self.last.origin

    @property
    def output(self) -> Value:
        """The output of the call."""
        return self.last.output

    @cached_property
    def reads(self) -> tuple[Value, ...]:
        """The inputs of the call: maps, then moments."""
        written = {value for node in self.nodes for value in node.outputs}
        inputs = (value for node in self.nodes for value in node.inputs)
        return tuple(dict.fromkeys(value for value in inputs if value not in written))

    @property
    def is_unit(self) -> bool:
        """Whether the nodes run in one function, which the generated code defines."""
        return len(self.nodes) > 1

    @property
    def own_moments(self) -> bool:
        """Whether a unit computes moments itself: batch statistics of this layer alone."""
        return self.is_unit and any(isinstance(node.op, ops.BatchNorm) for node in self.nodes)

    @property
    def joined(self) -> Value | None:
        """The buffer of a unit: its maps concatenated, normalized, rectified."""
        if not self.is_unit:
            return None
        return self.last.inputs[0] if isinstance(self.last.op, ops.Conv) else self.output

    def saved(self, sizes: Sizes) -> Saved:
        """Return what the call saves for backward; parameters are not counted."""
        if self.joined is None:
            return _saved_by(self.last, sizes) | dict(self.cast_weights(sizes))
        maps = [value for value in self.reads if not sizes.is_fixed(value)]
        saved: Saved = {value: sizes.of(value) for value in maps}
        if any(isinstance(node.op, ops.Normalize | ops.BatchNorm) for node in self.nodes):
            # The concatenated moments of all inputs.
            saved[self, "moments"] = sizes.statistics(2 * self.joined.type.channels)
        if not any(node.recompute for node in self.nodes):
            saved[self.joined] = sizes.of(self.joined)
        return saved

    def cast_weights(self, sizes: Sizes) -> Iterator[tuple[Hashable, int]]:
        """Yield the copies of weights that autocast makes: of a whole parameter, or of a slice."""
        if sizes.casts and isinstance(self.last.op, ops.Conv | ops.Linear):
            weight = self.last.operands[0]
            key = weight.param if weight.is_whole else (self, "weight")
            yield key, sizes.cast(weight.shape)


def calls_of(graph: Graph) -> list[Call]:
    """Return the calls of a training pass, in order.

    The concatenation of a block feature that nothing reads does not run: the network has the maps
    of such a feature in a list.
    """
    units = {last: unit.nodes for last, unit in units_of(graph).items()}
    inside = {node for unit in units.values() for node in unit}
    calls: list[Call] = []
    for node in graph.nodes[1:]:
        if node in units:
            calls.append(Call(units[node]))
        elif node not in inside and node not in graph.unread_features:
            overwrites = bool(calls) and _overwrites(graph, node, calls[-1])
            calls.append(Call((node,), overwrites))
    return calls


def _overwrites(graph: Graph, node: Node, before: Call) -> bool:
    """Whether the generated code applies a ReLU in place to the output of the call before."""
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
    """Return the calls that gradients pass through: autograd frees the others."""
    needed = {graph.logits}
    live = set()
    for call in reversed(calls):
        if call.output in needed and not isinstance(call.last.op, _CONSTANT):
            needed.update(call.reads)
            live.add(call)
    return live


def _saved_by(node: Node, sizes: Sizes) -> Saved:
    """What a node that runs by itself saves for backward."""
    saved: Saved = {value: sizes.of(value) for value in saved_values(node.op, node)}
    if extra := extra_bytes(node.op, node, sizes):
        saved[node, "extra"] = extra
    return saved


@singledispatch
def saved_values(op: ops.Op, node: Node) -> tuple[Value, ...]:
    """Return the values from which the gradient of an op is computed."""
    return ()


@saved_values.register(ops.GroupNorm)
@saved_values.register(ops.Gate)
@saved_values.register(ops.LocalResponse)
@saved_values.register(ops.Moments)
@saved_values.register(ops.Affine)
@saved_values.register(ops.Conv)
@saved_values.register(ops.Linear)
@saved_values.register(ops.MaxPool)
@saved_values.register(ops.GlobalMaxPool)
@saved_values.register(ops.AvgPool)
@saved_values.register(ops.ScaleChannels)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.inputs


@saved_values.register
def _(op: ops.BatchNorm, node: Node) -> tuple[Value, ...]:
    return node.inputs[:1]  # the mask has no gradient


@saved_values.register
def _(op: ops.DropPath, node: Node) -> tuple[Value, ...]:
    return node.inputs[1:]


@saved_values.register
def _(op: ops.WeightedMean, node: Node) -> tuple[Value, ...]:
    return node.inputs[-1:]


@saved_values.register(ops.Relu)
@saved_values.register(ops.Sigmoid)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.outputs


@singledispatch
def extra_bytes(op: ops.Op, node: Node, sizes: Sizes) -> int:
    """Return the bytes that an op saves besides values of the graph."""
    return 0


@extra_bytes.register
def _(op: ops.BatchNorm, node: Node, sizes: Sizes) -> int:
    # Mean and 1 / standard deviation; with a mask, the batch statistics as well.
    return sizes.statistics((4 if len(node.inputs) > 1 else 2) * node.output.type.channels)


@extra_bytes.register
def _(op: ops.GroupNorm, node: Node, sizes: Sizes) -> int:
    return sizes.statistics(2 * sizes.batch * op.groups)  # mean and 1 / standard deviation


@extra_bytes.register
def _(op: ops.Gate, node: Node, sizes: Sizes) -> int:
    return sizes.parameter((1,))  # the sigmoid


@extra_bytes.register
def _(op: ops.LocalResponse, node: Node, sizes: Sizes) -> int:
    # The squares, padded along channels; the sum of each window; the divisor. In wide precision.
    maps = node.output.type
    pixels = maps.elements // maps.channels
    elements = 3 * maps.elements + (op.size - 1) * pixels
    return sizes.statistics(sizes.batch * elements)


@extra_bytes.register
def _(op: ops.Moments, node: Node, sizes: Sizes) -> int:
    return sizes.statistics(node.output.type.channels)  # the mean


@extra_bytes.register(ops.MaxPool)
@extra_bytes.register(ops.GlobalMaxPool)
def _(op: ops.Op, node: Node, sizes: Sizes) -> int:
    return sizes.positions(node.output)


@extra_bytes.register
def _(op: ops.Dropout, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # the mask on a CPU; on CUDA it takes a byte per element
