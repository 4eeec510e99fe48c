"""Whether a slab gains in JAX what it gains in PyTorch: training steps of single blocks.

    python benchmarks/flax_slab.py --output

A block of pre-activation units, jitted with its gradient, in float32: from features that are
concatenated for each reader, as the Flax backend emits it; and from a slab, into which each feature
is written by `dynamic_update_slice` and of which a reader takes the windows of PyTorch's layout. Of
networks with 1×1 convolutions both also with these as `dot_general`. Moments of a feature are
computed once. Weights are random. Each block runs by itself, all variants in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.bundled.flax_steps import DEVICE, ON_CPU, program
from benchmarks.harness import (
    Report,
    default_batch,
    interleave,
    load_network,
    megabytes,
    parser,
    print_table,
    rated,
    run,
    summarise,
    times,
)
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.ops import Conv
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MapType
from cliquegraph.steps.graph import Feature

Weights = list[Array]
Multiply = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Update:
    """What an update reads, in the order of its input's columns, its kernels and its result."""

    reads: tuple[Value, ...]
    kernels: tuple[tuple[int, int, int, int], ...]
    writes: Value


@dataclass(frozen=True)
class Block:
    """A block of which the features lie in one slab."""

    slab: Slab
    entry: Value
    updates: tuple[Update, ...]
    output: tuple[Value, ...]


def blocks_of(network: NetworkSpec) -> list[Block]:
    """Return the blocks of an op graph at -O1 whose features lie in a slab."""
    compilation = Compilation(network, 1)
    found = []
    for slab, block in zip(compilation.graph.slabs, compilation.steps.blocks, strict=True):
        entry, written = slab.values[0], {}
        for node in compilation.graph.nodes:
            if node.output in slab.values[1:]:
                written[node.origin.stage, node.origin.layer] = node.output

        def value(feature: Feature, written: Any = written, entry: Value = entry) -> Value:
            return written[feature.stage, feature.layer] if feature.layer else entry

        convs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for node in compilation.graph.nodes:
            origin = node.origin
            if not isinstance(node.op, Conv) or origin.section.index != block.index:
                continue
            if origin.stage is not None and origin.layer is not None:
                place = origin.stage, origin.layer
                convs.setdefault(place, []).append((node.op.kernel, node.op.filters))
        updates = []
        for step in block.steps:
            reads = tuple(map(value, step.reads))
            width, kernels = sum(each.type.channels for each in reads), []
            for size, filters in convs[step.stage, step.layer]:
                kernels.append((size, size, width, filters))
                width = filters
            updates.append(Update(reads, tuple(kernels), value(step.writes)))
        found.append(Block(slab, entry, tuple(updates), tuple(map(value, block.feature))))
    return found


# ---- units -------------------------------------------------------------------------------------


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    return x.mean((0, 1, 2)), x.var((0, 1, 2))


def norm_relu(x: Array, mean: Array, var: Array) -> Array:
    """Normalize and rectify maps, (batch, height, width, channels)."""
    return jax.nn.relu((x - mean) * lax.rsqrt(var + 1e-5))


def convolve(x: Array, w: Array) -> Array:
    """A convolution of maps with as many pixels as before."""
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_dot(x: Array, w: Array) -> Array:
    """``convolve``, with 1×1 kernels by ``dot_general``."""
    if w.shape[:2] != (1, 1):
        return convolve(x, w)
    return lax.dot_general(x, w[0, 0], (((3,), (0,)), ((), ())))


def unit(x: Array, mean: Array, var: Array, kernels: Weights, multiply: Multiply) -> Array:
    """BN, ReLU and convolution, once or, with a bottleneck, twice."""
    for w in kernels:
        x = multiply(norm_relu(x, mean, var), w)
        mean, var = moments(x)
    return x


# ---- blocks ------------------------------------------------------------------------------------


