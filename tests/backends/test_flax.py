"""Generated Flax models: how they start, and that they work where models have to work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.types import Init
from cliquegraph.weights.layout import canonical
from cliquegraph_flax.live import find_variable
from cliquegraph_flax.naming import FlaxLayout
from tests.networks import EVERY_KEY, clique, network


def module_of(spec: NetworkSpec) -> ModuleType:
    return load_source(cliquegraph.compile(spec, "flax"), "generated")


def build(spec: NetworkSpec, **keys: Any) -> Any:
    return getattr(module_of(spec), spec.python_class)(rngs=nnx.Rngs(0), **keys)


def images(spec: NetworkSpec, batch: int = 3) -> Array:
    size = spec.input
    return jax.random.normal(jax.random.key(1), (batch, size.height, size.width, size.channels))


SPEC = EVERY_KEY["defaults"]

# ---- initialization (section 4.1 of the paper) ---------------------------------------------

WIDE = network(
    {"layers": 3, "filters": 48, "bottleneck": True},
    {"layers": 2, "filters": 64},
    stem={"filters": 96, "norm": True},
    transition={"attention": True},
    readout={"compression": 0.5},
    classifier={"classes": 100},
)


@pytest.fixture(scope="module")
def wide() -> Any:
    return build(WIDE)


def test_every_kernel_has_the_he_variance_of_its_own_fan_in(wide: Any) -> None:
    checked = 0
    for param in Compilation(WIDE).graph.params:
        if param.field == "weight" and len(param.shape) == 4:
            weight = canonical(
                FlaxLayout(),
                param,
                np.asarray(find_variable(wide, FlaxLayout().name(param))[...], np.float64),
            )
            assert weight.shape == param.shape
            position = 0
            for piece in param.pieces:
                width = piece.stop - piece.start
                part = weight[:, position : position + width]
                position += width
                expected = (2 / (width * part[0, 0].size)) ** 0.5
                # Three standard errors of a standard deviation, and a little.
                tolerance = 0.01 + 3 / (2 * part.size) ** 0.5
                assert part.std() == pytest.approx(expected, rel=tolerance)
                assert abs(part.mean()) < 4 * expected / part.size**0.5
                checked += 1
    # stem, 9 + 4 edges, 3 spatial, transition, 2 compressions
    assert checked == 1 + 9 + 4 + 3 + 1 + 2


def test_linear_layers_are_xavier_with_biases_of_0(wide: Any) -> None:
    linears = [each for _, each in nnx.iter_modules(wide) if isinstance(each, nnx.Linear)]
    assert len(linears) == 3
    for linear in linears:
        bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
        largest = float(jnp.abs(linear.kernel[...]).max())
        assert 0.99 * bound < largest <= bound * (1 + 1e-6)
        assert linear.bias is not None
        assert not linear.bias[...].any()


def test_normalizations_start_at_1_and_0(wide: Any) -> None:
    for param in Compilation(WIDE).graph.params:
        init = param.pieces[0].tensor.init
        if init in (Init.ZEROS, Init.ONES):
            assert (find_variable(wide, FlaxLayout().name(param))[...] == (init is Init.ONES)).all()
    modules = [each for _, each in nnx.iter_modules(wide)]
    assert {each.eps for each in modules if hasattr(each, "eps")} == {1e-5}
    assert {each.momentum for each in modules if hasattr(each, "momentum")} == {0.1}


def test_another_seed_draws_other_weights() -> None:
    create = getattr(module_of(clique()), "Small")  # noqa: B009  # a generated name
    kernels = [create(rngs=nnx.Rngs(seed)).block1.w1[...] for seed in (0, 0, 1)]
    assert jnp.array_equal(kernels[0], kernels[1])
    assert not jnp.array_equal(kernels[0], kernels[2])


# ---- the interface -------------------------------------------------------------------------


def test_num_classes_is_the_callers() -> None:
    assert build(clique())(images(clique())).shape == (3, 5)
    assert build(clique(), num_classes=7)(images(clique())).shape == (3, 7)


@pytest.mark.parametrize("name", ["defaults", "dense"])
def test_forward_features_returns_the_block_features(name: str) -> None:
    spec = EVERY_KEY[name]
    model = build(spec)
    model.eval()
    features = model.forward_features(images(spec))
    assert isinstance(features, tuple)
    types = [value.type for value in Compilation(spec).graph.features]
    shapes = [(3, each.height, each.width, each.channels) for each in types]  # type: ignore[union-attr]
    assert [each.shape for each in features] == shapes


def test_the_module_has_one_public_name() -> None:
    assert module_of(clique()).__all__ == ["Small"]


def statistics(model: Any) -> list[Array]:
    return jax.tree.leaves(nnx.state(model, nnx.BatchStat))


def test_training_moves_running_statistics_and_evaluation_does_not() -> None:
    model = build(SPEC)
    before = statistics(model)
    model.eval()
    model(images(SPEC))
    assert all(jnp.array_equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    model.train()
    model(images(SPEC))
    assert not any(jnp.array_equal(a, b) for a, b in zip(before, statistics(model), strict=True))


def test_stages_from_3_on_re_use_stage_2s_norms_where_the_spec_says_so() -> None:
    model = build(clique(stages=3, norm_per_stage=False))
    assert hasattr(model.block1, "update1_2")
    assert not hasattr(model.block1, "update1_3")
    assert hasattr(build(clique(stages=3)).block1, "update1_3")


def test_dropout_draws_in_training_alone() -> None:
    spec = clique(dropout=0.25)
    model = build(spec)
    rates = [each.rate for _, each in nnx.iter_modules(model) if isinstance(each, nnx.Dropout)]
    assert rates == [0.25] * 6
    x = images(spec)
    assert not jnp.array_equal(model(x), model(x))
    model.eval()
    assert jnp.array_equal(model(x), model(x))


# ---- JAX's transformations -----------------------------------------------------------------


def test_it_runs_under_jit_and_has_gradients() -> None:
    model = build(SPEC)
    x, labels = images(SPEC), jnp.arange(3)

    def loss_of(model: Any) -> Array:
        logits = model(x)
        return -jax.nn.log_softmax(logits)[jnp.arange(3), labels].mean()

    expected = loss_of(model)
    moved = statistics(model)
    again = build(SPEC)
    loss, gradients = nnx.jit(nnx.value_and_grad(loss_of))(again)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    for one, other in zip(statistics(again), moved, strict=True):
        assert np.asarray(one) == pytest.approx(np.asarray(other), rel=1e-4, abs=1e-5)
    leaves = jax.tree.leaves(gradients)
    assert len(leaves) == len(jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert all(jnp.isfinite(each).all() and each.any() for each in leaves)


def test_it_computes_in_bfloat16_with_float32_parameters() -> None:
    model = build(SPEC, dtype=jnp.bfloat16)
    assert {each.dtype for each in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float32)}
    features = model.forward_features(images(SPEC))
    assert {each.dtype for each in features} == {jnp.dtype(jnp.bfloat16)}
    # The classifier computes in the parameters' type.
    assert model(images(SPEC)).dtype == jnp.float32
    assert {each.dtype for each in statistics(model)} == {jnp.dtype(jnp.float32)}
    single = build(SPEC)
    found, expected = (each.forward_features(images(SPEC))[0] for each in (model, single))
    assert np.asarray(found, np.float32) == pytest.approx(np.asarray(expected), abs=0.2)


def test_parameters_have_the_type_that_is_asked_for() -> None:
    model = build(SPEC, param_dtype=jnp.bfloat16)
    assert {each.dtype for each in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("level", [*range(3), "folded"])
@pytest.mark.parametrize("narrow", [jnp.bfloat16, jnp.float16])
def test_images_are_promoted_with_the_parameters_as_by_nnx_conv(
    level: int | str, narrow: Any
) -> None:
    options: dict[str, Any] = {"inference": True} if level == "folded" else {"level": level}
    source = cliquegraph.compile(SPEC, "flax", **options)
    create = getattr(load_source(source, "generated"), SPEC.python_class)
    model, x = create(rngs=nnx.Rngs(0)), images(SPEC).astype(narrow)
    model.eval()
    reference = nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0))
    assert {each.dtype for each in model.forward_features(x)} == {reference(x).dtype}
    assert (model(x) == model(x.astype(jnp.float32))).all()
    half = create(rngs=nnx.Rngs(0), param_dtype=narrow)
    half.eval()
    reference = nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0), param_dtype=narrow)
    assert half(x).dtype == reference(x).dtype == narrow
    assert half(images(SPEC)).dtype == reference(images(SPEC)).dtype == jnp.float32


def test_a_seed_stands_for_its_rngs() -> None:
    create = getattr(module_of(SPEC), SPEC.python_class)
    found, expected = (jax.tree.leaves(nnx.state(create(rngs=r))) for r in (3, nnx.Rngs(3)))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from small import Small

assert jax.device_count() == 2
model = Small(rngs=nnx.Rngs(0))
definition, state = nnx.split(model)
images = jax.random.normal(jax.random.key(1), (4, 8, 8, 2))

@jax.jit
def step(state, images):
    model = nnx.merge(definition, state)
    return model(images), nnx.state(model, nnx.BatchStat)

alone, statistics = step(state, images)
mesh = Mesh(np.array(jax.devices()), ("batch",))
spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("batch")))
everywhere = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
found, moved = step(everywhere, spread)
assert len(found.sharding.device_set) == 2
np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), moved, statistics)
print("equal")
"""


def test_a_batch_over_two_devices_gives_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(cliquegraph.compile(clique(), "flax"), encoding="utf-8")
    # The number of devices is read when JAX starts.
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr
