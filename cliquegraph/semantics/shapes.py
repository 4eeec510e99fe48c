"""The shapes that ops of a declaration make of maps, where they must be known before the maps."""

from __future__ import annotations

from cliquegraph.blocks.model import AvgPool, Block, Conv, MaxPool, Op, Ops, Skip, Upsample

Shape = tuple[int, ...]
"""Channels, height and width."""


def zero_shapes(block: Block, x0: Shape) -> dict[int, Shape]:
    """Return the shapes of the zeros that layers combine in stage 1 which read nothing there.

    They are those of what the layers combine in stage 2: all reads have one shape, so the first
    whose source is known determines it. A layer is missing whose shape follows from nothing.
    """
    combined: dict[int, Shape] = {}
    written = {0: x0}
    found = True
    while found:
        found = False
        for j, layer in enumerate(block.layers, start=1):
            read = next((each for each in layer.reads if each.source in written), None)
            if j in written or read is None:
                continue
            stride = 1 if read.source else block.stride
            shape = shape_after(read.ops, written[read.source], stride)
            written[j] = shape_after(layer.ops, shape, stride)
            if read.source:
                combined[j] = shape
            found = True
    return combined


def shape_after(ops: Ops, shape: Shape, stride: int) -> Shape:
    """Return the shape of maps after ops; ``stride`` is that of ops that ``reduce``."""
    for op in ops:
        match op:
            case Conv():
                channels = shape[0] if op.filters is None else op.filters
                sides = _windows(shape, op.kernel, stride_of(op, stride), (op.kernel - 1) // 2)
                shape = (channels, *sides)
            case MaxPool():
                shape = (shape[0], *_windows(shape, op.kernel, op.stride, op.padding))
            case AvgPool():
                shape = (shape[0], *_windows(shape, op.kernel, op.stride, 0))
            case Upsample():
                shape = (shape[0], shape[1] * op.factor, shape[2] * op.factor)
            case Skip():
                shape = shape_after(op.branch, shape, stride)
    return shape


def stride_of(op: Op, stride: int) -> int:
    """Return the stride of an op; ``stride`` is that of ops that ``reduce``."""
    match op:
        case Conv():
            return stride if op.reduce else op.stride
        case MaxPool() | AvgPool():
            return op.stride
    return 1


def _windows(shape: Shape, kernel: int, stride: int, padding: int) -> Shape:
    """How many windows there are along each side of padded maps."""
    return tuple((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
