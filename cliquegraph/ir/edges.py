"""The kernels W(i→j) and V(j) of each block, whichever tensors contain them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import is_edge_kernel
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import BatchNorm, Concat, Conv, Relu
from cliquegraph.ir.types import Piece, Tensor

INPUTS = 1
"""The axis of a kernel, OIHW, along which a piece is cut: its input channels."""

EdgeKernels = dict[tuple[int, int], Piece]
"""The kernel of each pair (source, target) of a block; source 0 is the block's input."""


def edge_kernels(graph: Graph) -> dict[int, EdgeKernels]:
    """Return the kernels of each block, by its index; ``graph`` is as lowered.

    A pair has a tensor of its own, or, as in a dense block, a slice of one kernel over everything
    that the layer reads. Of several kernels on one edge, the pair's is the first.
    """
    kernels: dict[int, EdgeKernels] = {}
    for node in _convolutions(graph):
        block = kernels.setdefault(node.origin.section.index, {})
        layer = node.origin.layer or 0
        if is_edge_kernel(node.operands[0].param.slot):
            for operand in node.operands:
                (piece,) = operand.param.pieces
                if (source := piece.tensor.slot.source) is not None:
                    block.setdefault((source, layer), piece)
        elif (concat := _gathered(graph, node)) is not None:
            (tensor,) = (piece.tensor for piece in node.operands[0].pieces)
            ends = [0, *accumulate(value.type.channels for value in concat.inputs)]
            for value, bounds in zip(concat.inputs, pairwise(ends), strict=True):
                block[_layer(graph, value, node), layer] = Piece(tensor, *bounds)
    return {index: block for index, block in kernels.items() if block}


def spatial_kernels(graph: Graph) -> dict[int, dict[int, Tensor]]:
    """Return the kernel V(j) of each layer j that has one after its edges, by block.

    In a dense layer it is the 3×3 convolution after the 1×1 one. A layer with several such
    kernels is left out.
    """
    kernels: dict[int, dict[int, Tensor]] = {}
    for node in _convolutions(graph):
        slot = node.operands[0].param.slot
        on_edges = is_edge_kernel(slot) or _gathered(graph, node) is not None
        if not on_edges and slot.index is None and slot.role != "shortcut.conv":
            (piece,) = node.operands[0].pieces
            kernels.setdefault(slot.section.index, {})[node.origin.layer or 0] = piece.tensor
    return kernels


def _convolutions(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if isinstance(node.op, Conv) and node.origin.layer is not None:
            yield node


def _gathered(graph: Graph, conv: Node) -> Node | None:
    """The concatenation of a layer's sources that a convolution reads, if it reads one."""
    node = graph.producers[conv.inputs[0]]
    while isinstance(node.op, BatchNorm | Relu) and node.origin == conv.origin:
        node = graph.producers[node.inputs[0]]
    is_gathered = isinstance(node.op, Concat) and node.origin == conv.origin
    return node if is_gathered else None


def _layer(graph: Graph, value: Value, reader: Node) -> int:
    """The layer of a block that wrote a value; 0 for X0."""
    origin = graph.producers[value].origin
    return (origin.layer or 0) if origin.section == reader.origin.section else 0


def kernel_shape(piece: Piece) -> tuple[int, ...]:
    """Return the shape of a kernel, OIHW."""
    shape = list(piece.tensor.shape)
    shape[INPUTS] = piece.extent
    return tuple(shape)
