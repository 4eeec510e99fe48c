"""The widths of values and tensors: numbers, or in a block sums of its constructor's arguments.

The width of X0 is one argument, that of the layers another; all widths in a block are sums of
these, so that blocks which differ only in numbers share a class.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.dims import Dim, Width
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import FILLS, Add, Concat, WeightedMean
from cliquegraph.ir.types import Bank, MaskType, Param, Piece, WeightsType, cut

IN, OUT, FILTERS, HIDDEN = "in_channels", "out_channels", "filters", "hidden"
RATE = "drop_rate"


class Numbers:
    """Widths as they are."""

    def of(self, value: Value) -> Dim:
        """Return the width of a value."""
        return value.type.channels

    def piece(self, piece: Piece) -> Dim:
        """Return the number of input channels of a kernel in a bank."""
        return piece.extent


class BlockWidths(Numbers):
    """Widths in a block, as sums of its constructor's arguments.

    Attributes:
        arguments: the arguments, with their values for this block.
    """

    def __init__(self, nodes: Iterable[Node], x0: Value, layers: Iterable[Value]) -> None:
        """Propagate widths through a block.

        Args:
            nodes: the block's nodes, unused ones included, in order.
            x0: its input.
            layers: the results of its updates.

        Raises:
            VerificationError: a width is not a sum of the arguments.
        """
        nodes = tuple(nodes)
        self.arguments = {IN: x0.type.channels}
        self._filters: dict[int, str] = {}
        filters = list(dict.fromkeys(value.type.channels for value in layers))
        for number, channels in enumerate(filters, start=1):
            self._filters[channels] = FILTERS if len(filters) == 1 else f"{FILTERS}{number}"
            self.arguments[self._filters[channels]] = channels
        # An addend of a layer's maps is as wide as they are.
        sums = (node for node in nodes if isinstance(node.op, Add | WeightedMean))
        added = {value for node in sums for value in node.inputs}
        entry = Width.of(self._filters.get(x0.type.channels, IN) if x0 in added else IN)
        self._widths: dict[Value, Width] = {x0: entry}
        self._layers: dict[int | None, Width] = {0: entry}
        self._pieces: dict[Piece, Width] = {}  # of kernels that read one value
        for node in nodes:
            for operand in node.operands:
                if isinstance(operand.param, Bank) and len(operand.pieces) == 1:
                    self._pieces[operand.pieces[0]] = self._widths[node.inputs[0]]
            for value in node.outputs:
                if isinstance(value.type, MaskType | WeightsType):
                    continue
                width = self._width(node, value)
                if width.value(self.arguments) != value.type.channels:
                    raise VerificationError(f"{node.origin}: {width} is not {value.type.channels}")
                self._widths[value] = width
                self._layers[node.origin.layer] = width

    def _width(self, node: Node, value: Value) -> Width:
        if isinstance(node.op, Concat):
            return reduce(add, (self._widths[each] for each in node.inputs))
        if node.op.widths or isinstance(node.op, FILLS):
            return Width.of(self._argument(value.type.channels))
        return self._widths[node.inputs[0]]

    def _argument(self, channels: int) -> str:
        """The argument for the output width of a convolution that is not a layer's result."""
        if channels not in self._filters:
            hidden = sum(name.startswith(HIDDEN) for name in self.arguments)
            self._filters[channels] = f"{HIDDEN}{hidden + 1}" if hidden else HIDDEN
            self.arguments[self._filters[channels]] = channels
        return self._filters[channels]

    def of(self, value: Value) -> Width:
        """Return the width of a value."""
        return self._widths[value]

    def piece(self, piece: Piece) -> Width:
        """Return the number of input channels of a kernel in a bank."""
        return self._pieces.get(piece) or self._layers[piece.tensor.slot.source]

    def first(self, param: Param, stop: int) -> Width:
        """Return the width of a bank's first ``stop`` channels: those of its first kernels."""
        (pieces,) = cut(param.pieces, 0, stop)
        width = reduce(add, map(self.piece, pieces))
        if width.value(self.arguments) != stop:
            raise VerificationError(f"{param.slot}: {stop} channels are not whole kernels")
        return width

    def number(self, dim: Dim) -> int | str:
        """Return the value of a width in this block; a rate as it is."""
        return dim.value(self.arguments) if isinstance(dim, Width) else dim
