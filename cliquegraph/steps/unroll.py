"""The schedule: from a declared block to its updates (section 3.1 of the paper)."""

from __future__ import annotations

from functools import singledispatch

from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import CliqueBlock, DenseBlock
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step, StepGraph


def unroll(network: NetworkSpec) -> StepGraph:
    """Unroll every block of a network into its updates.

    >>> import cliquegraph
    >>> steps = cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml"))
    >>> first = next(steps.steps)
    >>> [str(feature) for feature in first.reads], str(first.writes)
    (['X0'], 'X1@1')
    """
    return StepGraph(
        network=network,
        blocks=tuple(unroll_block(spec, b) for b, spec in enumerate(network.blocks, start=1)),
    )


@singledispatch
def unroll_block(spec: object, index: int) -> BlockSteps:
    """Unroll one block; a block kind registers its own schedule."""
    raise TypeError(f"no schedule for {type(spec).__name__}")


@unroll_block.register
def _(spec: CliqueBlock, index: int) -> BlockSteps:
    x0 = Feature(index, 0, 0)
    order = spec.visiting_order
    newest: dict[int, Feature] = {}  # version of each layer that the next reader sees
    by_stage: list[dict[int, Feature]] = [{}]
    steps: list[Step] = []
    for stage in range(1, spec.stages + 1):
        previous = by_stage[-1]
        for layer in order[: spec.updates_in(stage)]:
            if stage == 1:
                # Stage 1 initialises: X0 and whatever has been visited before.
                readable = {0: x0, **newest}
            elif spec.update == "alternate":
                readable = newest
            else:
                readable = previous
            step = _step(index, stage, layer, readable)
            steps.append(step)
            newest[layer] = step.writes
        # A snapshot, never the dictionary itself: the stage's feature must stay what it is
        # when a later stage writes its own versions.
        by_stage.append(dict(newest))
    return BlockSteps(
        index=index,
        spec=spec,
        order=order,
        steps=tuple(steps),
        feature=(x0, *_ascending(by_stage[spec.feature_stage])),
        transit=_ascending(by_stage[spec.transit_stage]),
    )


@unroll_block.register
def _(spec: DenseBlock, index: int) -> BlockSteps:
    held = {0: Feature(index, 0, 0)}
    steps: list[Step] = []
    for layer in range(1, spec.layers + 1):
        step = _step(index, 1, layer, held)
        steps.append(step)
        held[layer] = step.writes
    everything = _ascending(held)
    return BlockSteps(
        index=index,
        spec=spec,
        order=tuple(range(1, spec.layers + 1)),
        steps=tuple(steps),
        feature=everything,
        transit=everything,
    )


def _step(block: int, stage: int, layer: int, readable: dict[int, Feature]) -> Step:
    """The update of ``layer`` from every other layer that can be read, ascending."""
    sources = sorted(source for source in readable if source != layer)
    return Step(
        block=block,
        stage=stage,
        layer=layer,
        reads=tuple(readable[source] for source in sources),
        weights=tuple(Edge(block, source, layer) for source in sources),
        writes=Feature(block, layer, stage),
    )


def _ascending(features: dict[int, Feature]) -> tuple[Feature, ...]:
    return tuple(features[layer] for layer in sorted(features))
