"""Fold what evaluation leaves constant, for inference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import SPATIAL_KERNEL, shared_by_stages, tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Affine, BatchNorm, Conv, Dropout, DropPath, Keep, Op
from cliquegraph.ir.storage import Array, from_storage, read_operands, to_storage
from cliquegraph.ir.types import Biased, Field, Param, ParamSlice, Piece, Slot, Tensor, whole_tensor
from cliquegraph.passes.rewrite import rewrite
from cliquegraph.semantics.arithmetic import FLOAT64, Arithmetic, rational


@dataclass(frozen=True)
class Fold:
    """Make constants of what training moves. The result takes folded tensors (``fold_tensors``).

    1. Dropout goes, and so do the masks of drop-path.
    2. A ``BatchNorm`` of a convolution's output that nothing else reads goes into the
       convolution, if that stands in the same update: kernel × scale / √(var + eps), and a bias.
       A kernel that several updates share becomes a kernel for each; where these share the
       ``BatchNorm`` too, but read other parts of the kernel, it stays by itself.
    3. Any other ``BatchNorm`` becomes an ``Affine``: two numbers for each channel, not four.
    4. Drop-path that evaluation scales by 1 - rate goes into the ``BatchNorm`` before it, whose
       scale and bias are multiplied; anywhere else it becomes an ``Affine``.
    """

    name = "fold"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph for inference; idle nodes and their tensors are left behind."""
        return _Folding(_without_choices(graph)).result


def fold_tensors(
    graph: Graph, tensors: Mapping[str, Array], arithmetic: Arithmetic = FLOAT64
) -> dict[str, Array]:
    """Return the tensors of the folded graph, by name.

    Args:
        graph: the graph that ``Fold`` was given.
        tensors: its canonical tensors.
        arithmetic: what they are folded in.

    Raises:
        WeightsError: ``tensors`` are not those of the network, or a variance is negative.
    """
    folding = _Folding(_without_choices(graph))
    storage = to_storage(graph, tensors, arithmetic.lead)
    kept = {param: storage[param] for param in folding.result.params if param in storage}
    found = from_storage(kept)
    for norm in folding.norms:
        if arithmetic is FLOAT64:
            _require_positive(norm, storage)
        found |= folding.computed(norm, storage, arithmetic)
    for path in folding.paths:
        found |= folding.constants(path, arithmetic)
    return found


def _without_choices(graph: Graph) -> Graph:
    """The graph without what does nothing in evaluation; of drop-path its factors stay."""
    values: dict[Value, Value] = {}

    def nodes_for(node: Node) -> Iterator[Node]:
        if _does_nothing(node.op):
            values[node.output] = node.inputs[0]
        elif isinstance(node.op, BatchNorm) and len(node.inputs) > 1:
            yield replace(node, inputs=node.inputs[:1])
        elif not isinstance(node.op, Keep):
            yield node

    # What goes is named like what stays in its place, so that a step still writes X2.
    hints = {node.inputs[0]: node.output.hint for node in graph.nodes if _does_nothing(node.op)}
    return _named(rewrite(graph, nodes_for, values), hints)


def _does_nothing(op: Op) -> bool:
    return isinstance(op, Dropout) or (isinstance(op, DropPath) and op.scale == "training")


def _named(graph: Graph, hints: Mapping[Value, str]) -> Graph:
    """The graph with other hints for some values."""
    values: dict[Value, Value] = {}

    def nodes_for(node: Node) -> Iterator[Node]:
        if hint := hints.get(node.output):
            values[node.output] = Value(node.output.type, hint)
            node = replace(node, outputs=(values[node.output],))
        yield node

    return rewrite(graph, nodes_for, values)


