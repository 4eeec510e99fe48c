"""What PyTorch's operators read and write in a training step, in bytes, call by call.

Each map that an operator reads and each that it writes counts once for the operator, forward and
backward; one that it reads and changes in place counts twice, and a view not at all. Not counted:
parameters, moments and their gradients, which do not grow with the batch; copies into another
layout, so maps are assumed to be channels_last; casts by autocast; and the loss. Operators are
those that run on a CPU: on a GPU, slabs are read and differentiated by Triton's kernels, which move
less.

``benchmarks/bytes_moved.py`` counts, while a model runs, the same and what parameters move.
"""

from __future__ import annotations

from collections import Counter
from functools import singledispatch

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MaskType, MomentsType, WeightsType
from cliquegraph_torch.eager import Call, behind_logits, padded_elements, saved_values
from cliquegraph_torch.precision import Sizes


def moved_bytes(graph: Graph, calls: list[Call], sizes: Sizes) -> tuple[int, int]:
    """Return the bytes that a training step moves, forward and backward.

    Args:
        graph: the network.
        calls: the calls of its training pass (``calls_of``).
        sizes: the sizes of values.
    """
    return _Step(graph, calls, sizes).count()


class _Step:
    def __init__(self, graph: Graph, calls: list[Call], sizes: Sizes) -> None:
        self._graph, self._calls, self._sizes = graph, calls, sizes
        self._live = behind_logits(graph, calls)
        self._constant = {
            call.output for call in calls if isinstance(call.last.op, ops.Zeros | ops.DrawColumn)
        }
        self._gradients: Counter[Value] = Counter()
        self._expanded: Counter[Value] = Counter()  # those of them
        self._has_gradient: set[Slab] = set()

    def count(self) -> tuple[int, int]:
        forward, backward = sum(map(self._forward, self._calls)), 0
        for call in reversed(self._calls):
            if call in self._live:
                backward += self._backward(call)
        # Each gradient but a value's first is added to those before: two are read, one is written.
        # Of a mean's, which is expanded, next to nothing is read.
        passes = {
            value: 3 * (n - 1) - (self._expanded[value] if n > 1 else 0)
            for value, n in self._gradients.items()
        }
        return forward, backward + sum(n * self._of(value) for value, n in passes.items())

    def _of(self, *values: Value) -> int:
        return sum(self._sizes.of(each) for each in values if not _is_small(each))

    # ---- forward -------------------------------------------------------------------------

    def _forward(self, call: Call) -> int:
        if call.slab is not None and call.puts:
            (value,) = call.reads
            alone = len(call.slab.values) == 1  # then the maps themselves are the slab
            return self._of(value) * (1 if alone else 3)  # statistics; a copy into columns
        if call.slab is None and not call.is_unit:
            return forward_bytes(call.last.op, call.last, self._sizes)
        joined = self._joined_bytes(call)
        if call.slab is not None and not call.is_unit:  # a copy of columns
            return 2 * joined
        statistics = joined if call.own_moments else 0
        read = self._concatenation_bytes(call) + _rectify_passes(call) * joined
        layer = joined + self._of(call.output) if call.has_layer else 0
        return read + statistics + layer

    def _joined_bytes(self, call: Call) -> int:
        """What a unit normalizes, or what is read from a slab."""
        if call.slab is not None:
            return self._of(*call.maps)
        return 0 if call.joined is None else self._of(call.joined)

    def _concatenation_bytes(self, call: Call) -> int:
        several = call.slab is None and sum(not _is_small(value) for value in call.reads) > 1
        return 2 * self._joined_bytes(call) if several else 0

    # ---- backward ------------------------------------------------------------------------

    def _backward(self, call: Call) -> int:
        if call.slab is not None:
            return self._backward_in_slab(call, call.slab)
        for value in call.reads:
            if value is not self._graph.input and value not in self._constant:
                self._gradients[value] += not _is_small(value)
                self._expanded[value] += isinstance(call.last.op, ops.GlobalMean)
        if call.is_unit:
            return self._backward_of_unit(call)
        moved = backward_bytes(call.last.op, call.last, self._sizes)
        without = [v for v in call.reads if v is self._graph.input or v in self._constant]
        return moved - (self._of(*without) if isinstance(call.last.op, ops.Conv) else 0)

    def _backward_of_unit(self, call: Call) -> int:
        joined, grad = self._joined_bytes(call), self._of(call.output)
        recomputed = self._concatenation_bytes(call) + _rectify_passes(call) * joined
        has_norm = _rectify_passes(call) > 0
        norm = 6 * joined if has_norm else 0  # the mask, and the normalization's gradient
        return recomputed + norm + (grad + 2 * joined if call.has_layer else 0)

    def _backward_in_slab(self, call: Call, slab: Slab) -> int:
        if call.puts:  # the gradient by way of the moments; plus that of the columns
            (value,) = call.reads
            self._gradients[value] += 1
            return 5 * self._of(value)
        joined, grad = self._joined_bytes(call), self._of(call.output)
        is_first = slab not in self._has_gradient
        moved = self._of(*slab.values) - joined if is_first else 0  # zeros between the windows
        self._has_gradient.add(slab)
        to_columns = 2 * joined if is_first else 3 * joined
        if not call.is_unit:
            return moved + to_columns
        op = call.last.op
        mask, sums = 3 * joined, joined
        if not call.keeps:
            moved += 4 * joined
        if self._sizes.casts or not isinstance(op, ops.Conv):
            sums += 4 * joined  # products with the maps, of which the scale's gradient is the sum
        moved += grad + (2 * joined if call.has_layer else joined)
        return moved + mask + sums + to_columns


