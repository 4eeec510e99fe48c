"""The meaning of every op: a NumPy float64 interpreter of the op graph.

It is the oracle that the backends are compared with, so it favours the plain definition over
speed. Maps are (batch, channels, height, width), vectors (batch, channels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.storage import Array, from_storage, read_operands, to_storage
from cliquegraph.ir.types import Field, MapType, Param

Mask = Callable[[Node, Array], Array]


@dataclass(frozen=True)
class Result:
    """What one forward pass gave.

    Attributes:
        logits: (batch, classes).
        features: each block's feature, (batch, channels, height, width).
        running: running statistics after the pass, by canonical name; in eval mode as before.
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

    def read(self, node: Node, wanted: Field) -> Array:
        """What a node's operands of one field hold."""
        return read_operands(node, wanted, self.storage)

    def observe(self, node: Node, wanted: Field, observed: Array, momentum: float) -> None:
        """Move a running statistic towards what this batch shows."""
        (operand,) = (o for o in node.operands if o.param.field == wanted)
        held = self.storage[operand.param]
        held[operand.start : operand.stop] *= 1 - momentum
        held[operand.start : operand.stop] += momentum * observed


def interpret(
    graph: Graph,
    tensors: Mapping[str, Array],
    images: Array,
    *,
    training: bool = False,
    mask: Mask | None = None,
) -> Result:
    """Run a graph forwards in float64.

    Args:
        graph: at any -O level.
        tensors: canonical tensors by name.
        images: (batch, channels, height, width).
        training: normalise by the batch and update running statistics, drop out.
        mask: what dropout does in training, given its node and input; default: nothing, so
            that a network with dropout can be compared.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
        UsageError: ``images`` do not have the network's shape.
    """
    expected = graph.input.type
    if images.ndim != 4 or MapType(*images.shape[1:]) != expected:
        raise UsageError(f"images of shape {images.shape}: must be batch x {expected}")
    storage = {param: held.astype(np.float64) for param, held in to_storage(graph, tensors).items()}
    frame = _Frame(storage, training, mask)
    values: dict[Value, Array] = {graph.input: images.astype(np.float64)}
    for node in graph.nodes[1:]:
        arguments = [values[value] for value in node.inputs]
        values[node.output] = evaluate(node.op, node, arguments, frame)
    statistics = {param: held for param, held in storage.items() if not param.field.trainable}
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
    raise TypeError("an input is given, not computed")


@evaluate.register
def _(op: ops.Concat, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.concatenate(arguments, axis=1)


@evaluate.register
def _(op: ops.Add, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    first, *others = arguments
    return sum(others, start=first)


@evaluate.register
def _(op: ops.PadChannels, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    return np.pad(x, ((0, 0), (0, op.channels - x.shape[1]), (0, 0), (0, 0)))


@evaluate.register
def _(op: ops.BatchNorm, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    mean, var = _moments(op.momentum, node, x, frame)
    return _normalized(x, mean, var, op.eps, node, frame)


@evaluate.register
def _(op: ops.Moments, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    (x,) = arguments
    return np.stack(_moments(op.momentum, node, x, frame))


@evaluate.register
def _(op: ops.Normalize, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    x, *moments = arguments
    mean, var = np.concatenate(moments, axis=1)
    return _normalized(x, mean, var, op.eps, node, frame)


@evaluate.register
def _(op: ops.Affine, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    scale, bias = frame.read(node, Field.SCALE), frame.read(node, Field.BIAS)
    return arguments[0] * _per_channel(scale) + _per_channel(bias)


def _moments(momentum: float, node: Node, x: Array, frame: _Frame) -> tuple[Array, Array]:
    """The moments to normalise by; in training those of the batch, which are observed."""
    if not frame.training:
        return frame.read(node, Field.MEAN), frame.read(node, Field.VAR)
    count = x.size // x.shape[1]
    if count < 2:
        raise UsageError(
            f"{node.origin}: one number per channel has no variance; use a larger batch"
        )
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    frame.observe(node, Field.MEAN, mean, momentum)
    frame.observe(node, Field.VAR, var * count / (count - 1), momentum)
    return mean, var


def _normalized(x: Array, mean: Array, var: Array, eps: float, node: Node, frame: _Frame) -> Array:
    scale = frame.read(node, Field.SCALE) / np.sqrt(var + eps)
    bias = frame.read(node, Field.BIAS) - mean * scale
    return x * _per_channel(scale) + _per_channel(bias)


@evaluate.register
def _(op: ops.Relu, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.maximum(arguments[0], 0.0)


@evaluate.register
def _(op: ops.Sigmoid, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    # exp of a negative number only, so that no large input overflows
    small = np.exp(-np.abs(arguments[0]))
    return np.where(arguments[0] >= 0, 1.0, small) / (1.0 + small)


@evaluate.register
def _(op: ops.Dropout, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    if frame.training and frame.mask is not None:
        return frame.mask(node, arguments[0])
    return arguments[0]


@evaluate.register
def _(op: ops.Conv, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    kernel = frame.read(node, Field.WEIGHT)
    windows = _windows(arguments[0], op.kernel, op.stride, op.padding, 0.0)
    # (batch, height, width, filters) <- sum over channels and window
    maps = np.moveaxis(np.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3))), 3, 1)
    return maps + _per_channel(frame.read(node, Field.BIAS)) if op.bias else maps


@evaluate.register
def _(op: ops.Linear, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    product: Array = arguments[0] @ frame.read(node, Field.WEIGHT).T
    return product + frame.read(node, Field.BIAS)


@evaluate.register
def _(op: ops.MaxPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.asarray(
        _windows(arguments[0], op.kernel, op.stride, op.padding, -np.inf).max(axis=(4, 5))
    )


@evaluate.register
def _(op: ops.AvgPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.asarray(_windows(arguments[0], op.kernel, op.stride, 0, 0.0).mean(axis=(4, 5)))


@evaluate.register
def _(op: ops.GlobalAvgPool, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return np.asarray(arguments[0].mean(axis=(2, 3)))


@evaluate.register
def _(op: ops.ScaleChannels, node: Node, arguments: list[Array], frame: _Frame) -> Array:
    return arguments[0] * arguments[1][:, :, None, None]


def _per_channel(vector: Array) -> Array:
    return vector[:, None, None]


def _windows(x: Array, kernel: int, stride: int, padding: int, fill: float) -> Array:
    """Every window as (batch, channels, height, width, kernel, kernel)."""
    border = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(x, border, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return view[:, :, ::stride, ::stride]