def concatenated(
    block: Block, x0: Array, weights: Sequence[Weights], multiply: Multiply = convolve
) -> Array:
    """The block feature; every reader concatenates what it reads."""
    maps, held = {block.entry: x0}, {block.entry: moments(x0)}
    for update, kernels in zip(block.updates, weights, strict=True):
        x = jnp.concatenate([maps[each] for each in update.reads], -1)
        mean, var = (jnp.concatenate([held[e][i] for e in update.reads]) for i in range(2))
        y = unit(x, mean, var, kernels, multiply)
        maps[update.writes], held[update.writes] = y, moments(y)
    return jnp.concatenate([maps[each] for each in block.output], -1)


def in_slab(
    block: Block, x0: Array, weights: Sequence[Weights], multiply: Multiply = convolve
) -> Array:
    """The block feature; every update writes columns of one buffer, and reads windows of it."""
    columns, held = block.slab.columns, {block.entry: moments(x0)}
    slab = jnp.zeros((*x0.shape[:3], block.slab.channels), x0.dtype)
    slab = lax.dynamic_update_slice(slab, x0, (0, 0, 0, columns[block.entry][0]))

    def read(values: Sequence[Value]) -> Array:
        parts = [slab[..., a:b] for a, b in block.slab.windows(values)]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    for update, kernels in zip(block.updates, weights, strict=True):
        mean, var = (jnp.concatenate([held[e][i] for e in update.reads]) for i in range(2))
        y = unit(read(update.reads), mean, var, kernels, multiply)
        slab = lax.dynamic_update_slice(slab, y, (0, 0, 0, columns[update.writes][0]))
        held[update.writes] = moments(y)
    return read(block.output)


def concatenated_by_dot(block: Block, x0: Array, weights: Sequence[Weights]) -> Array:
    """``concatenated``, with 1×1 convolutions as products."""
    return concatenated(block, x0, weights, by_dot)


def in_slab_by_dot(block: Block, x0: Array, weights: Sequence[Weights]) -> Array:
    """``in_slab``, with 1×1 convolutions as products."""
    return in_slab(block, x0, weights, by_dot)


def variants_of(block: Block) -> Mapping[str, Callable[..., Array]]:
    """The ways to compute a block."""
    found: dict[str, Callable[..., Array]] = {"concatenated": concatenated, "slab": in_slab}
    if any(kernel[0] == 1 for update in block.updates for kernel in update.kernels):
        found["concatenated, dot_general"] = concatenated_by_dot
        found["slab, dot_general"] = in_slab_by_dot
    return found


def inputs_of(block: Block, batch: int) -> tuple[Array, list[Weights], Array]:
    """X0, kernels, and a direction in which the block feature is derived; all random."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Array:
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    image = block.entry.type
    assert isinstance(image, MapType)  # noqa: S101  # X0 is maps
    size = batch, image.height, image.width
    weights = [[drawn(*kernel) for kernel in update.kernels] for update in block.updates]
    return (
        drawn(*size, image.channels),
        weights,
        drawn(*size, sum(each.type.channels for each in block.output)),
    )


def step(compute: Callable[..., Array], block: Block, x0: Array, weights: Any, slope: Array) -> Any:
    """The gradients of a block's feature in a direction."""
    return jax.grad(lambda x, w: (compute(block, x, w) * slope).sum(), (0, 1))(x0, weights)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__ or "", rounds=7).parse_args()
    report = Report(arguments, f"flax_slab_{DEVICE}")
    for name in arguments.networks:
        network = load_network(name)
        batch = arguments.batch or default_batch(network, not ON_CPU)
        for index, block in enumerate(blocks_of(network), 1):
            inputs = inputs_of(block, batch)
            programs = {
                variant: program(lambda x, w, s, f=compute, b=block: step(f, b, x, w, s), *inputs)
                for variant, compute in variants_of(block).items()
            }
            samples = interleave(
                {variant: each.seconds for variant, each in programs.items()}, arguments.rounds
            )
            found = {variant: each.memory() for variant, each in programs.items()}
            variants = rated(summarise(samples, baseline="concatenated"), batch, found)
            rows = {
                variant: {**times(row), "temporary MB": megabytes(row.get("temporary_bytes"))}
                for variant, row in variants.items()
            }
            print_table(f"{name}, block {index}, batch {batch}", rows)
            report.add({"network": name, "block": index, "batch": batch, "variants": variants})


if __name__ == "__main__":
    run(main)
