"""The meaning of a declaration: evaluates a network update by update, as its blocks are declared.

It shares no code with the compiler's representations of a declaration, the step graph, the op graph
and its passes, which are compared with it. So it unrolls schedules, names tensors and computes
widths by itself, and does not concatenate where features are read: an update is the sum, over its
sources, of the results of their edges' ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from cliquegraph.blocks.boundaries import readout_ops, stem_of, transition_of
from cliquegraph.blocks.model import Block, Conv, Layer, Norm, Ops, Output, Read, walk
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.semantics.arithmetic import (
    FLOAT64,
    Arithmetic,
    Array,
    average_pool,
    global_max,
    max_pool,
    mean,
)
from cliquegraph.semantics.operations import Execution, Law, Masks, Meaning, Observe, Place
from cliquegraph.semantics.shapes import zero_shapes
from cliquegraph.semantics.sites import Site
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Transition


def evaluate(
    network: NetworkSpec,
    tensors: Mapping[str, Array],
    images: Array,
    *,
    training: bool = False,
    masks: Masks | None = None,
    arithmetic: Arithmetic = FLOAT64,
    observe: Observe | None = None,
) -> Meaning:
    """Evaluate a declared network.

    Args:
        network: the declaration.
        tensors: canonical tensors by name.
        images: (batch, channels, height, width).
        training: normalize by batch statistics, update running statistics, apply dropout.
        masks: the masks of dropout and drop-path in training; default: dropout does nothing, and
            drop-path drops no branch.
        arithmetic: the arithmetic of the evaluation.
        observe: called with the result of each operation.

    Raises:
        VerificationError: a tensor is missing, or does not have the declared shape.
    """
    execution = Execution(tensors, arithmetic, training, masks, observe)
    return _Network(network, execution).evaluate(arithmetic.array(images))


class _Network:
    """One forward pass."""

    def __init__(self, network: NetworkSpec, execution: Execution) -> None:
        self._network, self._at = network, execution

    def evaluate(self, images: Array) -> Meaning:
        at = self._at
        x = at.write(at.run(stem_of(self._network), images, Site("stem")))
        features = []
        last, readout = len(self._network.blocks), self._network.readout
        stages: dict[int | None, Array] = {}
        blocks = blocks_of(self._network.blocks)
        at.column = _column(blocks)
        for b, block in enumerate(blocks, start=1):
            at.meaning.inputs[f"block{b}"] = x
            versions = self._block(b, block, x)
            at.enter(Place(f"block{b}"))
            features.append(at.write(self._output(block.feature, versions)))
            if b == last and readout.over_time:
                stages |= self._features_by_stage(block, versions)
            if b < last:
                x = self._output(block.transit, versions)
                if transition := transition_of(self._network, b):
                    at.enter(Place(f"transition{b}"))
                    x = at.write(self._transition(transition, f"transition{b}", x))
        first = 1 if readout.blocks == "all" else last
        read = {(b, stage): x for stage, x in stages.items()}
        read = read or {(b, None): features[b - 1] for b in range(first, last + 1)}
        vectors: dict[int | None, list[Array]] = {}
        for (b, stage), x in read.items():
            at.enter(Place(f"readout{b}", stage))
            vector = self._readout(Site(f"readout{b}", stage=stage), x)
            vectors.setdefault(stage, []).append(at.write(vector))
        logits = []
        for stage, each in vectors.items():
            at.enter(Place("classifier", stage))
            pooled, classes = np.concatenate(each, axis=-1), self._network.classifier.classes
            logits.append(at.write(at.linear(pooled, "classifier", classes)))
        if stages:
            at.enter(Place("classifier"))
            at.write(np.stack(logits, axis=-3))
        return at.meaning

    # ---- blocks ----------------------------------------------------------------------------

    def _block(self, b: int, block: Block, x0: Array) -> list[dict[int, Array]]:
        """The versions of all layers, including X0, at the end of each stage, from stage 0."""
        schedule = block.schedule
        zeros = zero_shapes(block, x0.shape[-3:]) if schedule.initial == "zero" else {}
        versions = [{0: x0}]
        written = {0: 0}  # the stage in which each version was written
        for stage, visits in enumerate(schedule.updates, start=1):
            newest, last = dict(versions[-1]), dict(written)
            for j in schedule.order[:visits]:
                readable, stages = newest, written
                if stage == 1 and schedule.initial == "zero":
                    readable = {0: x0}
                elif stage > 1 and schedule.simultaneous:
                    readable, stages = versions[-1], last
                read = [
                    (each, readable[each.source])
                    for each in block.layer(j).reads
                    if each.source in readable
                    and (each.source > 0 or each.every_stage or stage == 1)
                ]
                place = Place(f"block{b}", stage, j)
                self._at.enter(place)
                self._at.meaning.reads[place] = ", ".join(
                    f"X{each.source}@{stages[each.source]}" if each.source else "X0"
                    for each, _ in read
                )
                stride = block.stride if any(each.source == 0 for each, _ in read) else 1
                site = Site(f"block{b}", j, block.norm_stage(stage), stride)
                if not read and stage == 1 and j in zeros:
                    combined = np.zeros((*x0.shape[:-3], *zeros[j]), x0.dtype)
                else:
                    combined = self._read(block.layer(j), read, site)
                newest[j] = self._at.write(self._update(block.layer(j), combined, site))
                written[j] = stage
            versions.append(newest)
        return versions

    def _read(self, layer: Layer, read: list[tuple[Read, Array]], site: Site) -> Array:
        """The combined results of a layer's edges."""
        self._at.require(bool(read), "reads nothing")
        widths: dict[str, int] = {}  # of tensors that cover several edges
        for each, x in read:
            for role in _gathered(each.ops):
                widths[role] = widths.get(role, 0) + x.shape[-3]
        terms, at = [], dict.fromkeys(widths, 0)
        for each, x in read:
            parts = {}
            for role in _gathered(each.ops):
                parts[role] = (at[role], at[role] + x.shape[-3], widths[role])
                at[role] += x.shape[-3]
            terms.append(self._at.run(each.ops, x, replace(site, source=each.source, parts=parts)))
        drop = layer.join_drop
        if drop is not None:
            columns = zip(layer.reads, drop.columns, strict=True)
            present = {each.source for each, _ in read}
            columns_read = tuple(column for each, column in columns if each.source in present)
            drop = replace(drop, columns=columns_read)
        return self._at.combine(terms, layer.combine == "mean", drop)

    def _update(self, layer: Layer, combined: Array, site: Site) -> Array:
        """The layer's ops, applied to what it combines."""
        value = self._at.run(layer.ops, combined, site)
        maps, declared = value.shape[-3], layer.filters
        if declared is not None:
            self._at.require(maps == declared, f"has {maps} maps, but {declared} are declared")
        return value

    def _output(self, output: Output, versions: list[dict[int, Array]]) -> Array:
        layers = (0, *output.layers) if output.with_input else output.layers
        maps = [versions[output.stage][layer] for layer in layers]
        if output.combine == "mean":
            return self._at.combine(maps, average=True)
        return np.concatenate(maps, axis=-3)

    def _features_by_stage(
        self, block: Block, versions: list[dict[int, Array]]
    ) -> dict[int | None, Array]:
        """The block feature in each stage, from the first in which X0 has reached all of it."""
        last, layers = block.feature.stage, block.feature.layers
        stages = enumerate(self._arrivals(block), start=1)
        first = next((stage for stage, arrived in stages if arrived.issuperset(layers)), last)
        return {
            stage: self._output(replace(block.feature, stage=stage), versions)
            for stage in range(first, last + 1)
        }

    def _arrivals(self, block: Block) -> Iterator[set[int]]:
        """The layers whose versions at the end of each stage X0 has reached."""
        schedule, arrived = block.schedule, {0}
        for stage, visits in enumerate(schedule.updates, start=1):
            before = set(arrived)
            newest = not schedule.simultaneous if stage > 1 else schedule.initial == "visit"
            for j in schedule.order[:visits]:
                read = {
                    each.source
                    for each in block.layer(j).reads
                    if each.source or each.every_stage or stage == 1
                }
                reached = not read.isdisjoint(arrived if newest else before)
                (arrived.add if reached else arrived.discard)(j)
            yield set(arrived)

    # ---- between blocks ----------------------------------------------------------

    def _transition(self, transition: Transition | Ops, name: str, x: Array) -> Array:
        if isinstance(transition, tuple):
            return self._at.run(transition, x, Site(name))
        channels = _share(x.shape[-3], transition.compression)
        x = self._at.conv(self._at.norm_relu(x, f"{name}.norm"), f"{name}.conv", channels, 1)
        x = self._at.dropout(x, transition.dropout)
        if transition.attention:
            gate = mean(self._at.arithmetic, x, (-2, -1))
            gate = self._at.linear(gate, f"{name}.attention.fc1", channels // 2)
            gate = self._at.arithmetic.relu(gate)
            gate = self._at.linear(gate, f"{name}.attention.fc2", channels)
            gate = self._at.arithmetic.sigmoid(gate)
            x = self._at.arithmetic.multiply(x, gate[..., None, None])
        if transition.pool == "max":
            return max_pool(self._at.arithmetic, x, 2, 2, 0)
        return average_pool(self._at.arithmetic, x, 2, 2)

    def _readout(self, site: Site, x: Array) -> Array:
        readout, ops = self._network.readout, readout_ops(self._network)
        if not readout.is_staged:
            site = replace(site, stage=None)
        x = self._standard_readout(site, x) if ops is None else self._at.run(ops, x, site)
        if readout.pool == "max":
            return global_max(self._at.arithmetic, x)
        return mean(self._at.arithmetic, x, (-2, -1))

    def _standard_readout(self, site: Site, x: Array) -> Array:
        readout = self._network.readout
        if readout.compression is not None:
            channels = _share(x.shape[-3], readout.compression)
            x = self._at.norm_relu(x, f"{site.of_update}.compress.norm")
            x = self._at.conv(x, f"{site.of_layer}.compress.conv", channels, 1)
            x = self._at.dropout(x, readout.dropout)
        return self._at.norm_relu(x, f"{site.of_update}.norm") if readout.norm else x


def _column(blocks: Iterable[Block]) -> Law:
    """How often the network keeps one column, and of how many; nothing if it always keeps all."""
    drops = [layer.join_drop for block in blocks for layer in block.layers if layer.join_drop]
    shares = {drop.global_: None for drop in drops if drop.global_}
    columns = [column or 0 for drop in drops if drop.global_ for column in drop.columns]
    return (*shares, max(columns)) if shares else ()


def _gathered(ops: Ops) -> Iterator[str]:
    """The roles of an edge's ops whose tensors cover everything that the layer reads by such edges.

    These are the normalizations before any kernel, and a kernel that belongs to the layer.
    """
    for op in walk(ops):
        if isinstance(op, Norm):
            yield op.role
        elif isinstance(op, Conv):
            if op.role != "w":
                yield op.role
            return


def _share(channels: int, factor: float) -> int:
    """How many channels a compression leaves, rounded down; its factor is read as a decimal."""
    return int(channels * Fraction(str(factor)))
