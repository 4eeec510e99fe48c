"""Fold, for inference, what is constant in evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import SPATIAL_KERNEL, tensor_name, value_hint
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import (
    Affine,
    BatchNorm,
    Conv,
    DrawColumn,
    Dropout,
    DropPath,
    JoinWeights,
    Keep,
    Mean,
    Op,
    WeightedMean,
)
from cliquegraph.ir.storage import Array, from_storage, read_operands, to_storage
from cliquegraph.ir.types import Biased, Field, Param, ParamSlice, Piece, Slot, Tensor, whole_tensor
from cliquegraph.passes.rewrite import rewrite
from cliquegraph.semantics.arithmetic import FLOAT64, Arithmetic, survival


@dataclass(frozen=True)
class Fold:
    """Turn running statistics into constants. The result takes folded tensors (``fold_tensors``).

    1. Dropout and the masks of drop-path are removed; a join is the mean of its operands.
    2. A ``BatchNorm`` of a convolution's output that nothing else reads is folded into the
       convolution, if that belongs to the same update: kernel × scale / √(var + eps), and a bias.
       A kernel that several updates share becomes a kernel for each; where these share the
       ``BatchNorm`` too, but read other parts of the kernel, it is not folded.
    3. Any other ``BatchNorm`` becomes an ``Affine``: two values per channel, not four.
    4. Drop-path that is scaled by 1 - rate in evaluation is folded into the ``BatchNorm`` before
       it, whose scale and bias are multiplied; anywhere else it becomes an ``Affine``.
    """

    name = "fold"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph for inference, without unused nodes and their tensors."""
        return _Folding(_remove_randomness(graph)).result


def fold_tensors(
    graph: Graph, tensors: Mapping[str, Array], arithmetic: Arithmetic = FLOAT64
) -> dict[str, Array]:
    """Return the tensors of the folded graph, by name.

    Args:
        graph: the graph that ``Fold`` was given.
        tensors: its canonical tensors.
        arithmetic: the arithmetic of the folding.

    Raises:
        WeightsError: ``tensors`` are not those of the network, or a variance is negative.
    """
    folding = _Folding(_remove_randomness(graph))
    storage = to_storage(graph, tensors, arithmetic.lead)
    unchanged = {param: storage[param] for param in folding.result.params if param in storage}
    folded = from_storage(unchanged)
    for norm in folding.norms:
        if arithmetic is FLOAT64:
            _require_positive(norm, storage)
        folded |= folding.fold_norm(norm, storage, arithmetic)
    for path in folding.paths:
        folded |= folding.constants(path, arithmetic)
    return folded


def _remove_randomness(graph: Graph) -> Graph:
    """Remove the nodes that do nothing in evaluation; the factors of drop-path stay."""
    values: dict[Value, Value] = {}

    def nodes_for(node: Node) -> Iterator[Node]:
        if _does_nothing(node.op):
            values[node.output] = node.inputs[0]
        elif isinstance(node.op, BatchNorm) and len(node.inputs) > 1:
            yield replace(node, inputs=node.inputs[:1])
        elif isinstance(node.op, WeightedMean):
            maps = node.inputs[:-1]
            yield replace(node, op=Mean(len(maps)), inputs=maps)
        elif not isinstance(node.op, Keep | DrawColumn | JoinWeights):
            yield node

    # A node that replaces a removed one takes over its name, so that a step still writes X2.
    hints = {node.inputs[0]: node.output.hint for node in graph.nodes if _does_nothing(node.op)}
    return _rename(rewrite(graph, nodes_for, values), hints)


def _does_nothing(op: Op) -> bool:
    return isinstance(op, Dropout) or (isinstance(op, DropPath) and op.scale == "training")


def _rename(graph: Graph, hints: Mapping[Value, str]) -> Graph:
    """Return the graph with other hints for some values."""
    values: dict[Value, Value] = {}

    def nodes_for(node: Node) -> Iterator[Node]:
        if hint := hints.get(node.output):
            values[node.output] = Value(node.output.type, hint)
            node = replace(node, outputs=(values[node.output],))
        yield node

    return rewrite(graph, nodes_for, values)


