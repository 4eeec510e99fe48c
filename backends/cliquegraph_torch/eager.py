"""What eager PyTorch runs as one call, and what each call saves for backward.

The generated code runs most nodes by themselves: PyTorch's ``derivatives.yaml`` defines what each
saves, its inputs or its output and perhaps buffers of its own. A normalization by given moments,
and nodes marked ``recompute``, run in one call with the nodes before and after them, a unit.

A normalization by given moments reads columns of a slab. Maps are put into the slab in a call of
their own, which computes their moments; whatever else reads them gets a copy. For autograd, all of
these save one storage, the slab, and one of the moments of all columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, singledispatch

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MapType
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

    With ``in_place`` the output overwrites the input. With ``recomputed`` it is an average pool of
    maps that the backward pass recomputes, which saves their shape alone. With ``slab`` it puts
    maps into a slab, or reads some; ``channels_last`` is the layout of those that it puts.
    """

    nodes: tuple[Node, ...]
    in_place: bool = False
    recomputed: bool = False
    slab: Slab | None = None
    channels_last: bool = False

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
    def has_layer(self) -> bool:
        """Whether a unit ends with a convolution or a pool, and not with its ReLU."""
        return self.is_unit and not isinstance(self.last.op, ops.Relu)

    @property
    def is_unit(self) -> bool:
        """Whether the nodes run in one function, which the generated code defines."""
        return len(self.nodes) > 1

    @property
    def puts(self) -> bool:
        """Whether the call puts maps into a slab, and computes their moments."""
        return self.slab is not None and isinstance(self.last.op, ops.Moments)

    @property
    def adopts(self) -> bool:
        """Whether the maps that the call puts become the slab, which has no others."""
        return self.slab is not None and len(self.slab.values) == 1 and self.channels_last

    @property
    def gathered(self) -> int:
        """The channels that a call reads from a slab."""
        return sum(value.type.channels for value in self.maps)

    @property
    def maps(self) -> tuple[Value, ...]:
        """The maps that a call reads from a slab."""
        columns = () if self.slab is None else self.slab.values
        return tuple(value for value in self.reads if value in columns)

    @property
    def keeps(self) -> bool:
        """Whether a call that reads a slab saves what its convolution reads."""
        return isinstance(self.last.op, ops.Conv) and not any(n.recompute for n in self.nodes)

    @property
    def own_moments(self) -> bool:
        """Whether a unit computes moments itself: batch statistics of this layer alone."""
        return self.is_unit and any(isinstance(node.op, ops.BatchNorm) for node in self.nodes)

    @property
    def joined(self) -> Value | None:
        """The buffer of a unit: its maps concatenated, normalized, rectified."""
        if not self.is_unit or self.slab is not None:
            return None
        return self.last.inputs[0] if isinstance(self.last.op, ops.Conv) else self.output

    def saved(self, sizes: Sizes) -> Saved:
        """Return what the call saves for backward; parameters are not counted."""
        if self.recomputed:
            return {}
        if self.slab is not None:
            return _saved_in_slab(self, self.slab, sizes)
        if self.joined is None:
            return _saved_by(self.last, sizes) | dict(self.cast_weights(sizes))
        maps = [value for value in self.reads if not sizes.is_fixed(value)]
        saved: Saved = {value: sizes.of(value) for value in maps}
        if self.own_moments:
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
    of such a feature in a list. Where a unit reads them from their slab, they stay there.
    """
    units = {last: unit.nodes for last, unit in units_of(graph).items()}
    inside = {node for unit in units.values() for node in unit}
    slabs = SlabCalls(graph)
    calls: list[Call] = []
    for node in graph.nodes[1:]:
        if node in graph.unread_features:
            calls += [] if slabs.is_read(node) else slabs.copies(node)
        elif node in units and (slab := slabs.of_unit(units[node])) is not None:
            calls += slabs.read(units[node], slab)
        elif isinstance(node.op, ops.Moments) and slabs.holds(node.inputs[0]):
            calls += slabs.put(node)
        elif node in units:
            first, *others = units[node]
            calls += slabs.copies(first)
            calls.append(Call((slabs.reading_copies(first), *others)))
        elif node not in inside:
            calls += slabs.copies(node)
            overwrites = bool(calls) and _overwrites(graph, node, calls[-1])
            pools = isinstance(node.op, ops.AvgPool)
            recomputed = pools and graph.producers[node.inputs[0]].recompute
            calls.append(Call((slabs.reading_copies(node),), overwrites, recomputed))
    return calls


class SlabCalls:
    """The calls that put maps into slabs and copy them from there."""

    def __init__(self, graph: Graph) -> None:
        self._slabs = {value: slab for slab in graph.slabs for value in slab.values}
        self._makers = graph.producers
        norms = [node for node in graph.nodes if isinstance(node.op, ops.Normalize)]
        self._reads = {self._read_by(norm) for norm in norms}
        for read in self._reads:
            if len(read) == 1:  # maps that are normalized by themselves get a slab of their own
                self._slabs.setdefault(read[0], Slab(read))
        self._layouts = channels_last(graph)
        self._waiting: dict[Slab, Node] = {}
        self._written: set[Value] = set()
        self._copies: dict[tuple[Origin, Value], Value] = {}

    def holds(self, value: Value) -> bool:
        """Tell whether a value is put into a slab, sooner or later."""
        return value in self._slabs

    def is_read(self, feature: Node) -> bool:
        """Tell whether a unit reads all maps of a block feature from their slab."""
        return feature.inputs in self._reads

    def of_unit(self, nodes: tuple[Node, ...]) -> Slab | None:
        """Return the slab from which a unit reads by given moments."""
        norms = (node for node in nodes if isinstance(node.op, ops.Normalize))
        return next((self._slabs[self._read_by(norm)[0]] for norm in norms), None)

    def _read_by(self, norm: Node) -> tuple[Value, ...]:
        """The maps that are normalized together."""
        maker = self._makers[norm.inputs[0]]
        return maker.inputs if isinstance(maker.op, ops.Concat) else norm.inputs[:1]

    def put(self, moments: Node) -> list[Call]:
        """Return the call that puts maps into their slab; one by themselves wait for a reader."""
        value = moments.inputs[0]
        slab = self._slabs[value]
        if len(slab.values) == 1:
            self._waiting[slab] = moments
            return []
        return [self._put(moments, slab)]

    def read(self, nodes: tuple[Node, ...], slab: Slab) -> list[Call]:
        """Return the call of a unit, behind the one that makes a slab of maps by themselves."""
        moments = self._waiting.pop(slab, None)
        first = [] if moments is None else [self._put(moments, slab)]
        return [*first, self._call(nodes, slab)]

    def _put(self, moments: Node, slab: Slab) -> Call:
        self._written.add(moments.inputs[0])
        return self._call((moments,), slab)

    def _call(self, nodes: tuple[Node, ...], slab: Slab) -> Call:
        maps = nodes[0].inputs[0] if isinstance(nodes[0].op, ops.Moments) else slab.values[0]
        return Call(nodes, slab=slab, channels_last=maps in self._layouts)

    def copies(self, node: Node) -> list[Call]:
        """Return the calls that copy what a node reads from slabs; once for all of an update."""
        calls = []
        for value in dict.fromkeys(node.inputs):
            place = node.origin, value
            if value not in self._written or place in self._copies:
                continue
            if self._makers[value].origin == node.origin:
                continue  # before it is a feature
            copy = self._copies[place] = Value(value.type, value.hint)
            maker = Node(ops.Concat(), (value,), (), (copy,), node.origin)
            calls.append(self._call((maker,), self._slabs[value]))
        return calls

    def reading_copies(self, node: Node) -> Node:
        """Return a node that reads copies in place of what is in slabs."""
        inputs = tuple(self._copies.get((node.origin, value), value) for value in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs)


def channels_last(graph: Graph) -> set[Value]:
    """Return the maps that lie in memory with the channels of a pixel next to each other.

    What is read from a slab does, and what operations compute from that; images do not.
    """
    found: set[Value] = set()
    for node in graph.nodes:
        maps = [value for value in node.inputs if isinstance(value.type, MapType)]
        if isinstance(node.op, ops.Normalize) or (maps and found.issuperset(maps)):
            found.update(node.outputs)
    return found


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


def _saved_in_slab(call: Call, slab: Slab, sizes: Sizes) -> Saved:
    """What a call saves that puts maps into a slab or reads some from it.

    The slab is one storage. Each of its columns counts where it is put, though.
    """
    values = call.reads if call.puts else slab.values
    saved: Saved = {}
    for value in values:
        key = value if call.adopts else (slab, value)
        saved[key] = sizes.of(value)
        saved[slab, "moments", value] = sizes.statistics(2 * value.type.channels)
    if not call.puts:
        # The moments of what is read, and 1 / standard deviation.
        saved[call, "moments"] = sizes.statistics(2 * call.gathered)
        saved[call, "invstd"] = sizes.statistics(call.gathered)
        if call.is_unit:
            saved[call, "factor and shift"] = sizes.statistics(2 * call.gathered)
        if call.keeps:
            saved[call.last.inputs[0]] = sizes.of(call.last.inputs[0])
    return saved


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
    elements = 2 * node.output.type.elements + padded_elements(op, node)
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


def padded_elements(op: ops.LocalResponse, node: Node) -> int:
    """Count the elements of maps that are padded along channels for windows of every channel."""
    maps = node.output.type
    return maps.elements + (op.size - 1) * (maps.elements // maps.channels)
