"""Generated drop-path: what is drawn, what moves, and that compilers take it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import cliquegraph
from cliquegraph import NetworkSpec, interpret, verify
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import Affine, DropPath
from cliquegraph.passes.fold import Fold, fold_tensors
from cliquegraph.passes.rewrite import rewrite
from cliquegraph.plugins.backends import find_backend
from cliquegraph.semantics.exact import Candidate, compare
from cliquegraph.weights.sample import sample_tensors
from cliquegraph_torch.synchronized import synchronize
from tests.function import images_for
from tests.networks import network


def spec(**drop: Any) -> NetworkSpec:
    block = {"kind": "residual", "layers": 2, "filters": 4, "drop_path": drop}
    keys: dict[str, Any] = {"transition": "none", "readout": {"norm": False}}
    return network(block, stem={"filters": 4, "norm": True}, **keys)


def model_of(of: NetworkSpec, backend: str) -> Any:
    chosen = find_backend(backend)
    module = load_source(Compilation(of, 0).source(chosen), "generated_drop_path")
    return getattr(module, of.python_class)


@pytest.mark.parametrize("level", [1, 2])
def test_beside_a_block_in_a_slab(level: int) -> None:
    # Its file has a helper for BN and ReLU, which takes no branch that may be dropped.
    block = {"kind": "residual", "layers": 2, "filters": 4, "drop_path": {"last": 0.5}}
    of = network({"layers": 2, "filters": 4}, block)
    assert verify(of, ["torch"], level=level).ok


@pytest.mark.parametrize("scale", ["evaluation", "training"])
@pytest.mark.parametrize("per", ["batch", "image"])
def test_every_variant_is_verified(per: str, scale: str) -> None:
    of = spec(last=0.5, per=per, scale=scale)
    assert verify(of).ok
    assert verify(of, ["torch"], inference=True).ok


# ---- PyTorch -----------------------------------------------------------------------------------


def masks_of(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What the units draw in one pass."""
    drawn: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, args, mask: drawn.append(mask))
        for name, module in model.named_modules()
        if name.endswith("drop_path")
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return drawn


@pytest.mark.parametrize(("per", "count"), [("batch", 1), ("image", 8)])
def test_torch_draws_at_the_rates_and_nothing_in_evaluation(per: str, count: int) -> None:
    torch.manual_seed(0)
    model, images = model_of(spec(last=0.5, per=per), "torch")(), torch.randn(8, 2, 8, 8)
    drawn = [masks_of(model, images) for _ in range(200)]
    for unit, survival in enumerate((0.75, 0.5)):
        masks = torch.stack([each[unit] for each in drawn])
        assert masks.shape[1:] == (count, 1, 1, 1)
        assert set(masks.unique().tolist()) == {0.0, 1.0}
        assert masks.mean().item() == pytest.approx(survival, abs=0.1)
    model.eval()
    assert [set(mask.ravel().tolist()) for mask in masks_of(model, images)] == [{0.75}, {0.5}]


@pytest.mark.parametrize(
    ("per", "level"), [("batch", 0), ("batch", 1), ("batch", 2), ("image", 0), ("image", 1)]
)
def test_synchronized_statistics_are_refused_where_a_whole_batch_is_dropped(
    per: str, level: int
) -> None:
    model = cliquegraph.build(spec(last=0.5, per=per), "torch", level=level)()
    images = torch.randn(4, 2, 8, 8)
    model(images)  # as it is, it serves
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if per == "image":
        assert model(images).shape == (4, 5)
        return
    with pytest.raises(ValueError, match=r"SyncBatchNorm .* per: image"):
        model(images)


