"""The schedule: from a declared block to its updates (section 3.1 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import dropwhile

from cliquegraph.blocks.model import Block, Output, Read
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.spec.load import Declaration, load
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Reading, Step, StepGraph

_Versions = Mapping[int, Feature]


def unroll(network: Declaration) -> StepGraph:
    """Unroll every block of a network into its updates.

    Args:
        network: whatever ``load`` takes.

    Raises:
        SpecError: a readout over time reads a block without stages.

    >>> import cliquegraph
    >>> steps = cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml"))
    >>> first = next(steps.steps)
    >>> [str(feature) for feature in first.reads], str(first.writes)
    (['X0'], 'X1@1')
    """
    network = load(network)
    declared = blocks_of(network.blocks)
    last = len(declared) if network.readout.over_time else None
    steps = StepGraph(
        network=network,
        blocks=tuple(
            unroll_block(block, b, over_time=b == last) for b, block in enumerate(declared, start=1)
        ),
    )
    if last is not None and len(steps.blocks[-1].readings) < 2:
        message = "readout.stages: the feature of the last block is of one stage alone"
        hint = "give the block more stages, or remove stages: all"
        where = network.locate("readout", "stages")
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, where, hint))
    return steps


def unroll_block(declared: Block, index: int, *, over_time: bool = False) -> BlockSteps:
    """Unroll one block into its updates; with ``over_time``, readouts read all of its stages."""
    x0, schedule = Feature(index, 0, 0), declared.schedule
    newest: dict[int, Feature] = {}  # the version of each layer that the next update reads
    by_stage: list[_Versions] = [{}]
    steps: list[Step] = []
    for stage, count in enumerate(schedule.updates, start=1):
        previous = by_stage[-1]
        for layer in schedule.order[:count]:
            if stage == 1:
                seen: _Versions = newest if schedule.initial == "visit" else {}
            else:
                seen = previous if schedule.simultaneous else newest
            versions = {0: x0, **seen}
            if stage > 1:
                versions[layer] = newest[layer]  # its own previous version
            reads = list(_readable(declared.layer(layer).reads, versions, layer, stage))
            step = Step(
                block=index,
                stage=stage,
                layer=layer,
                reads=tuple(versions[read.source] for read in reads),
                weights=tuple(
                    Edge(index, read.source, layer) if read.by_kernel else None for read in reads
                ),
                writes=Feature(index, layer, stage),
            )
            steps.append(step)
            newest[layer] = step.writes
        # A copy, never the dictionary itself: later stages write their versions into that, and
        # the features of this stage must not change.
        by_stage.append(dict(newest))

    def leaving(output: Output) -> tuple[Feature, ...]:
        versions = by_stage[output.stage]
        entry = (x0,) if output.with_input else ()
        return (*entry, *(versions[layer] for layer in output.layers))

    def readings() -> Iterator[Reading]:
        """The feature in each stage, from the first in which X0 has reached all of it."""
        reached = {x0}
        for step in steps:
            if not reached.isdisjoint(step.reads):
                reached.add(step.writes)
        stages = range(1, declared.feature.stage + 1)
        each = [Reading(s, leaving(replace(declared.feature, stage=s))) for s in stages]
        return dropwhile(lambda reading: not reached.issuperset(reading.features), each)

    return BlockSteps(
        index=index,
        declared=declared,
        steps=tuple(steps),
        feature=leaving(declared.feature),
        transit=leaving(declared.transit),
        readings=tuple(readings()) if over_time else (),
    )


def _readable(
    reads: tuple[Read, ...], versions: _Versions, layer: int, stage: int
) -> Iterator[Read]:
    """The reads of a layer that exist in a stage."""
    for read in reads:
        if read.source == 0 and stage > 1 and not read.every_stage:
            continue  # stage 1 initializes from X0
        if read.source in versions:
            yield read
