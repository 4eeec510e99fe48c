"""Drop-path at joins: what is drawn, what moves, and that compilers take it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from cliquegraph import Graph, NetworkSpec, interpret, verify
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import DrawColumn, JoinWeights, Mean, WeightedMean
from cliquegraph.ir.storage import Array
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.passes.rewrite import rewrite
from cliquegraph.plugins.backends import find_backend
from cliquegraph.semantics.exact import Candidate, compare
from cliquegraph.weights.sample import sample_tensors
from tests.function import images_for
from tests.networks import network

USUAL = {"local": 0.15, "global": 0.5}
JOINS = {"block1": ((2, 3), (1, 2, 3)), "block2": ((1, 2),)}
"""The columns of the operands of each join."""


def spec(drop: dict[str, float], *columns: int, **block: Any) -> NetworkSpec:
    """Fractal blocks of so many columns; on 8×8 images."""
    blocks = [
        {"kind": "fractal", "columns": each, "filters": 4, "drop_path": drop, **block}
        for each in columns or (3, 2)
    ]
    readout = {"blocks": "last", "norm": False}
    return network(*blocks, stem="none", transition="none", readout=readout)


def source_of(of: NetworkSpec, backend: str) -> ModuleType:
    return load_source(Compilation(of, 0).source(find_backend(backend)), "generated_join_drop")


def torch_model(of: NetworkSpec) -> Any:
    return getattr(source_of(of, "torch"), of.python_class)()


def weights_of(model: nn.Module, images: torch.Tensor) -> list[list[float]]:
    """What the joins draw in one pass."""
    drawn: list[list[float]] = []
    hooks = [
        module.register_forward_hook(lambda module, args, each: drawn.append(each.tolist()))
        for name, module in model.named_modules()
        if name.endswith("join_weights")
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return drawn


def kept(columns: tuple[int, ...], column: int) -> list[float]:
    """The weights of operands where one column is kept: of a join that it meets, or of another."""
    if column in columns:
        return [float(each == column) for each in columns]
    return [1 / len(columns)] * len(columns)


# ---- the function ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("drop", [USUAL, {"local": 0.5}, {"global": 1.0}], ids=str)
def test_every_variant_is_verified(drop: dict[str, float], level: int) -> None:
    pool = {"kind": "max", "kernel": 2, "stride": 2, "before_join": True}
    assert verify(spec(drop, 3, pool=pool), level=level).ok


def test_a_folded_network_takes_the_plain_mean() -> None:
    assert verify(spec(USUAL), inference=True).ok
    kinds = Counter(type(node.op) for node in Compilation(spec(USUAL), inference=True).graph)
    assert kinds[Mean] == 3
    assert not {DrawColumn, JoinWeights, WeightedMean} & kinds.keys()


def test_a_graph_whose_edges_have_kernels_is_verified() -> None:
    block = {"kind": "graph", "layers": 3, "filters": 3, "edge": ["norm", "relu", {"conv": 3}]}
    block |= {"combine": "mean", "stages": 2, "drop_path": {"local": 0.25}}
    of = network(block)
    assert all(node.op.columns == () for node in Compilation(of).lowered if is_join(node))
    assert verify(of, ["torch"], level=0).ok
    assert verify(of, ["torch"], level=2).ok


def is_join(node: Node) -> bool:
    return isinstance(node.op, JoinWeights)


@pytest.mark.parametrize("column", [1, 2, 3])
def test_one_column_alone_is_the_path_through_it(column: int) -> None:
    of = spec(USUAL, 3)
    graph = Compilation(of).lowered
    tensors, images = sample_tensors(graph), images_for(graph)

    def mask(node: Node, x: Array) -> Array:
        assert isinstance(node.op, JoinWeights)
        return np.array(kept(node.op.columns, column))

    result = interpret(graph, tensors, images, training=True, mask=mask)
    values = {value.hint: array for value, array in result.values.items()}
    # The layers of each column, the deepest last; X4 and X9 are the joins.
    last = {1: "x5", 2: "x6", 3: "x8"}[column]
    assert np.allclose(result.features[0], values[last])
    if column > 1:
        assert np.allclose(values["x4"], values[{2: "x1", 3: "x3"}[column]])
    else:
        assert np.allclose(values["x4"], (values["x1"] + values["x3"]) / 2)


def changed(graph: Graph, **changes: Any) -> Graph:
    """The graph with other attributes of its first random op that has them."""
    done: list[Node] = []

    def nodes_for(node: Node) -> list[Node]:
        if not done and set(changes) <= vars(node.op).keys():
            done.append(node)
            node = replace(node, op=replace(node.op, **changes))
        return [node]

    return rewrite(graph, nodes_for)


@pytest.mark.parametrize("changes", [{"count": 2, "rate": 0.2}, {"count": 2, "columns": (1, 2)}])
def test_another_draw_of_weights_is_refused(changes: dict[str, Any]) -> None:
    of = spec(USUAL)
    graph = Compilation(of).lowered
    compare(of, Candidate(graph))
    with pytest.raises(VerificationError, match="block1, stage 1 layer 4"):
        compare(of, Candidate(changed(graph, **changes)))


@pytest.mark.parametrize("other", [{"local": 0.2}, {"global": 0.25}, {"global": 0.0}], ids=str)
def test_another_drop_path_is_refused(other: dict[str, float]) -> None:
    with pytest.raises(VerificationError, match="block1, stage 1 layer 4"):
        compare(spec(USUAL), Candidate(Compilation(spec({**USUAL, **other})).lowered))
    with pytest.raises(VerificationError, match="block1, stage 1 layer 4"):
        compare(spec(USUAL, 3, 2), Candidate(Compilation(spec({}, 3, 2)).lowered))


# ---- what is drawn -----------------------------------------------------------------------------


def local_draws(backend: str, rate: float, count: int, times: int) -> Array:
    module = source_of(spec({"local": 0.5}, 2), backend)
    if backend == "torch":
        torch.manual_seed(0)
        draw = module.JoinWeights(rate, count)
        drawn = [draw(torch.zeros(1)) for _ in range(times)]
        return torch.stack(drawn).double().numpy()
    draw = module.JoinWeights(rate, count, rngs=nnx.Rngs(0))

    @nnx.jit
    def several(draw: Any) -> jax.Array:
        return jnp.stack([draw(jnp.zeros(1)) for _ in range(50)])

    return np.concatenate([np.asarray(several(draw), float) for _ in range(times // 50)])


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("rate", [0.15, 0.9])
def test_each_operand_is_dropped_at_the_rate_and_one_always_lives(
    backend: str, rate: float
) -> None:
    drawn = local_draws(backend, rate, 3, 3000)
    assert np.allclose(drawn.sum(1), 1)
    alive = drawn > 0
    assert np.allclose(drawn, alive / alive.sum(1, keepdims=True))
    # If all three would be dropped, each is as likely to be the one that is not.
    expected = (1 - rate) + rate**3 / 3
    assert alive.mean(0) == pytest.approx([expected] * 3, abs=0.04)
    all_alive = (alive.sum(1) == 3).mean()
    assert all_alive == pytest.approx((1 - rate) ** 3, abs=0.04)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_without_a_rate_all_are_kept(backend: str) -> None:
    assert np.allclose(local_draws(backend, 0.0, 2, 50), 0.5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_torch_draws_one_column_for_the_whole_network(share: float) -> None:
    torch.manual_seed(0)
    model, images = torch_model(spec({"local": 0.0, "global": share})), torch.randn(2, 2, 8, 8)
    joins = [columns for each in JOINS.values() for columns in each]
    seen: Counter[int | None] = Counter()
    patterns = {str([kept(join, column) for join in joins]): column for column in (1, 2, 3)}
    patterns[str([kept(join, 0) for join in joins])] = None
    for _ in range(300):
        with torch.no_grad():
            drawn = weights_of(model, images)
        rounded = [[float(x) if x in (0, 1) else 1 / len(each) for x in each] for each in drawn]
        seen[patterns[str(rounded)]] += 1
    for column in (1, 2, 3):
        assert seen[column] / 300 == pytest.approx(share / 3, abs=0.09)
    assert seen[None] / 300 == pytest.approx(1 - share, abs=0.09)


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_columns_are_drawn_uniformly_in_a_share_of_the_batches(backend: str, share: float) -> None:
    module = source_of(spec(USUAL), backend)
    if backend == "torch":
        torch.manual_seed(0)
        draw = module.DrawColumn(share, 4)
        drawn = torch.stack([draw(torch.zeros(1)) for _ in range(4000)]).numpy()
    else:
        draw = module.DrawColumn(share, 4, rngs=nnx.Rngs(0))
        several = nnx.jit(lambda draw: jnp.stack([draw() for _ in range(50)]))
        drawn = np.concatenate([np.asarray(several(draw)) for _ in range(80)])
    assert set(drawn.sum(1)) <= {0, 1}
    assert drawn.mean(0) == pytest.approx([share / 4] * 4, abs=0.03)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_column_is_kept_where_the_join_has_it(backend: str) -> None:
    module = source_of(spec(USUAL), backend)
    for columns in ((2, 3), (1, 2, 3)):
        for column in (1, 2, 3):
            one_hot = [each == column for each in (1, 2, 3)]
            if backend == "torch":
                draw = module.ColumnJoinWeights(0.9, columns)
                weights = [draw(torch.zeros(1), torch.tensor(one_hot)) for _ in range(8)]
            else:
                draw = module.ColumnJoinWeights(0.9, columns, rngs=nnx.Rngs(0))
                weights = [draw(jnp.zeros(1), jnp.array(one_hot)) for _ in range(8)]
            for each in weights:
                assert np.allclose(np.asarray(each), kept(columns, column))


def test_torch_repeats_its_draws_from_a_seed_and_drops_nothing_in_evaluation() -> None:
    model, images = torch_model(spec(USUAL)), torch.randn(2, 2, 8, 8)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([weights_of(model, images) for _ in range(10)])
    assert runs[0] == runs[1]
    assert len(set(map(str, runs[0]))) > 1
    model.eval()
    for each in (weights_of(model, images) for _ in range(4)):
        assert each == [pytest.approx([1 / len(x)] * len(x)) for x in each]


def test_flax_repeats_its_draws_from_a_seed_and_drops_nothing_in_evaluation() -> None:
    of = spec(USUAL)
    create = getattr(source_of(of, "flax"), of.python_class)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 2))

    @nnx.jit
    def step(model: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(model(images))

    runs, model = [], None
    for _ in range(2):
        model = create(rngs=nnx.Rngs(5))
        runs.append([np.asarray(step(model, images)).tobytes() for _ in range(8)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1
    assert model is not None
    model.eval()
    assert len({np.asarray(step(model, images)).tobytes() for _ in range(3)}) == 1


# ---- training ----------------------------------------------------------------------------------


def test_an_operand_that_is_dropped_has_no_gradient_but_moves_its_statistics() -> None:
    model = torch_model(spec(USUAL, 2))
    deepest = torch.tensor([0.0, 1.0])
    model.block1.layer4.join_weights.register_forward_hook(lambda module, args, each: deepest)
    model(torch.randn(4, 2, 8, 8)).square().sum().backward()
    dropped, others = model.block1.layer1, (model.block1.layer2, model.block1.layer3)
    assert not any(bool(p.grad.any()) for p in dropped.parameters())
    assert all(bool(p.grad.any()) for each in others for p in each.parameters())
    assert all(bool(each.norm1.running_mean.any()) for each in (dropped, *others))


@pytest.mark.parametrize("drop", [USUAL, {"local": 0.5}], ids=str)
def test_torch_compiles_it_as_one_graph(drop: dict[str, float]) -> None:
    torch.manual_seed(0)
    model = torch_model(spec(drop, 3))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.randn(4, 2, 8, 8)
    logits = [compiled(images) for _ in range(8)]
    logits[-1].sum().backward()
    assert len({each.detach().numpy().tobytes() for each in logits}) > 1
    model.eval()
    assert torch.allclose(compiled(images), model(images))


def test_a_narrow_type_draws_as_a_wide_one() -> None:
    model = torch_model(spec(USUAL, 3)).to(torch.bfloat16)
    images = torch.randn(4, 2, 8, 8)
    torch.manual_seed(0)
    narrow = [weights_of(model, images.to(torch.bfloat16)) for _ in range(8)]
    assert model(images.to(torch.bfloat16)).dtype is torch.bfloat16
    torch.manual_seed(0)
    wide = [weights_of(model.float(), images) for _ in range(8)]
    for one, other in zip(narrow, wide, strict=True):
        assert one == [pytest.approx(each, rel=0.01) for each in other]
