"""Museum: a weight table in which two pairs are one slot, and others are never used."""

from __future__ import annotations

from dataclasses import replace

import pytest

import cliquegraph
from cliquegraph import Graph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import ExpectError, VerificationError, WeightsError
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.names import param_name, tensor_name
from cliquegraph.ir.types import Param, ParamSlice, Piece
from cliquegraph.ir.verify import verify_graph
from cliquegraph.semantics.exact import Candidate, compare
from cliquegraph.steps.graph import BlockSteps, Edge
from tests.museum.exhibits import exhibit, proof_says, verify_says
from tests.networks import clique, graph_of, shipped
from tests.tampered import verify_tampered
from tests.weights.files import sampled

LAYERS = 4


def slot(edge: Edge) -> int:
    """The place of a pair in a table whose rows are one too short."""
    return edge.source * (LAYERS - 1) + edge.target


def test_two_pairs_have_one_slot() -> None:
    assert slot(Edge(1, 3, 1)) == slot(Edge(1, 2, LAYERS))  # W(k→first), W(k-1→last)


@exhibit(
    "check of sharing", "one kernel per pair: stage 2 of X1 reads X2@1 with W1_4, not with W2_1"
)
def test_one_slot_for_two_pairs_in_the_steps() -> str:
    """A weight table is indexed so that W(k→first) and W(k-1→last) are one slot: wrong sharing.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    steps = cliquegraph.unroll(clique(layers=LAYERS))

    def merged(block: BlockSteps) -> BlockSteps:
        first: dict[int, Edge] = {}
        for edge in sorted(block.edges):
            first.setdefault(slot(edge), edge)
        return replace(
            block,
            steps=tuple(
                replace(step, weights=tuple(first[slot(edge)] for edge in step.weights))
                for step in block.steps
            ),
        )

    return proof_says(replace(steps, blocks=tuple(map(merged, steps.blocks))))


def merged_storage(graph: Graph) -> Graph:
    """The op graph whose W(3→1) is the storage of W(2→4)."""
    held = {tensor_name(tensor): tensor for tensor in graph.tensors}
    lost, kept = held["block1.w3_1.weight"], held["block1.w2_4.weight"]

    def merge(param: Param) -> Param:
        if param.pieces[0].tensor is not lost:
            return param
        return replace(param, pieces=(Piece(kept, 0, kept.shape[1]),), axis=1)

    params = {param: merge(param) for param in graph.params}
    nodes = tuple(
        replace(
            node,
            operands=tuple(ParamSlice(params[o.param], o.start, o.stop) for o in node.operands),
        )
        for node in graph
    )
    return replace(graph, nodes=nodes)


@exhibit(
    "verifier of the op graph",
    "block1.w2_4.weight is held twice, the second time by block1.w3_1.weight",
)
def test_one_slot_for_two_pairs_in_the_op_graph() -> str:
    """The same in the op graph: two parameters, W(3→1) and W(2→4), on one storage.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    with pytest.raises(VerificationError) as caught:
        verify_graph(merged_storage(graph_of(clique(layers=LAYERS))))
    return str(caught.value)


def crossed_storage(graph: Graph) -> Graph:
    """The op graph in which W(3→1) and W(2→4) are each read in the other's place."""
    params = {param_name(param): param for param in graph.params}
    one, other = params["block1.w3_1.weight"], params["block1.w2_4.weight"]
    crossed = {one: other.whole(), other: one.whole()}
    nodes = tuple(
        replace(node, operands=tuple(crossed.get(o.param, o) for o in node.operands))
        for node in graph
    )
    return replace(graph, nodes=nodes)


@exhibit(
    "exact comparison",
    "block1, stage 1 layer 4: X4@1, of {X0, X1@1, X2@1, X3@1}, is not as declared, in evaluation",
)
def test_two_slots_that_are_crossed_in_the_op_graph() -> str:
    """The same without a slot too few: two pairs have each other's. Shapes, storage and counts of
    parameters are right.

    Seen: what an index that is merely wrong would do in such a table.
    """
    spec = clique(layers=LAYERS)
    wrong = crossed_storage(graph_of(spec))
    verify_graph(wrong)
    with pytest.raises(VerificationError) as caught:
        compare(spec, Candidate(wrong))
    return str(caught.value)


@exhibit(
    "`expect`",
    "expected parameters 72994, but the network has 71,698 (71698)",
)
def test_one_slot_for_two_pairs_in_the_figures() -> str:
    """The same seen from the parameters: a pair without a kernel of its own is missing.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    compilation = Compilation(shipped("quickstart"))
    vars(compilation)["lowered"] = merged_storage(compilation.lowered)
    with pytest.raises(ExpectError) as caught:
        compilation.require_expected()
    return caught.value.diagnostics[0].message


@exhibit(
    "`verify`",
    "torch, evaluation: the first value that differs is x1_2 of block1, by … "
    "(block1, stage 2 layer 1)",
)
def test_one_slot_for_two_pairs_in_a_generated_file(monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in a generated file: X1 reads X3 with W(2→4), out of the bank of X4.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    right = "self.update1_2([x2_1, x3_1, x4_1], w=self.w1[:, k0:])"
    wrong = right.replace(
        "self.w1[:, k0:]", "torch.cat([self.w1[:, 4:7], self.w4[:, 7:10], self.w1[:, 10:]], 1)"
    )
    return verify_says(verify_tampered(monkeypatch, right, wrong, spec=clique(layers=LAYERS)))


@exhibit(
    "loader of weights",
    "the model does not fit small (torch -O0):\n  1 unexpected: block1.w4",
)
def test_a_slot_that_is_never_used() -> str:
    """The table has slots that no update uses: they are stored, saved, and never trained.

    Seen: the same re-implementation; the authors' code too keeps the feedback kernels of blocks
    of one stage.
    """
    spec = clique()
    right = "self.w3 = kernel_bank("
    source = cliquegraph.compile(spec, "torch")
    assert right in source
    source = source.replace(right, f"self.w4 = kernel_bank([3], 3, 3)\n        {right}", 1)
    model = load_source(source, "generated").Small()
    with pytest.raises(WeightsError) as caught:
        cliquegraph.load_weights(model, spec, sampled(spec))
    return str(caught.value)


@exhibit(
    "loader of weights",
    "weights do not fit small:\n  1 unexpected: block1.w2_1.weight",
)
def test_kernels_that_were_never_trained() -> str:
    """A file brings kernels that the network does not have: the feedback kernels of a block of
    one stage, which nothing ever read.

    Seen: the authors' code, (I+I).
    """
    spec = clique(stages=1)
    kernel = sampled(spec)["block1.w1_2.weight"]
    with pytest.raises(WeightsError) as caught:
        model = load_source(cliquegraph.compile(spec, "torch"), "generated").Small()
        cliquegraph.load_weights(model, spec, {**sampled(spec), "block1.w2_1.weight": kernel})
    return str(caught.value)
