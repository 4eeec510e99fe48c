"""Converts the compiler's specs for the hand-written model of ``literal.py``."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.literal import LiteralBlock, LiteralCliqueNet, LiteralSpec, LiteralStem
from cliquegraph import NetworkSpec
from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.shapes import compressed, squeezed
from cliquegraph.spec.schema import Stem, Transition


def literal_model(network: NetworkSpec) -> LiteralCliqueNet:
    """Return the hand-written model of a network.

    Raises:
        UsageError: the spec requests something that the model does not have; the message names it.
    """
    return LiteralCliqueNet(literal_spec(network))


def literal_spec(network: NetworkSpec) -> LiteralSpec:
    """Return the description of a network for the model.

    Raises:
        UsageError: the spec requests something that the model does not have; the message names it.
    """
    lacking = list(uncovered(network))
    if lacking:
        listed = "; ".join(lacking)
        raise UsageError(f"the literal model does not cover {network.name}: {listed}")
    stem, transition, factor = network.stem, network.transition, network.readout.compression
    assert isinstance(stem, Stem)  # noqa: S101  # as above
    assert isinstance(transition, Transition)  # noqa: S101  # as above
    pool = stem.pool
    channels, blocks, entries = stem.filters, [], []
    for block in network.blocks:
        assert isinstance(block, CliqueBlock)  # noqa: S101  # `uncovered` lists any other
        n, k = block.layers, block.filters
        filters = None if factor is None else compressed(channels + n * k, factor)
        blocks.append(LiteralBlock(n, k, block.kernel, block.bottleneck, filters))
        entries.append(channels)
        channels = n * k
    attention = map(squeezed, entries[1:]) if transition.attention else ()
    return LiteralSpec(
        network.input.channels,
        LiteralStem(
            stem.filters,
            stem.kernel,
            stem.stride,
            stem.norm,
            None if pool is None else (pool.kernel, pool.stride),
        ),
        tuple(blocks),
        tuple(attention),
        network.classifier.classes,
    )


def uncovered(network: NetworkSpec) -> Iterator[str]:
    """Yield the requested features that the literal model does not have."""
    covered: list[tuple[str, object, object]] = []
    for index, block in enumerate(network.blocks):
        name = f"blocks.{index}"
        if not isinstance(block, CliqueBlock):
            yield f"{name} is a {block.kind} block, only cliques are covered"
            continue
        ascending = tuple(range(1, block.layers + 1))
        covered += [
            (f"{name}.dropout", block.dropout, 0.0),
            (f"{name}.unit", block.unit, "pre_activation"),
            (f"{name}.stages", block.stages, 2),
            (f"{name}.update", block.update, "alternate"),
            (f"{name}.order", block.visits.sequence, ascending),
            (f"{name}.last_stage_updates", block.visits.updates[-1], block.layers),
            (f"{name}.feature", block.feature_stage, block.stages),
            (f"{name}.transit", block.transit_stage, block.stages),
        ]
    stem, transition = network.stem, network.transition
    if not isinstance(stem, Stem):
        yield "the stem is none, or a list of ops"
    elif stem.pool is not None:
        covered.append(("stem.pool.kind", stem.pool.kind, "max"))
    if isinstance(transition, Transition):
        covered += [
            ("transition.compression", transition.compression, 1.0),
            ("transition.pool", transition.pool, "avg"),
            ("transition.dropout", transition.dropout, 0.0),
        ]
    else:
        yield "the transition is none, or a list"
    covered += [
        ("readout.blocks", network.readout.blocks, "all"),
        ("readout.dropout", network.readout.dropout, 0.0),
        ("readout.ops", network.readout.ops, None),
        ("readout.pool", network.readout.pool, "avg"),
    ]
    for key, found, only in covered:
        if found != only:
            yield f"{key} is {found}, only {only} is covered"