class _Folding:
    """Which normalization goes where, and the graph that comes out."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._params: dict[tuple[Slot, Field], Param] = {}
        self.norms = tuple(node for node in graph.nodes if isinstance(node.op, BatchNorm))
        makers = {norm: graph.producers[norm.inputs[0]] for norm in self.norms}
        behind = defaultdict(set)  # what each normalization is behind, wherever it stands
        for norm, maker in makers.items():
            read = tuple((o.param, o.start, o.stop) for o in maker.operands)
            behind[norm.operands[0].param].add((maker.op, read))
        self._convs = {
            norm: maker
            for norm, maker in makers.items()
            if isinstance(maker.op, Conv)
            and maker.origin == norm.origin
            and len(graph.consumers[maker.output]) == 1
            and maker.output not in graph.outputs
            and len(behind[norm.operands[0].param]) == 1
        }
        drops = [node for node in graph.nodes if isinstance(node.op, DropPath)]
        self._scaled = {
            drop.inputs[0]: drop
            for drop in drops
            if isinstance(graph.producers[drop.inputs[0]].op, BatchNorm)
            and len(graph.consumers[drop.inputs[0]]) == 1
            and drop.inputs[0] not in graph.outputs
        }
        self.paths = tuple(drop for drop in drops if drop.inputs[0] not in self._scaled)

    @cached_property
    def result(self) -> Graph:
        """The folded graph."""
        gone = {conv.output: norm for norm, conv in self._convs.items()}
        values: dict[Value, Value] = {}
        paths = {path.output: path for path in self.paths}
        norms = {norm.output: norm for norm in self.norms}
        merged: dict[Value, Node] = {}

        def nodes_for(node: Node) -> Iterator[Node]:
            if node.output in gone:
                merged[node.output] = node
            elif node.output in paths:
                maps, operands = node.inputs[:1], self._operands(paths[node.output])
                yield replace(node, op=Affine(), inputs=maps, operands=operands)
            elif isinstance(node.op, DropPath):
                values[node.output] = node.inputs[0]
            elif node.output not in norms:
                yield node
            elif node.inputs[0] in merged:
                norm, conv = norms[node.output], merged[node.inputs[0]]
                assert isinstance(conv.op, Conv)  # noqa: S101  # so it was chosen
                yield replace(
                    node,
                    op=replace(conv.op, bias=True),
                    inputs=conv.inputs,
                    operands=self._operands(norm),
                )
            else:
                yield replace(node, op=Affine(), operands=self._operands(norms[node.output]))

        hints = {value: drop.output.hint for value, drop in self._scaled.items()}
        folded = _named(rewrite(self._graph, nodes_for, values), hints)
        folded = replace(folded, idle=())
        tensors = {piece.tensor: None for param in folded.params for piece in param.pieces}
        return replace(folded, tensors=tuple(tensors))

    def computed(
        self, norm: Node, storage: Mapping[Param, Array], arithmetic: Arithmetic
    ) -> dict[str, Array]:
        """The folded tensors of one normalization."""
        assert isinstance(norm.op, BatchNorm)  # noqa: S101  # norms holds no other
        scale, bias, mean, var = (read_operands(norm, field, storage) for field in BatchNorm.fields)
        factor = arithmetic.divide_by_root(scale, arithmetic.offset(var, norm.op.eps))
        shift = arithmetic.subtract(bias, arithmetic.multiply(mean, factor))
        if (drop := self._scaled.get(norm.output)) is not None:
            factor = arithmetic.scale(factor, _alive(drop))
            shift = arithmetic.scale(shift, _alive(drop))
        arrays = {Field.SCALE: factor, Field.BIAS: shift}
        if norm in self._convs:
            kernel = read_operands(self._convs[norm], Field.WEIGHT, storage)
            kernel = arithmetic.multiply(kernel, factor[..., :, None, None, None])
            arrays = {Field.WEIGHT: kernel, Field.BIAS: shift}
        return {
            tensor_name(piece.tensor): arrays[operand.param.field]
            for operand in self._operands(norm)
            for piece in operand.pieces
        }

    def constants(self, path: Node, arithmetic: Arithmetic) -> dict[str, Array]:
        """The tensors of an ``Affine`` that multiplies by 1 - rate."""
        found = {}
        for operand in self._operands(path):
            for piece in operand.pieces:
                ones = np.ones((*(1,) * arithmetic.lead, *piece.tensor.shape))
                number = _alive(path) if operand.param.field is Field.SCALE else 0
                found[tensor_name(piece.tensor)] = arithmetic.scale(arithmetic.array(ones), number)
        return found

    def _operands(self, norm: Node) -> tuple[ParamSlice, ...]:
        """What the node that stands for ``norm``, or for a path, reads."""
        conv = self._convs.get(norm)
        op: Op
        if conv is None:
            slot, of, op = self._affine_slot(norm), norm, Affine()
        else:
            assert isinstance(conv.op, Conv)  # noqa: S101  # so it was chosen
            slot, of, op = self._kernel_slot(conv, norm), conv, replace(conv.op, bias=True)
        return tuple(
            self._param(Tensor(slot, field, shape, op.fields[field]), op).whole()
            for field, shape in op.param_shapes(of.input_types[:1]).items()
        )

    def _affine_slot(self, node: Node) -> Slot:
        if not isinstance(node.op, DropPath):
            return _slot(node)
        origin = node.origin
        return Slot(origin.section, node.op.mnemonic, origin.layer, origin.stage)

    def _kernel_slot(self, conv: Node, norm: Node) -> Slot:
        """The convolution's own slot, or one of its step's where steps share the kernel."""
        slot = _slot(conv)
        sharing = [node for node in self._graph.nodes if _reads(node, conv.operands[0].param)]
        if not shared_by_stages(slot) and len(sharing) == 1 and conv.operands[0].is_whole:
            return slot
        role = "mid_conv" if slot.role == SPATIAL_KERNEL else "conv"
        return replace(_slot(norm), role=role if slot.index is None else f"{role}{slot.index}")

    def _param(self, tensor: Tensor, op: Op) -> Param:
        param = whole_tensor(tensor)
        if tensor.field is Field.WEIGHT:
            axis = op.param_axis()
            piece = Piece(tensor, 0, tensor.shape[axis])
            param = Biased(tensor.slot, tensor.field, (piece,), axis)
        return self._params.setdefault((tensor.slot, tensor.field), param)


def _alive(drop: Node) -> Fraction:
    assert isinstance(drop.op, DropPath)  # noqa: S101  # so it was chosen
    return 1 - rational(drop.op.rate)


def _require_positive(norm: Node, storage: Mapping[Param, Array]) -> None:
    """Raise a ``WeightsError`` where a root would be of nothing, or less."""
    assert isinstance(norm.op, BatchNorm)  # noqa: S101  # norms are
    if (read_operands(norm, Field.VAR, storage) + norm.op.eps <= 0).any():
        (name, *_) = (
            tensor_name(piece.tensor)
            for operand in norm.operands
            if operand.param.field is Field.VAR
            for piece in operand.pieces
        )
        raise WeightsError(f"{name}: the running variance of a channel is negative")


def _slot(node: Node) -> Slot:
    return node.operands[0].param.slot


def _reads(node: Node, param: Param) -> bool:
    return any(operand.param is param for operand in node.operands)