def test_a_unit_that_torch_leaves_out_moves_nothing_and_has_no_gradient() -> None:
    model = model_of(spec(last=0.5), "torch")()
    first, second = model.block1.layer1, model.block1.layer2
    first.drop_path.register_forward_hook(lambda module, args, mask: torch.zeros_like(mask))
    second.drop_path.register_forward_hook(lambda module, args, mask: torch.ones_like(mask))
    model(torch.randn(4, 2, 8, 8)).square().sum().backward()
    for unit, lives in ((first, False), (second, True)):
        for norm in (unit.norm1, unit.norm2):
            assert norm.num_batches_tracked.item() == lives
            assert bool(norm.running_mean.any()) == lives
            assert bool((norm.running_var != 1).any()) == lives
        assert all(bool(p.grad.any()) == lives for p in unit.parameters())
    assert model.stem.norm.num_batches_tracked == 1


@pytest.mark.parametrize("per", ["batch", "image"])
def test_torch_compiles_it_as_one_graph(per: str) -> None:
    torch.manual_seed(0)
    model = model_of(spec(last=0.5, per=per, scale="training"), "torch")()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.randn(4, 2, 8, 8)
    logits = [compiled(images) for _ in range(8)]
    logits[-1].sum().backward()
    assert len({each.detach().numpy().tobytes() for each in logits}) > 1
    model.eval()
    assert torch.allclose(compiled(images), model(images))


def test_normalizations_that_leave_out_batches_are_not_synchronized() -> None:
    with pytest.raises(UsageError, match="drop-path per batch"):
        synchronize(model_of(spec(last=0.5), "torch")())
    synchronize(model_of(spec(last=0.5, per="image"), "torch")())


# ---- Flax --------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["batch", "image"])
def test_flax_draws_within_a_compiled_step(per: str) -> None:
    model = model_of(spec(last=0.5, per=per), "flax")(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 2))

    @nnx.jit
    def step(model: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(model(images))

    assert len({np.asarray(step(model, images)).tobytes() for _ in range(8)}) > 1
    model.eval()
    assert len({np.asarray(step(model, images)).tobytes() for _ in range(2)}) == 1


# ---- graphs ------------------------------------------------------------------------------------


def test_a_branch_that_ends_without_a_normalization_folds_into_a_factor() -> None:
    # As in pre-activation units: here drop-path reads what the last norm reads.
    lowered = Compilation(spec(last=0.5)).lowered

    def nodes_for(node: Node) -> Iterator[Node]:
        if isinstance(node.op, DropPath):
            norm = lowered.producers[node.inputs[0]]
            node = replace(node, inputs=(norm.inputs[0], *node.inputs[1:]))
        yield node

    graph = rewrite(lowered, nodes_for)
    tensors, images = sample_tensors(graph), images_for(graph)
    folded = Fold().apply(graph)
    roles = [n.operands[0].param.slot.role for n in folded if isinstance(n.op, Affine)]
    assert roles.count("drop_path") == 2
    expected = interpret(graph, tensors, images)
    found = interpret(folded, fold_tensors(graph, tensors), images)
    assert np.allclose(found.logits, expected.logits, rtol=1e-12)


@pytest.mark.parametrize(
    "other",
    [{"last": 0.4}, {"scale": "training"}, {"per": "image"}],
    ids=lambda each: next(iter(each)),
)
def test_another_drop_path_is_refused(other: dict[str, Any]) -> None:
    of = spec(last=0.5)
    with pytest.raises(VerificationError, match="block1, stage 1 layer 1"):
        compare(of, Candidate(Compilation(spec(**{"last": 0.5, **other})).lowered))


@pytest.mark.parametrize("per", ["batch", "image"])
def test_a_narrow_type_does_not_round_the_rate(per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # In bfloat16, 1 - 1/108 is 0.9922, and a branch would be dropped too rarely by a sixth.
    model: nn.Module = model_of(spec(per=per, last=1 / 108), "torch")().to(torch.bfloat16).train()
    seen: list[torch.Tensor] = []
    draw = torch.bernoulli

    def watched(survival: torch.Tensor) -> torch.Tensor:
        seen.append(survival)
        return draw(survival)

    monkeypatch.setattr(torch, "bernoulli", watched)
    for mask in masks_of(model, torch.zeros(2, 2, 8, 8, dtype=torch.bfloat16)):
        assert mask.dtype is torch.bfloat16
    assert {survival.dtype for survival in seen} == {torch.float32}
