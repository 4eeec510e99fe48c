"""An op graph that is not wired as its steps say is found, at every -O level."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from hypothesis import given

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.blocks.model import Block
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.ir.builder import Builder
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Conv, Moments, Normalize, Relu, Sigmoid
from cliquegraph.ir.types import Param, ParamSlice, Piece, Section
from cliquegraph.ir.verify import verify_graph
from cliquegraph.lowering.update import lower_step
from cliquegraph.lowering.wiring import verify_wiring
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.spec.schema import Readout
from cliquegraph.steps.graph import Step
from tests.networks import EVERY_KEY, clique, graph_of, network, networks

TWO = network(
    {"layers": 3, "filters": 4, "order": [2, 3, 1], "stages": 3, "transit": 2},
    {"layers": 3, "filters": 4, "bottleneck": True},
)
LAST_READ = TWO.model_copy(update={"readout": Readout(blocks="last")})


def wiring_says(spec: NetworkSpec, graph: Graph) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_wiring(cliquegraph.unroll(spec), graph)
    return str(caught.value)


def exchanged(graph: Graph, old: Node, new: Node) -> Graph:
    nodes = tuple(new if node is old else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def update(graph: Graph, block: int, stage: int, layer: int) -> Iterator[Node]:
    for node in graph:
        origin = node.origin
        if (origin.section.index, origin.stage, origin.layer) == (block, stage, layer):
            yield node


def first(nodes: Iterator[Node], op: type) -> Node:
    return next(node for node in nodes if isinstance(node.op, op))


def value(graph: Graph, hint: str) -> Value:
    return next(node.output for node in graph if node.outputs[0].hint == hint)


# ---- what is right ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_every_key_is_wired_as_its_steps_say(name: str, level: int) -> None:
    compilation = Compilation(EVERY_KEY[name], level)
    verify_wiring(compilation.steps, compilation.graph)


@given(networks())
def test_random_networks_are_wired_as_their_steps_say(spec: NetworkSpec) -> None:
    for level in LEVELS:
        assert Compilation(spec, level).graph


# ---- what is wrong ---------------------------------------------------------------------------


def two_reads_swapped(graph: Graph) -> Graph:
    """The kernels stay where they are: each meets the other's feature."""
    concat = first(update(graph, 1, 2, 2), Concat)
    return exchanged(graph, concat, replace(concat, inputs=concat.inputs[::-1]))


def an_old_version(graph: Graph) -> Graph:
    concat = first(update(graph, 1, 3, 3), Concat)
    return reading(graph, concat, "x1_1", "x1_2")


def a_version_of_the_future(graph: Graph) -> Graph:
    concat = first(update(graph, 1, 2, 3), Concat)
    return reading(graph, concat, "x2_1", "x2_2")


def reading(graph: Graph, node: Node, other: str, own: str) -> Graph:
    """The graph where a node reads another value in place of one of its own."""
    swapped = {value(graph, own): value(graph, other)}
    inputs = tuple(swapped.get(each, each) for each in node.inputs)
    return exchanged(graph, node, replace(node, inputs=inputs))


def a_slice_that_begins_early(graph: Graph) -> Graph:
    conv = first(update(graph, 1, 2, 2), Conv)
    (operand,) = conv.operands
    early = ParamSlice(operand.param, operand.start - 4, operand.stop - 4)
    return exchanged(graph, conv, replace(conv, operands=(early,)))


def a_slice_that_is_one_off(graph: Graph) -> Graph:
    conv = first(update(graph, 1, 2, 2), Conv)
    (operand,) = conv.operands
    off = ParamSlice(operand.param, operand.start - 1, operand.stop - 1)
    return exchanged(graph, conv, replace(conv, operands=(off,)))


def another_layers_kernels(graph: Graph) -> Graph:
    conv, other = (first(update(graph, 1, 2, layer), Conv) for layer in (2, 3))
    return exchanged(graph, conv, replace(conv, operands=other.operands))


def the_other_layers_spatial_kernel(graph: Graph) -> Graph:
    own, other = (
        [node for node in update(graph, 2, 2, layer) if isinstance(node.op, Conv)][1]
        for layer in (1, 2)
    )
    return exchanged(graph, own, replace(own, operands=other.operands))


def another_stages_normalisation(graph: Graph) -> Graph:
    own, other = (norm_of(graph, 1, stage, 2) for stage in (3, 2))
    return exchanged(graph, own, replace(own, operands=other.operands))


def norm_of(graph: Graph, block: int, stage: int, layer: int) -> Node:
    nodes = update(graph, block, stage, layer)
    return next(node for node in nodes if node.op.mnemonic in ("batch_norm", "normalize"))