class _Folding:
    """Which normalization is folded into which convolution, and the resulting graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._params: dict[tuple[Slot, Field], Param] = {}
        self.norms = tuple(node for node in graph.nodes if isinstance(node.op, BatchNorm))
        makers = {norm: graph.producers[norm.inputs[0]] for norm in self.norms}
        predecessors = defaultdict(set)  # of each normalization, at all of its places
        for norm, maker in makers.items():
            read = tuple((o.param, o.start, o.stop) for o in maker.operands)
            predecessors[norm.operands[0].param].add((maker.op, read))
        self._convs = {
            norm: maker
            for norm, maker in makers.items()
            if isinstance(maker.op, Conv)
            and maker.origin == norm.origin
            and len(graph.consumers[maker.output]) == 1
            and maker.output not in graph.outputs
            and len(predecessors[norm.operands[0].param]) == 1
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
        folded_convs = {conv.output: norm for norm, conv in self._convs.items()}
        values: dict[Value, Value] = {}
        paths = {path.output: path for path in self.paths}
        norms = {norm.output: norm for norm in self.norms}
        merged: dict[Value, Node] = {}

        def nodes_for(node: Node) -> Iterator[Node]:
            if node.output in folded_convs:
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
                assert isinstance(conv.op, Conv)  # noqa: S101  # selected by type
                yield replace(
                    node,
                    op=replace(conv.op, bias=True),
                    inputs=conv.inputs,
                    operands=self._operands(norm),
                )
            else:
                yield replace(node, op=Affine(), operands=self._operands(norms[node.output]))

        hints = {value: drop.output.hint for value, drop in self._scaled.items()}
        folded = _rename(rewrite(self._graph, nodes_for, values), hints)
        folded = replace(folded, idle=())
        tensors = {piece.tensor: None for param in folded.params for piece in param.pieces}
        return replace(folded, tensors=tuple(tensors))

    def fold_norm(
        self, norm: Node, storage: Mapping[Param, Array], arithmetic: Arithmetic
    ) -> dict[str, Array]:
        """Return the folded tensors of one normalization."""
        assert isinstance(norm.op, BatchNorm)  # noqa: S101  # norms holds no other
        scale, bias, mean, var = (read_operands(norm, field, storage) for field in BatchNorm.fields)
        factor = arithmetic.divide_by_root(scale, arithmetic.offset(var, norm.op.eps))
        shift = arithmetic.subtract(bias, arithmetic.multiply(mean, factor))
        if (drop := self._scaled.get(norm.output)) is not None:
            factor = arithmetic.scale(factor, _survival(drop))
            shift = arithmetic.scale(shift, _survival(drop))
        arrays = {Field.SCALE: factor, Field.BIAS: shift}
        if (conv := self._convs.get(norm)) is not None:
            kernel = read_operands(conv, Field.WEIGHT, storage)
            if isinstance(conv.op, Conv) and conv.op.bias:
                own = read_operands(conv, Field.BIAS, storage)
                shift = arithmetic.add(shift, arithmetic.multiply(own, factor))
            kernel = arithmetic.multiply(kernel, factor[..., :, None, None, None])
            arrays = {Field.WEIGHT: kernel, Field.BIAS: shift}
        return {
            tensor_name(piece.tensor): arrays[operand.param.field]
            for operand in self._operands(norm)
            for piece in operand.pieces
        }

    def constants(self, path: Node, arithmetic: Arithmetic) -> dict[str, Array]:
        """Return the tensors of an ``Affine`` that multiplies by 1 - rate."""
        tensors = {}
        for operand in self._operands(path):
            for piece in operand.pieces:
                ones = np.ones((*(1,) * arithmetic.lead, *piece.tensor.shape))
                factor = _survival(path) if operand.param.field is Field.SCALE else 0
                tensors[tensor_name(piece.tensor)] = arithmetic.scale(
                    arithmetic.array(ones), factor
                )
        return tensors

    def _operands(self, norm: Node) -> tuple[ParamSlice, ...]:
        """The operands of the node that replaces ``norm``, or a drop-path."""
        conv = self._convs.get(norm)
        op: Op
        if conv is None:
            slot, source, op = self._affine_slot(norm), norm, Affine()
        else:
            assert isinstance(conv.op, Conv)  # noqa: S101  # selected by type
            slot, source, op = self._kernel_slot(conv, norm), conv, replace(conv.op, bias=True)
        return tuple(
            self._param(Tensor(slot, field, shape, op.fields[field]), op).whole()
            for field, shape in op.param_shapes(source.input_types[:1]).items()
        )

    def _affine_slot(self, node: Node) -> Slot:
        if not isinstance(node.op, DropPath):
            return _slot(node)
        origin = node.origin
        # The result of an update of a block without stages is named without one.
        hints = {n.output.hint for n in self._graph.nodes if n.origin == origin}
        staged = value_hint("x", origin.layer or 0, None) not in hints
        return Slot(
            origin.section, node.op.mnemonic, origin.layer, origin.stage if staged else None
        )

    def _kernel_slot(self, conv: Node, norm: Node) -> Slot:
        """The convolution's own slot, or one of its step's where steps share the kernel."""
        slot = _slot(conv)
        sharing = [node for node in self._graph.nodes if _reads(node, conv.operands[0].param)]
        if not slot.shared and len(sharing) == 1 and conv.operands[0].is_whole:
            return slot
        if slot.layer is None:  # of a readout over time
            return replace(_slot(norm), role=slot.role)
        role = "mid_conv" if slot.role == SPATIAL_KERNEL else "conv"
        return replace(_slot(norm), role=role if slot.index is None else f"{role}{slot.index}")

    def _param(self, tensor: Tensor, op: Op) -> Param:
        param = whole_tensor(tensor)
        if tensor.field is Field.WEIGHT:
            axis = op.param_axis()
            piece = Piece(tensor, 0, tensor.shape[axis])
            param = Biased(tensor.slot, tensor.field, (piece,), axis)
        return self._params.setdefault((tensor.slot, tensor.field), param)


def _survival(drop: Node) -> Fraction:
    assert isinstance(drop.op, DropPath)  # noqa: S101  # selected by type
    return survival(drop.op.rate)


def _require_positive(norm: Node, storage: Mapping[Param, Array]) -> None:
    """Raise a ``WeightsError`` where variance + eps is not positive."""
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
