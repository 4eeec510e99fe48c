"""The meaning of every op: an interpreter of the op graph, in any arithmetic.

In float64 it is the reference for the backends, so it favors plain definitions over speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce, singledispatch

import numpy as np

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.storage import from_storage, read_operands, to_storage
from cliquegraph.ir.types import Field, MapType, Param
from cliquegraph.semantics.arithmetic import (
    FLOAT64,
    Arithmetic,
    Array,
    average_pool,
    convolve,
    convolve_depthwise,
    global_max,
    group_normalize,
    local_response,
    max_pool,
    mean,
    move,
    per_channel,
    survival,
    upsample,
)

Mask = Callable[[Node, Array], Array]


@dataclass(frozen=True)
class Result:
    """The result of one forward pass.

    Attributes:
        logits: (batch, classes), or (stages, batch, classes) of readouts over time.
        features: each block's feature, (batch, channels, height, width).
        running: running statistics after the pass, by canonical name; unchanged in evaluation.
        values: every value of the graph.
    """

    logits: Array
    features: tuple[Array, ...]
    running: dict[str, Array]
    values: dict[Value, Array] = field(repr=False)


@dataclass
class _Frame:
    """The state of one forward pass."""

    storage: dict[Param, Array]
    training: bool
    mask: Mask | None
    arithmetic: Arithmetic = FLOAT64

    def read(self, node: Node, tensor: Field) -> Array:
        """Return a node's operands of one field."""
        return read_operands(node, tensor, self.storage)

    def observe(
        self,
        node: Node,
        tensor: Field,
        observed: Array,
        momentum: float,
        keep: Array | None,
    ) -> None:
        """Move a running statistic toward that of this batch; scaled by ``keep`` if given."""
        (operand,) = (o for o in node.operands if o.param.field == tensor)
        running = self.storage[operand.param][..., operand.start : operand.stop]
        moved = move(self.arithmetic, running, observed, momentum)
        if keep is not None:
            change = self.arithmetic.subtract(moved, running)
            change = self.arithmetic.multiply(change, keep[..., 0, 0, 0])
            moved = self.arithmetic.add(running, change)
        running[...] = moved

    @property
    def chooses(self) -> bool:
        """Whether random ops apply masks: in training, if masks are given."""
        return self.training and self.mask is not None


def interpret(
    graph: Graph,
    tensors: Mapping[str, Array],
    images: Array,
    *,
    training: bool = False,
    mask: Mask | None = None,
    arithmetic: Arithmetic = FLOAT64,
) -> Result:
    """Run a forward pass of a graph.

    Args:
        graph: at any -O level.
        tensors: canonical tensors by name.
        images: (batch, channels, height, width).
        training: normalize by batch statistics, update running statistics, apply dropout.
        mask: the result of a random op in training, given its node and input: the output of
            dropout, the mask that a ``Keep`` draws, (1 or batch, 1, 1, 1), or the weights that a
            ``JoinWeights`` draws, (operands,); default: dropout does nothing and neither branches
            nor operands are dropped, so that networks with them can be compared.
        arithmetic: the arithmetic of the evaluation.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
        UsageError: ``images`` do not have the network's shape.
    """
    require_type(graph, Graph, "cliquegraph.lower(cliquegraph.unroll(network))")
    expected, lead = graph.input.type, arithmetic.lead
    shape = images.shape[lead:]
    if len(shape) != 4 or MapType(*shape[1:]) != expected:
        raise UsageError(f"images of shape {shape}: must be batch x {expected}")
    stored = to_storage(graph, tensors, lead)
    storage = {param: arithmetic.array(array) for param, array in stored.items()}
    frame = _Frame(storage, training, mask, arithmetic)
    values: dict[Value, Array] = {graph.input: arithmetic.array(images)}
    for node in graph.nodes[1:]:
        arguments = [values[value] for value in node.inputs]
        values[node.output] = evaluate(node.op, node, arguments, frame)
    statistics = {param: array for param, array in storage.items() if not param.field.trainable}
    return Result(
        logits=values[graph.logits],
        features=tuple(values[value] for value in graph.features),
        running=from_storage(statistics),
        values=values,
    )