def a_normalisation_that_is_turned_round(graph: Graph) -> Graph:
    """Out of a parameter that holds the same numbers in another order."""
    norm = norm_of(graph, 1, 3, 2)

    def turned(operand: ParamSlice) -> ParamSlice:
        (tensor,) = {piece.tensor for piece in operand.pieces}
        param = operand.param
        pieces = (Piece(tensor, 4, 8), Piece(tensor, 0, 4))
        if operand.pieces == pieces:
            pieces = (Piece(tensor, 0, 8),)
        return Param(param.slot, param.field, pieces, param.axis).whole()

    return exchanged(graph, norm, replace(norm, operands=tuple(map(turned, norm.operands))))


def the_feature_of_another_stage(graph: Graph) -> Graph:
    transit = next(
        node
        for node in graph
        if isinstance(node.op, Concat)
        and len(node.inputs) == 3
        and node.inputs[0].hint == "x1_2"
        and node.origin.layer is None
    )
    return reading(graph, transit, "x1_3", "x1_2")


def a_readout_of_something_else(graph: Graph) -> Graph:
    """What it reads is as wide: what a bottleneck leaves, six times."""
    norm = next(n for n in graph if str(n.origin.section) == "readout2" and n.op.fields)
    conv = first(update(graph, 2, 1, 2), Conv)
    wide = Node(Concat(), (conv.output,) * 6, (), (Value(norm.inputs[0].type),), norm.origin)
    nodes = [node for node in graph.nodes for node in ((wide, node) if node is norm else (node,))]
    return exchanged(
        replace(graph, nodes=tuple(nodes)),
        norm,
        replace(norm, inputs=(wide.output, *norm.inputs[1:])),
    )


def a_block_feature_without_the_input(graph: Graph) -> Graph:
    made = graph.producers[graph.features[0]]
    output = Value(made.output.type)
    return replace(
        exchanged(graph, made, replace(made, inputs=made.inputs[::-1], outputs=(output,))),
        features=(output, graph.features[1]),
    )


def an_update_that_nobody_asked_for(graph: Graph) -> Graph:
    last = list(update(graph, 2, 2, 3))
    late = {node: replace(node, origin=replace(node.origin, stage=3)) for node in last}
    return replace(graph, nodes=tuple(late.get(node, node) for node in graph))


def an_intermediate_value(graph: Graph) -> Graph:
    """The bottleneck's convolution reads what another layer's has written."""
    own, other = (
        [node for node in update(graph, 2, 2, layer) if isinstance(node.op, Relu)][1]
        for layer in (2, 1)
    )
    return exchanged(graph, own, replace(own, inputs=other.inputs))


def a_read_by_something_else(graph: Graph) -> Graph:
    relu = first(update(graph, 1, 2, 2), Relu)
    return exchanged(graph, relu, replace(relu, op=Sigmoid()))


def a_read_twice(graph: Graph) -> Graph:
    """A convolution over the same features, whose result nobody needs."""
    conv = first(update(graph, 1, 2, 2), Conv)
    again = replace(conv, outputs=(Value(conv.output.type),))
    at = graph.nodes.index(conv)
    return replace(graph, nodes=(*graph.nodes[:at], again, *graph.nodes[at:]))


@dataclass(frozen=True)
class Case:
    make: Callable[[Graph], Graph]
    message: str


WRONG = [
    Case(
        two_reads_swapped,
        "block1, stage 2 layer 2: ",
    ),
    Case(an_old_version, "block1, stage 3 layer 3: "),
    Case(a_version_of_the_future, "block1, stage 2 layer 3: "),
    Case(
        a_slice_that_begins_early,
        "conv in block1, stage 2 layer 2: reads {X1@1 by block1.w3_2.weight, "
        "X3@1 by block1.w0_2.weight}, its step says {X1@1 by block1.w1_2.weight, "
        "X3@1 by block1.w3_2.weight}",
    ),
    Case(
        a_slice_that_is_one_off,
        "conv in block1, stage 2 layer 2: reads ",
    ),
    Case(
        another_layers_kernels,
        "conv in block1, stage 2 layer 2: reads block1.w2_3.weight",
    ),
    Case(
        the_other_layers_spatial_kernel,
        "conv in block2, stage 2 layer 1: reads block2.v2.weight",
    ),
    Case(
        another_stages_normalisation,
        "in block1, stage 3 layer 2: reads block1.x2.s2.norm.scale",
    ),
    Case(
        a_normalisation_that_is_turned_round,
        "in block1, stage 3 layer 2: meets X",
    ),
    Case(
        the_feature_of_another_stage,
        "transition1: reads {X1@3, X2@2, X3@2}, the steps say {X1@2, X2@2, X3@2}",
    ),
    Case(
        a_block_feature_without_the_input,
        "block 1: the block feature is {X3@3, X2@3, X1@3, X0}, "
        "the steps say {X0, X1@3, X2@3, X3@3}",
    ),
    Case(a_readout_of_something_else, "readout2 reads nothing of block 2"),
    Case(an_update_that_nobody_asked_for, "in block2, stage 3 layer 3: there is no such update"),
    Case(
        an_intermediate_value,
        "relu in block2, stage 2 layer 2: reads what block2, stage 2 layer 1 wrote, "
        "which is no feature",
    ),
    Case(a_read_by_something_else, "sigmoid in block1, stage 2 layer 2: reads {X"),
    Case(a_read_twice, "conv in block1, stage 2 layer 2: reads "),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.make.__name__)
