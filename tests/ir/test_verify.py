"""Each rule of the op graph, broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from cliquegraph import NetworkSpec, optimise
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MapType, Param, ParamSlice, Piece, Tensor
from cliquegraph.ir.verify import verify_graph
from tests.networks import clique, graph_of, graphs_of, network, networks


@pytest.fixture
def graph() -> Graph:
    return graph_of(clique())


def first(graph: Graph, op: type[ops.Op]) -> Node:
    return next(node for node in graph if isinstance(node.op, op))


def swapped(graph: Graph, old: Node, *new: Node) -> Graph:
    nodes = [n for node in graph.nodes for n in (new if node is old else (node,))]
    return replace(graph, nodes=tuple(nodes))


def with_params(graph: Graph, change: Callable[[Param], Param]) -> Graph:
    """The graph with each parameter changed, still one object for all who share it."""
    params = {param: change(param) for param in graph.params}
    nodes = [
        replace(
            node,
            operands=tuple(
                ParamSlice(params[o.param], o.start, min(o.stop, params[o.param].extent))
                for o in node.operands
            ),
        )
        for node in graph
    ]
    return replace(graph, nodes=tuple(nodes))


def tensor(graph: Graph, name: str) -> Tensor:
    return next(tensor for tensor in graph.tensors if tensor_name(tensor) == name)


def broken(graph: Graph) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_graph(graph)
    return str(caught.value)


@given(networks())
@settings(max_examples=40)
def test_every_network_follows_the_rules_at_every_level(spec: NetworkSpec) -> None:
    for graph in graphs_of(spec).values():
        verify_graph(graph)


def test_the_input_is_the_first_node(graph: Graph) -> None:
    message = "the input must be the first node, and the only one"
    assert broken(replace(graph, nodes=graph.nodes[1:])) == f"conv in stem: {message}"
    second = replace(graph.nodes[0], outputs=(Value(graph.input.type),))
    assert broken(swapped(graph, graph.nodes[1], second, graph.nodes[1])) == (
        f"input in stem: {message}"
    )


def test_a_value_is_written_before_it_is_read(graph: Graph) -> None:
    a, b = graph.nodes[2:4]
    late = replace(graph, nodes=(*graph.nodes[:2], b, a, *graph.nodes[4:]))
    assert broken(late) == (
        "batch_norm in block1, stage 1 layer 1: reads a value before it is written"
    )


def test_a_value_of_another_graph_is_not_written(graph: Graph) -> None:
    other = graph_of(clique())
    node = first(graph, ops.Relu)
    stranger = replace(node, inputs=first(other, ops.Relu).inputs)
    assert "reads a value before it is written" in broken(swapped(graph, node, stranger))


def test_a_value_is_written_once(graph: Graph) -> None:
    named = next(node for node in graph if node.output.hint == "x2_1")
    assert broken(swapped(graph, named, named, named)) == (
        "conv in block1, stage 1 layer 2: writes x2_1 a second time"
    )


def test_types_are_what_the_ops_infer(graph: Graph) -> None:
    node = first(graph, ops.Concat)
    wrong = replace(node, outputs=(Value(MapType(5, 8, 8)),))
    assert "computes 4x8x8" in broken(swapped(graph, node, wrong))


def test_inputs_are_those_that_an_op_takes(graph: Graph) -> None:
    node = first(graph, ops.Linear)
    maps = replace(node, inputs=(graph.input,))
    assert broken(swapped(graph, node, maps)) == (
        "linear in classifier: a linear layer takes a vector"
    )


def test_operands_have_the_shapes_that_ops_ask_for(graph: Graph) -> None:
    node = next(n for n in graph if isinstance(n.op, ops.Conv) and len(n.operands) == 2)
    fewer = replace(node, operands=node.operands[:1])
    assert broken(swapped(graph, node, fewer)) == (
        "conv in block1, stage 1 layer 2: "
        "has a weight of shape (3, 4, 3, 3), but needs (3, 7, 3, 3)"
    )


def test_no_operand_is_missing(graph: Graph) -> None:
    node = first(graph, ops.BatchNorm)
    assert broken(swapped(graph, node, replace(node, operands=node.operands[:2]))) == (
        "batch_norm in block1, stage 1 layer 1: lacks its mean"
    )


def test_no_operand_is_too_much(graph: Graph) -> None:
    node, norm = first(graph, ops.Conv), first(graph, ops.BatchNorm)
    more = replace(node, operands=(*node.operands, norm.operands[0]))
    assert broken(swapped(graph, node, more)) == (
        "conv in stem: does not read block1.x1.s1.norm.scale"
    )


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (2, 6)])
def test_no_operand_reads_beyond_its_parameters_end(graph: Graph, start: int, stop: int) -> None:
    node = first(graph, ops.BatchNorm)
    beyond = ParamSlice(node.operands[0].param, start, stop)
    assert broken(swapped(graph, node, replace(node, operands=(beyond, *node.operands[1:])))) == (
        f"batch_norm in block1, stage 1 layer 1: reads block1.x1.s1.norm.scale[{start}:{stop}], "
        "beyond its end"
    )


def test_no_two_pairs_share_storage(graph: Graph) -> None:
    one, two = (tensor(graph, f"block1.w{i}_3.weight") for i in (1, 2))

    def share(param: Param) -> Param:
        if param.pieces[0].tensor is not two:
            return param
        return replace(param, pieces=(Piece(one, 0, one.shape[1]),))

    assert broken(with_params(graph, share)) == (
        "block1.w1_3.weight is held twice, the second time by block1.w2_3.weight"
    )


def test_stages_share_the_same_parameter_and_not_one_like_it(graph: Graph) -> None:
    node = next(node for node in graph if node.output.hint == "x2_2")
    copies = tuple(ParamSlice(replace(o.param), o.start, o.stop) for o in node.operands)
    assert broken(swapped(graph, node, replace(node, operands=copies))) == (
        "block1.w1_2.weight is held twice, the second time by block1.w1_2.weight"
    )


def test_overlapping_parts_of_one_tensor_are_seen(graph: Graph) -> None:
    packed = optimise(graph, 0)
    norm = tensor(packed, "block1.x2.s1.norm.scale")

    def overlap(param: Param) -> Param:
        if param.pieces[0].tensor is not norm:
            return param
        return replace(param, pieces=(Piece(norm, 0, 4), Piece(norm, 3, 6)))

    assert broken(with_params(packed, overlap)) == (
        "block1.x2.s1.norm.scale is held twice, the second time by block1.x2.s1.norm.scale"
    )


def test_no_parameter_holds_what_is_not_there(graph: Graph) -> None:
    norm = tensor(graph, "block1.x1.s1.norm.scale")

    def beyond(param: Param) -> Param:
        if param.pieces[0].tensor is not norm:
            return param
        return replace(param, pieces=(Piece(norm, 1, 5),))

    assert broken(with_params(graph, beyond)) == (
        "block1.x1.s1.norm.scale holds a part of block1.x1.s1.norm.scale that does not exist"
    )


def test_every_part_of_a_tensor_is_held(graph: Graph) -> None:
    norm, other = (tensor(graph, f"block1.x{j}.s1.norm.scale") for j in (2, 3))

    def mixed(param: Param) -> Param:
        if param.pieces[0].tensor is not norm:
            return param
        # As wide as it must be, with another tensor's part in place of the last.
        return replace(param, pieces=(Piece(norm, 0, 6), Piece(other, 0, 1)))

    assert broken(with_params(graph, mixed)) == (
        "a part of block1.x2.s1.norm.scale is held by no parameter"
    )


@pytest.mark.parametrize(
    ("other", "shape"),
    [
        (clique(kernel=5), (3, 3, 5, 5)),
        # As many channels go in, another number comes out.
        (clique(filters=4), (4, 4, 3, 3)),
    ],
    ids=["another kernel", "other channels"],
)
def test_operands_lie_side_by_side(
    graph: Graph, other: NetworkSpec, shape: tuple[int, ...]
) -> None:
    def joined(graph: Graph) -> Node:
        return next(n for n in graph if isinstance(n.op, ops.Conv) and len(n.operands) == 2)

    node, foreign = joined(graph), joined(graph_of(other))
    mixed = replace(node, operands=(node.operands[0], foreign.operands[1]))
    assert broken(swapped(graph, node, mixed)) == (
        f"conv in block1, stage 1 layer 2: can't join block1.w1_2.weight of shape {shape}"
    )


def test_parameters_hold_tensors_of_the_network_alone(graph: Graph) -> None:
    known = tuple(each for each in graph.tensors if tensor_name(each) != "classifier.bias")
    assert broken(replace(graph, tensors=known)) == (
        "classifier.bias: held, but no tensor of the network"
    )


def test_one_slot_has_one_tensor(graph: Graph) -> None:
    norm, other = (tensor(graph, f"block1.x{j}.s2.norm.scale") for j in (1, 2))
    # Equal in name to another, of another start: sharing by name alone.
    alias = replace(norm, init=tensor(graph, "classifier.bias").init)

    def renamed(param: Param) -> Param:
        (piece,) = param.pieces
        held = replace(piece, tensor=alias) if piece.tensor is other else piece
        return replace(param, pieces=(held,))

    tensors = tuple(alias if each is other else each for each in graph.tensors)
    both = replace(with_params(graph, renamed), tensors=tensors)
    assert broken(both) == "block1.x1.s2.norm.scale names two tensors"


def test_every_tensor_of_the_network_is_held(graph: Graph) -> None:
    norm = tensor(graph, "block1.x1.s2.norm.scale")
    lost = replace(graph, tensors=(*graph.tensors, replace(norm, slot=replace(norm.slot, stage=9))))
    assert broken(lost) == "block1.x1.s9.norm.scale: held by nothing"


def test_what_is_not_executed_is_held_by_idle_nodes() -> None:
    graph = optimise(graph_of(clique(layers=2, feature=1)), 1)
    assert broken(replace(graph, idle=())).endswith(": held by nothing")


# ---- running statistics that are stored once -----------------------------------------------


def mirrored(change: Callable[[Param], Param]) -> str:
    """The message if the moments of X0, which three normalizations read, are changed."""
    graph = optimise(graph_of(clique(layers=2)), 1)
    node = first(graph, ops.Moments)
    mean, var = (operand.param for operand in node.operands)
    assert len(mean.mirrors) == 2
    operands = (change(mean).whole(), var.whole())
    return broken(swapped(graph, node, replace(node, operands=operands)))


def test_a_mirror_is_as_long_as_what_is_stored() -> None:
    def shorter(param: Param) -> Param:
        one, (piece,) = param.mirrors
        return replace(param, mirrors=(one, (replace(piece, stop=piece.stop - 1),)))

    assert mirrored(shorter) == "stem.moments.mean mirrors tensors of another length"


def test_a_mirror_is_of_numbers_that_nothing_else_holds() -> None:
    def twice(param: Param) -> Param:
        return replace(param, mirrors=(param.mirrors[0], param.mirrors[0]))

    assert mirrored(twice) == (
        "block1.x2.s1.norm.mean is held twice, the second time by stem.moments.mean"
    )


def test_no_reader_is_left_without_its_statistics() -> None:
    def fewer(param: Param) -> Param:
        return replace(param, mirrors=param.mirrors[:1])

    assert mirrored(fewer) == "a part of readout1.norm.mean is held by no parameter"


@pytest.mark.parametrize("output", ["logits", "features"])
def test_what_the_network_returns_is_written(graph: Graph, output: str) -> None:
    value = Value(graph.logits.type)
    lost = replace(graph, logits=value) if output == "logits" else replace(graph, features=(value,))
    assert broken(lost) == "small: an output is never written"


# ---- slabs ---------------------------------------------------------------------------------


@pytest.fixture
def laid_out() -> Graph:
    return optimise(graph_of(network(*[{"layers": 2, "filters": 3}] * 2)), 1)


def with_slabs(graph: Graph, *slabs: tuple[Value, ...]) -> Graph:
    return replace(graph, slabs=tuple(map(Slab, slabs)))


def test_what_lies_in_a_slab_is_written(laid_out: Graph) -> None:
    stranger = Value(MapType(3, 8, 8), "y")
    values = laid_out.slabs[0].values
    assert broken(with_slabs(laid_out, (*values, stranger))) == (
        "small: y lies in a slab, but is not written"
    )


def test_a_value_lies_in_one_place_of_one_slab(laid_out: Graph) -> None:
    values = laid_out.slabs[0].values
    assert broken(with_slabs(laid_out, (*values, values[1]))) == (
        "small: x1_1 lies in two places of slabs"
    )
    assert broken(with_slabs(laid_out, values, values[1:])) == (
        "small: x1_1 lies in two places of slabs"
    )


def test_a_value_in_a_slab_has_moments(laid_out: Graph) -> None:
    relu = first(laid_out, ops.Relu)
    assert broken(with_slabs(laid_out, (relu.output,))) == (
        "small: a value lies in a slab without its moments"
    )


def test_maps_of_one_slab_have_one_size(laid_out: Graph) -> None:
    one, other = (slab.values for slab in laid_out.slabs)
    assert broken(with_slabs(laid_out, (*one, *other))) == "small: a slab has maps of 2 sizes"
