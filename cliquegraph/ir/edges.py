"""The kernels W(i→j) and V(j) of each block, whatever tensors they lie in."""

from __future__ import annotations

from itertools import pairwise

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import EDGE_KERNEL, SPATIAL_KERNEL
from cliquegraph.ir.types import Part, Piece, Tensor

INPUTS = 1
"""The axis of a kernel, OIHW, along which a piece is cut: its input channels."""

EdgeKernels = dict[tuple[int, int], Piece]
"""The kernel of each pair (source, target) of a block; source 0 is the block's input."""


def edge_kernels(graph: Graph) -> dict[int, EdgeKernels]:
    """Return the kernels of each block, by its index; ``graph`` is as lowered.

    A clique has a tensor for each pair. A dense layer has one over everything before it, which
    is cut where its sources end.
    """
    found: dict[int, EdgeKernels] = {}
    dense: dict[int, dict[int, Tensor]] = {}
    for tensor in graph.tensors:
        slot, block = tensor.slot, tensor.slot.section.index
        if slot.section.part is not Part.BLOCK or slot.layer is None:
            continue
        if slot.role == EDGE_KERNEL and slot.source is not None:
            whole = Piece(tensor, 0, tensor.shape[INPUTS])
            found.setdefault(block, {})[slot.source, slot.layer] = whole
        elif slot.role == "conv":
            dense.setdefault(block, {})[slot.layer] = tensor
    for block, layers in dense.items():
        # Layer j reads what layer j - 1 read and what that wrote.
        ends = [0, *(layers[layer].shape[INPUTS] for layer in sorted(layers))]
        found[block] = {
            (source, layer): Piece(layers[layer], *bounds)
            for layer in sorted(layers)
            for source, bounds in enumerate(pairwise(ends[: layer + 1]))
        }
    return dict(sorted(found.items()))


def spatial_kernels(graph: Graph) -> dict[int, dict[int, Tensor]]:
    """Return the kernel V(j) of each layer j that has a bottleneck, by block.

    In a dense layer it is the 3×3 convolution after the 1×1 one.
    """
    found: dict[int, dict[int, Tensor]] = {}
    for tensor in graph.tensors:
        slot = tensor.slot
        if slot.role in (SPATIAL_KERNEL, "mid_conv") and slot.layer is not None:
            found.setdefault(slot.section.index, {})[slot.layer] = tensor
    return found


def kernel_shape(piece: Piece) -> tuple[int, ...]:
    """Return the shape of a kernel, OIHW."""
    shape = list(piece.tensor.shape)
    shape[INPUTS] = piece.extent
    return tuple(shape)