def test_what_is_wired_otherwise_is_found(case: Case, level: int) -> None:
    graph = Compilation(TWO, level).graph
    assert case.message in wiring_says(TWO, case.make(graph))


def test_moments_of_other_features_are_found() -> None:
    graph = Compilation(TWO, 1).graph
    norm = first(update(graph, 1, 2, 2), Normalize)
    maps, *moments = norm.inputs
    swapped = exchanged(graph, norm, replace(norm, inputs=(maps, *reversed(moments))))
    assert "normalises {X3@1, X1@1} by the moments of {X1@1, X3@1}" in wiring_says(TWO, swapped)


def test_statistics_that_stand_for_others_are_found() -> None:
    graph = Compilation(TWO, 1).graph
    node = next(n for n in update(graph, 1, 1, 2) if isinstance(n.op, Moments))

    def shifted(operand: ParamSlice) -> ParamSlice:
        param = operand.param
        mirrors = tuple(
            tuple(Piece(p.tensor, p.start - 1, p.stop - 1) for p in pieces)
            for pieces in param.mirrors
        )
        return replace(param, mirrors=mirrors).whole()

    wrong = exchanged(graph, node, replace(node, operands=tuple(map(shifted, node.operands))))
    assert "moments in block1, stage 1 layer 2: meets X2@1 with block1." in wiring_says(TWO, wrong)


def test_what_is_not_executed_is_wired_as_well() -> None:
    spec = clique(feature=1)
    graph = Compilation(spec, 1).graph
    assert graph.idle
    concat = next(node for node in graph.idle if isinstance(node.op, Concat))
    idle = tuple(
        replace(node, inputs=node.inputs[::-1]) if node is concat else node for node in graph.idle
    )
    assert "in block1, stage 2 layer 1: " in wiring_says(spec, replace(graph, idle=idle))


def test_an_update_that_is_lost_is_missed() -> None:
    spec = clique(feature=1)
    graph = Compilation(spec, 1).graph
    lost = {node.origin.layer for node in graph.idle}
    assert lost == {1, 2, 3}
    said = wiring_says(spec, replace(graph, idle=()))
    assert said == "block 1, stage 2 layer 1 is not in the graph"


def test_graphs_of_other_networks_are_told_apart() -> None:
    """Blocks, layers and stages that only one of two has end in no traceback."""
    drawn = [cliquegraph.unroll(read_document(draw_spec(9, index))) for index in range(12)]
    graphs = [cliquegraph.lower(steps) for steps in drawn]
    told_apart = 0
    for (steps, _), (_, graph) in permutations(zip(drawn, graphs, strict=True), 2):
        try:
            verify_wiring(steps, graph)
        except VerificationError:
            told_apart += 1
    assert told_apart > 120  # others differ in what is no wiring: a rate, a bottleneck


@pytest.mark.parametrize(
    ("spec", "other", "message"),
    [
        (clique(3), clique(2), "block1, stage 2 layer 1: there is no kernel W3_1"),
        (clique(2), clique(3), "block1, stage 1 layer 3: there is no such update"),
        (TWO, clique(), "block2 is not in the graph"),
        (clique(), TWO, "block2: the steps have no such block"),
        (TWO, LAST_READ, "readout1 is not in the graph"),
        (LAST_READ, TWO, "readout1: the spec reads no such block"),
    ],
)
def test_what_the_other_lacks_is_named(spec: NetworkSpec, other: NetworkSpec, message: str) -> None:
    assert message in wiring_says(spec, graph_of(other))


# ---- where it is asked -----------------------------------------------------------------------


def test_the_verifier_of_the_op_graph_alone_does_not_see_it() -> None:
    for case in (two_reads_swapped, an_old_version):
        verify_graph(case(Compilation(TWO, 0).graph))


def test_a_lowering_that_is_wrong_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_reads(
        declared: Block, section: Section, step: Step, reads: list[Value], builder: Builder
    ) -> Value:
        return lower_step(declared, section, step, reads[::-1], builder)

    monkeypatch.setattr(sys.modules["cliquegraph.lowering.lower"], "lower_step", reversed_reads)
    with pytest.raises(VerificationError, match=r"stage 1 layer 2: meets X1@1 with"):
        graph_of(clique(filters=4))


@dataclass(frozen=True)
class Swap:
    """A pass that is wrong."""

    name = "swap"

    def apply(self, graph: Graph) -> Graph:
        return two_reads_swapped(graph)


def test_a_pass_that_is_wrong_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEVELS, 0, (*LEVELS[0], Swap()))
    assert graph_of(TWO)
    with pytest.raises(VerificationError, match="stage 2 layer 2: "):
        cliquegraph.compile(TWO, "torch", level=0)