@singledispatch
def evaluate(op: ops.Op, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    """Compute one node; each op registers its meaning."""
    raise TypeError(f"the interpreter does not know {op.mnemonic}")


@evaluate.register
def _(op: ops.Input, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    raise TypeError("an input is not computed")


@evaluate.register
def _(op: ops.Concat, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    channels = -3 if isinstance(node.output.type, MapType) else -1
    return np.concatenate(arguments, axis=channels)


@evaluate.register
def _(op: ops.Stack, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.stack(arguments, axis=-3)


@evaluate.register
def _(op: ops.Add, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    total, *others = arguments
    for other in others:
        total = frame.arithmetic.add(total, other)
    return frame.arithmetic.divide(total, op.count) if isinstance(op, ops.Mean) else total


@evaluate.register
def _(op: ops.PadChannels, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    behind = op.channels - x.shape[-3]
    return np.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, behind), (0, 0), (0, 0)])


@evaluate.register
def _(op: ops.BatchNorm, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    x, *masks = arguments
    keep = masks[0] if masks and frame.chooses else None
    moments = _moments(op.momentum, node, x, frame, keep)
    return _normalize(x, *moments, op.eps, node, frame)


@evaluate.register
def _(op: ops.Moments, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    return np.stack(_moments(op.momentum, node, x, frame), axis=-2)


@evaluate.register
def _(op: ops.Normalize, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    x, *moments = arguments
    both = np.concatenate(moments, axis=-1)
    return _normalize(x, both[..., 0, :], both[..., 1, :], op.eps, node, frame)


@evaluate.register
def _(op: ops.GroupNorm, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    normalized = group_normalize(frame.arithmetic, arguments[0], op.groups, op.eps)
    scale, bias = frame.read(node, Field.SCALE), frame.read(node, Field.BIAS)
    return _scale_and_shift(normalized, scale, bias, frame)


@evaluate.register
def _(op: ops.LocalResponse, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return local_response(frame.arithmetic, arguments[0], op.size, op.alpha, op.beta)


@evaluate.register
def _(op: ops.Affine, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    scale, bias = frame.read(node, Field.SCALE), frame.read(node, Field.BIAS)
    return _scale_and_shift(arguments[0], scale, bias, frame)


def _moments(
    momentum: float, node: Node, x: Array, frame: _Frame, keep: Array | None = None
) -> tuple[Array, Array]:
    """The moments to normalize by; in training those of the batch, which move the running ones."""
    if not frame.training:
        return frame.read(node, Field.MEAN), frame.read(node, Field.VAR)
    arithmetic, pixels = frame.arithmetic, (-4, -2, -1)
    count = x.shape[-4] * x.shape[-2] * x.shape[-1]
    if count < 2:
        raise UsageError(
            f"{node.origin}: one value per channel has no variance; use a larger batch"
        )
    center = mean(arithmetic, x, pixels)
    centered = arithmetic.subtract(x, per_channel(center))
    var = mean(arithmetic, arithmetic.multiply(centered, centered), pixels)
    frame.observe(node, Field.MEAN, center, momentum, keep)
    unbiased = arithmetic.divide(arithmetic.scale(var, count), count - 1)
    frame.observe(node, Field.VAR, unbiased, momentum, keep)
    return center, var


def _normalize(x: Array, center: Array, var: Array, eps: float, node: Node, frame: _Frame) -> Array:
    arithmetic = frame.arithmetic
    scale = frame.read(node, Field.SCALE)
    scale = arithmetic.divide_by_root(scale, arithmetic.offset(var, eps))
    bias = arithmetic.subtract(frame.read(node, Field.BIAS), arithmetic.multiply(center, scale))
    return _scale_and_shift(x, scale, bias, frame)


def _scale_and_shift(x: Array, scale: Array, bias: Array, frame: _Frame) -> Array:
    arithmetic = frame.arithmetic
    return arithmetic.add(arithmetic.multiply(x, per_channel(scale)), per_channel(bias))


@evaluate.register
def _(op: ops.Bias, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return frame.arithmetic.add(arguments[0], per_channel(frame.read(node, Field.BIAS)))


@evaluate.register
def _(op: ops.Gate, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    factor = frame.arithmetic.sigmoid(frame.read(node, Field.WEIGHT))
    return frame.arithmetic.multiply(arguments[0], per_channel(factor))


@evaluate.register
def _(op: ops.Relu, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return frame.arithmetic.relu(arguments[0])


@evaluate.register
def _(op: ops.Sigmoid, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return frame.arithmetic.sigmoid(arguments[0])


@evaluate.register
def _(op: ops.Dropout, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    if frame.training and frame.mask is not None:
        return frame.mask(node, arguments[0])
    return arguments[0]


@evaluate.register
def _(op: ops.Keep, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    if frame.training and frame.mask is not None:
        return frame.mask(node, x)
    return np.ones((*x.shape[:-4], 1, 1, 1, 1), x.dtype)  # unused: nothing is multiplied by it


@evaluate.register
def _(op: ops.DropPath, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    x, keep = arguments
    alive = survival(op.rate)
    if frame.chooses:
        x = frame.arithmetic.multiply(x, keep)
    if not frame.training:
        return frame.arithmetic.scale(x, alive) if op.scale == "evaluation" else x
    return frame.arithmetic.scale(x, 1 / alive) if op.scale == "training" else x


@evaluate.register
def _(op: ops.DrawColumn, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    return np.zeros((*x.shape[:-4], op.columns), x.dtype)  # unused: weights are given


@evaluate.register
def _(op: ops.JoinWeights, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    x = arguments[0]
    if frame.training and frame.mask is not None:
        return frame.mask(node, x)
    return frame.arithmetic.divide(np.ones((*x.shape[:-4], op.count), x.dtype), op.count)


@evaluate.register
def _(op: ops.WeightedMean, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    *maps, weights = arguments
    terms = [
        frame.arithmetic.multiply(x, weights[..., i, None, None, None, None])
        for i, x in enumerate(maps)
    ]
    return reduce(frame.arithmetic.add, terms)


@evaluate.register
def _(op: ops.Conv, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    kernel = frame.read(node, Field.WEIGHT)
    apply = convolve_depthwise if op.depthwise else convolve
    maps = apply(frame.arithmetic, arguments[0], kernel, op.stride, op.padding)
    if not op.bias:
        return maps
    return frame.arithmetic.add(maps, per_channel(frame.read(node, Field.BIAS)))


@evaluate.register
def _(op: ops.Linear, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    weight, bias = frame.read(node, Field.WEIGHT), frame.read(node, Field.BIAS)
    product = frame.arithmetic.matmul(arguments[0], weight.swapaxes(-1, -2))
    return frame.arithmetic.add(product, bias[..., None, :])


@evaluate.register
def _(op: ops.MaxPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return max_pool(frame.arithmetic, arguments[0], op.kernel, op.stride, op.padding)


@evaluate.register
def _(op: ops.AvgPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return average_pool(frame.arithmetic, arguments[0], op.kernel, op.stride)


@evaluate.register
def _(op: ops.GlobalAvgPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return mean(frame.arithmetic, arguments[0], (-2, -1))


@evaluate.register
def _(op: ops.GlobalMean, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return mean(frame.arithmetic, arguments[0], (-2, -1))[..., None, None]


@evaluate.register
def _(op: ops.GlobalMaxPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return global_max(frame.arithmetic, arguments[0])


@evaluate.register
def _(op: ops.Upsample, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return upsample(arguments[0], op.factor)


@evaluate.register
def _(op: ops.Zeros, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    (maps,) = op.infer((MapType(*x.shape[-3:]),))
    assert isinstance(maps, MapType)  # noqa: S101  # as it infers
    return np.zeros((*x.shape[:-3], maps.channels, maps.height, maps.width), x.dtype)


@evaluate.register
def _(op: ops.ScaleChannels, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    maps, vector = arguments
    return frame.arithmetic.multiply(maps, vector[..., None, None])