def _is_small(value: Value) -> bool:
    """Whether a value has no element for each pixel or image."""
    return isinstance(value.type, MomentsType | WeightsType | MaskType)


def _rectify_passes(call: Call) -> int:
    """How often a unit reads or writes what it normalizes: factor and shift, then the ReLU."""
    return 4 if any(isinstance(node.op, ops.Relu) for node in call.nodes) else 0


def _large(values: tuple[Value, ...], sizes: Sizes) -> int:
    return sum(sizes.of(value) for value in values if not _is_small(value))


@singledispatch
def forward_bytes(op: ops.Op, node: Node, sizes: Sizes) -> int:
    """Return what an op that runs by itself moves."""
    return _large(node.inputs, sizes) + _large(node.outputs, sizes)


@forward_bytes.register
def _(op: ops.Add, node: Node, sizes: Sizes) -> int:
    return 3 * (len(node.inputs) - 1) * sizes.of(node.output)


@forward_bytes.register
def _(op: ops.Mean, node: Node, sizes: Sizes) -> int:
    return (3 * (len(node.inputs) - 1) + 2) * sizes.of(node.output)


@forward_bytes.register
def _(op: ops.MaxPool, node: Node, sizes: Sizes) -> int:
    return _large((*node.inputs, node.output), sizes) + sizes.positions(node.output)


@forward_bytes.register(ops.DrawColumn)
@forward_bytes.register(ops.JoinWeights)
def _(op: ops.Op, node: Node, sizes: Sizes) -> int:
    return 0  # of maps it reads the device alone


@forward_bytes.register
def _(op: ops.Zeros, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)


@forward_bytes.register
def _(op: ops.WeightedMean, node: Node, sizes: Sizes) -> int:
    count = len(node.inputs) - 1  # the last are the weights
    return (2 * count + 3 * (count - 1)) * sizes.of(node.output)


@forward_bytes.register
def _(op: ops.LocalResponse, node: Node, sizes: Sizes) -> int:
    # The square, padded, averaged, times α, plus 1, to the power of β; the quotient.
    maps, padded = _local_response(op, node, sizes)
    return 13 * maps + 2 * padded


def _local_response(op: ops.LocalResponse, node: Node, sizes: Sizes) -> tuple[int, int]:
    """The bytes of maps, and of maps padded along channels, in the precision of the squares."""
    elements = node.output.type.elements, padded_elements(op, node)
    maps, padded = (sizes.statistics(sizes.batch * each) for each in elements)
    return maps, padded


@forward_bytes.register
def _(op: ops.Dropout, node: Node, sizes: Sizes) -> int:
    return 6 * sizes.of(node.output)  # the mask is drawn, divided in place, and multiplied


@singledispatch
def backward_bytes(op: ops.Op, node: Node, sizes: Sizes) -> int:
    """Return what the gradient of an op moves, if the op runs by itself."""
    saved = saved_values(op, node)
    return _large((node.output, *saved, *node.inputs), sizes)


@backward_bytes.register(ops.Concat)
@backward_bytes.register(ops.Add)
def _(op: ops.Op, node: Node, sizes: Sizes) -> int:
    return 0  # views of the gradient


@backward_bytes.register
def _(op: ops.Bias, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # its sum


@backward_bytes.register
def _(op: ops.WeightedMean, node: Node, sizes: Sizes) -> int:
    return 2 * (len(node.inputs) - 1) * sizes.of(node.output)


@backward_bytes.register
def _(op: ops.LocalResponse, node: Node, sizes: Sizes) -> int:
    maps, padded = _local_response(op, node, sizes)
    return 37 * maps + 3 * padded


@backward_bytes.register
def _(op: ops.Mean, node: Node, sizes: Sizes) -> int:
    return 2 * sizes.of(node.output)


@backward_bytes.register
def _(op: ops.Dropout, node: Node, sizes: Sizes) -> int:
    return 3 * sizes.of(node.output)


@backward_bytes.register
def _(op: ops.MaxPool, node: Node, sizes: Sizes) -> int:
    return _large((node.output, *node.inputs, *node.inputs), sizes) + sizes.positions(node.output)


@backward_bytes.register
def _(op: ops.GlobalAvgPool, node: Node, sizes: Sizes) -> int:
    return _large((*node.inputs, node.output), sizes)  # the gradient, expanded, is divided


@backward_bytes.register
def _(op: ops.GlobalMean, node: Node, sizes: Sizes) -> int:
    return 2 * sizes.of(node.output)  # divided, and then expanded


@backward_bytes.register(ops.ScaleChannels)
@backward_bytes.register(ops.Gate)
def _(op: ops.Op, node: Node, sizes: Sizes) -> int:
    return 6 * sizes.of(node.output)  # products with factor and maps, and the sum of the latter
