"""Museum: recurrent networks, skips and joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import ExpectError, SpecError, VerificationError
from cliquegraph.ir.names import operand_name, param_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Add, Conv, LocalResponse, Mean, Relu
from cliquegraph.ir.types import Param, ParamSlice
from cliquegraph.ir.verify import verify_graph
from cliquegraph.semantics.exact import Candidate, compare
from cliquegraph.steps.graph import BlockSteps, Edge, Step, StepGraph
from tests.museum.exhibits import exhibit, proof_says
from tests.networks import graph_of, network, shipped

LAST = {"transition": "none", "readout": {"blocks": "last", "norm": False}}
RCL = network(
    {
        "kind": "recurrent",
        "filters": 4,
        "steps": 2,
        "layer": ["bias", "relu", {"local_response": {"size": 3, "alpha": 0.001, "beta": 0.75}}],
    },
    **LAST,
)
BLT = network(
    {
        "kind": "graph",
        "layers": [{"name": "V1"}, {"name": "V2"}, {"name": "V4"}],
        "filters": 4,
        "edges": [[1, 2], [2, 3], [3, 1]],
        "edge": [{"conv": 3}],
        "input": {"to": "first", "stages": "all"},
        "layer": ["norm", "relu"],
        "stages": 3,
        "output": {"layers": "last"},
    },
    **LAST,
)
FRACTAL = network({"kind": "fractal", "columns": 2, "filters": 3}, **LAST)
AREA: dict[str, Any] = {
    "kind": "graph",
    "layers": 1,
    "filters": 4,
    "edges": "none",
    "self": [],
    "stages": 2,
    "stride": 2,
    "layer": [{"skip": [{"conv": 3, "reduce": True}, "norm"]}, "relu"],
    "output": {"layers": "last"},
}


def with_steps(spec: NetworkSpec, change: Callable[[Step], Step]) -> StepGraph:
    steps = cliquegraph.unroll(spec)

    def changed(block: BlockSteps) -> BlockSteps:
        return replace(block, steps=tuple(map(change, block.steps)))

    return replace(steps, blocks=tuple(map(changed, steps.blocks)))


def at(node: Node, stage: int, layer: int) -> bool:
    return (node.origin.stage, node.origin.layer) == (stage, layer)


def with_nodes(graph: Graph, change: Callable[[Node], Node]) -> Graph:
    return replace(graph, nodes=tuple(map(change, graph.nodes)))


def rewritten(graph: Graph, change: Callable[[Node], Node | None]) -> Graph:
    """The op graph with changed nodes, and types that fit; without a node, its input passes."""
    values: dict[Value, Value] = {}
    nodes = []
    for old in graph:
        node = replace(old, inputs=tuple(values.get(value, value) for value in old.inputs))
        changed = change(node)
        if changed is None:
            values[old.output] = node.inputs[0]
            continue
        types = changed.op.infer(changed.input_types)
        pairs = zip(types, old.outputs, strict=True)
        outputs = tuple(Value(inferred, value.hint) for inferred, value in pairs)
        values.update(zip(old.outputs, outputs, strict=True))
        nodes.append(replace(changed, outputs=outputs))
    features = tuple(values[value] for value in graph.features)
    return replace(graph, nodes=tuple(nodes), logits=values[graph.logits], features=features)


def comparison_says(spec: NetworkSpec, wrong: Graph) -> str:
    """What the exact comparison says of a graph whose types and storage are right."""
    verify_graph(wrong)
    with pytest.raises(VerificationError) as caught:
        compare(spec, Candidate(wrong))
    return str(caught.value)


# ---- kernels --------------------------------------------------------------------------------


@exhibit(
    "check of sharing",
    "one kernel per pair: stage 2 of X1 reads X0 with W1_1, not with W0_1",
)
def test_crossed_kernels_of_a_recurrent_layer() -> str:
    """A recurrent layer reads its input through W_f in the first step and through W_r later, its
    own state through W_f. Shapes, storage, counts and costs are right.

    Seen: LixiaoTHU/RCNN.
    """

    def crossed(step: Step) -> Step:
        return replace(step, weights=step.weights[::-1])

    return proof_says(with_steps(RCL, crossed))


def crossed_later(graph: Graph) -> Graph:
    """From stage 2 on, W(0→1) is read in the place of W(1→1), and W(1→1) in its."""
    params = {param_name(param): param.whole() for param in graph.params}
    one, other = params["block1.w0_1.weight"], params["block1.w1_1.weight"]
    crossed = {one.param: other, other.param: one}

    def change(node: Node) -> Node:
        if node.origin.stage in (None, 1):
            return node
        return replace(node, operands=tuple(crossed.get(o.param, o) for o in node.operands))

    return with_nodes(graph, change)


@exhibit(
    "exact comparison",
    "block1, stage 2 layer 1: X1@2, of {X0, X1@1}, is not as declared, in evaluation",
)
def test_crossed_kernels_in_the_op_graph() -> str:
    """The same in the op graph.

    Seen: LixiaoTHU/RCNN.
    """
    return comparison_says(RCL, crossed_later(graph_of(RCL)))


@exhibit(
    "check of sharing",
    "stages of each kernel: W3_1 is used in no stage, the schedule says stages 2, 3",
)
def test_a_kernel_that_no_step_reads() -> str:
    """The skip from V4 to V1 is never connected: a number from the top is compared with one from
    the bottom. Its kernel is stored and saved, and gets no gradient.

    Seen: KietzmannLab/BLT-VS, the unrolling of the published ImageNet model.
    """

    def unconnected(step: Step) -> Step:
        pairs = zip(step.reads, step.weights, strict=True)
        kept = [pair for pair in pairs if pair[1] != Edge(1, 3, 1)]
        reads, weights = zip(*kept, strict=True)
        return replace(step, reads=reads, weights=weights)

    return proof_says(with_steps(BLT, unconnected))


@exhibit("verifier of the op graph", "block1.w3_1.weight: held by nothing")
def test_a_kernel_that_no_node_reads() -> str:
    """The same in the op graph.

    Seen: KietzmannLab/BLT-VS, the unrolling of the published ImageNet model.
    """
    graph = graph_of(BLT)
    skips = {n.output for n in graph if "block1.w3_1.weight" in map(operand_name, n.operands)}

    def unconnected(node: Node) -> Node:
        return replace(node, inputs=tuple(v for v in node.inputs if v not in skips))

    kept = tuple(node for node in graph if node.output not in skips)
    wrong = with_nodes(replace(graph, nodes=kept), unconnected)
    with pytest.raises(VerificationError) as caught:
        verify_graph(wrong)
    return str(caught.value)


@exhibit("`expect`", "expected parameters 672202, but the network has 2,331,082 (2331082)")
def test_kernels_that_are_shared_when_the_model_is_built_alone() -> str:
    """The kernels of later steps are copies of the first step's, made when the model is built and
    then trained apart.

    Seen: jacobzweig/Keras-RCNN.
    """
    copies: dict[tuple[Param, int], Param] = {}

    def copied(operand: ParamSlice, stage: int) -> ParamSlice:
        param = operand.param
        (piece,) = param.pieces
        slot = replace(param.slot, stage=stage)
        tensor = replace(piece.tensor, slot=slot)
        copy = replace(param, slot=slot, pieces=(replace(piece, tensor=tensor),))
        return copies.setdefault((param, stage), copy).whole()

    def apart(node: Node) -> Node:
        stage = node.origin.stage
        if stage is None or not isinstance(node.op, Conv):
            return node
        return replace(node, operands=tuple(copied(each, stage) for each in node.operands))

    compilation = Compilation(shipped("rcnn_96"))
    wrong = with_nodes(compilation.lowered, apart)
    tensors = dict.fromkeys(piece.tensor for param in wrong.params for piece in param.pieces)
    vars(compilation)["lowered"] = replace(wrong, tensors=tuple(tensors))
    verify_graph(compilation.lowered)
    with pytest.raises(ExpectError) as caught:
        compilation.require_expected()
    return caught.value.diagnostics[0].message


# ---- strides and ops that belong to one step --------------------------------------------------


def strided(node: Node) -> Node:
    if not at(node, 2, 1) or not isinstance(node.op, Conv):
        return node
    return replace(node, op=replace(node.op, stride=2))


@exhibit(
    "verifier of the op graph",
    "conv in block1, stage 2 layer 1: has type 4x4x4, but computes 4x2x2",
)
def test_a_stride_that_is_left_on() -> str:
    """A convolution's stride is set on the module in the first step, which halves the maps, and
    has to be set back in the next: here it is not.

    Seen: the authors' CORnet-S sets and resets it so.
    """
    with pytest.raises(VerificationError) as caught:
        verify_graph(with_nodes(graph_of(network(AREA, **LAST)), strided))
    return str(caught.value)


@exhibit(
    "exact comparison",
    "block1, stage 2 layer 1: X1@2, of {X1@1}, is not as declared, in evaluation",
)
def test_a_stride_that_every_step_takes() -> str:
    """The same where nothing else needs the size, so that types and storage are right, and the
    global pool hides what is missing.

    Seen: the authors' CORnet-S sets and resets it so.
    """
    spec = network(AREA | {"layer": [{"conv": 3, "reduce": True}, "norm", "relu"]}, **LAST)
    return comparison_says(spec, rewritten(graph_of(spec), strided))


@exhibit(
    "exact comparison",
    "block1, stage 3 layer 1: X1@3, of {X0, X1@2}, is not as declared, in evaluation",
)
def test_the_last_step_without_its_ops() -> str:
    """The last step returns its net input: ReLU and LRN are those of the step after, which there
    is not.

    Seen: a port of RCNN for a course at KTH.
    """

    def left_out(node: Node) -> Node | None:
        is_last = at(node, 3, 1) and isinstance(node.op, Relu | LocalResponse)
        return None if is_last else node

    return comparison_says(RCL, rewritten(graph_of(RCL), left_out))


# ---- joins and skips ---------------------------------------------------------------------------


@exhibit(
    "check of sharing",
    "versions read: stage 1 of X4 reads {X3@1, X3@1}, the schedule gives {X1@1, X3@1}",
)
def test_a_join_of_one_operand_twice() -> str:
    """A join reads one column twice, and the other is lost.

    Seen: what a wrong index does in a nested list of columns, as ports of FractalNet have it.
    """

    def twice(step: Step) -> Step:
        return replace(step, reads=step.reads[-1:] * 2) if step.layer == 4 else step

    return proof_says(with_steps(FRACTAL, twice))


@exhibit(
    "exact comparison",
    "block1, stage 1 layer 4: X4@1, of {X1@1, X3@1}, is not as declared, in evaluation",
)
def test_a_join_of_one_operand_twice_in_the_op_graph() -> str:
    """The same in the op graph.

    Seen: what a wrong index does in a nested list of columns, as ports of FractalNet have it.
    """

    def twice(node: Node) -> Node:
        return replace(node, inputs=node.inputs[-1:] * 2) if isinstance(node.op, Mean) else node

    return comparison_says(FRACTAL, with_nodes(graph_of(FRACTAL), twice))


@exhibit(
    "exact comparison",
    "block1, stage 1 layer 3: X3@1, of {X2@1}, is not as declared, in evaluation",
)
def test_a_skip_from_the_wrong_unit() -> str:
    """The shortcut of a unit comes from the input of the unit before it. Shapes, storage, counts
    and costs are right.

    Seen: what a variable that is assigned too late would do.
    """
    spec = network({"kind": "residual", "layers": 3, "filters": 4}, **LAST)
    graph = graph_of(spec)
    before = next(node.output for node in graph if node.output.hint == "x1")

    def early(node: Node) -> Node:
        if not at(node, 1, 3) or not isinstance(node.op, Add):
            return node
        return replace(node, inputs=(node.inputs[0], before))

    return comparison_says(spec, with_nodes(graph, early))


# ---- what nothing has reached ------------------------------------------------------------------


@exhibit(
    "loader of specs", "blocks.0.stages: X4 is an output in stage 3, but does not depend on X0 yet"
)
def test_a_step_that_nothing_has_reached() -> str:
    """The time step that is read by default comes before the image has reached the layer: the
    features are the same for every image.

    Seen: CORnet-R and -RT, the authors' code, issue #17.
    """
    text = """
        {cliquegraph: 1, name: cornet_rt, input: {channels: 3, height: 32, width: 32}, stem: none,
         blocks: [{kind: graph, layers: 4, filters: 4, edges: chain, self: [],
                   input: {to: first, stages: all}, edge: [{conv: 3}], layer: [relu],
                   update: simultaneous, initial: zero, stages: 3, output: {layers: last}}],
         classifier: {classes: 10}}"""
    with pytest.raises(SpecError) as caught:
        cliquegraph.loads(text)
    (only,) = caught.value.diagnostics
    return only.message
