"""From layers, edges, ops and a schedule to a ``Block``: what ``graph`` and its short names share.

Whatever a key leaves out has its default here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from cliquegraph.blocks.keys import OutputKeys
from cliquegraph.blocks.model import (
    Block,
    JoinDrop,
    Layer,
    Output,
    Read,
    Schedule,
    Words,
)
from cliquegraph.blocks.ops import edge_ops, layer_ops, needs_filters, width_behind
from cliquegraph.blocks.topology import Direction, EntryWithOps, Topology
from cliquegraph.blocks.visits import Visits
from cliquegraph.spec.ops import ConvOp, OpList, SkipOp
from cliquegraph.spec.ops import walk as walk_keys
from cliquegraph.spec.schema import Path, fault, impossible


@dataclass(frozen=True)
class LayerPlan:
    """One layer.

    Attributes:
        filters: the channels of its convolutions that name none.
        edge: the ops on what it reads.
        feedback: those on a source of a higher index.
        itself: those on its own last version; None: it does not read that.
        layer: those on what it combines.
        combine: the sum or the mean.
        label: its name in drawings.
        own: the keys that the spec gives this layer, and not the block.
        columns: for each source, the column of a fractal that it belongs to.
    """

    filters: int | None = None
    edge: OpList = ()
    feedback: OpList = ()
    itself: OpList | None = None
    layer: OpList = ()
    combine: Literal["sum", "mean"] = "sum"
    label: str | None = None
    own: frozenset[str] = frozenset()
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Graph:
    """A block as its keys say it, with their defaults filled in.

    Attributes:
        layers: X1 … Xn.
        edges, direction, entry: who reads whom.
        visits: when.
        simultaneous, initial: which versions are read.
        stride: of the ops that reduce.
        norms: whose normalizations a stage uses.
        output, feature: what leaves.
        drop: drop-path of joins: the rate of an operand, and the share of global batches.
        feedback: whether the block has ops for sources of a higher index.
        listed: whether the keys list the layers, each with its own.
        self_path: where they say that a layer reads itself.
    """

    layers: tuple[LayerPlan, ...]
    edges: Any
    entry: EntryWithOps
    visits: Visits
    output: OutputKeys
    feature: OutputKeys
    direction: Direction = "both"
    simultaneous: bool = False
    initial: Literal["visit", "zero"] = "visit"
    stride: int = 1
    norms: Literal["per_stage", "shared"] = "per_stage"
    drop: tuple[float, float] = (0.0, 0.0)
    feedback: bool = False
    listed: bool = False
    self_path: Path = ("self",)

    @cached_property
    def topology(self) -> Topology:
        """Who reads whom."""
        itself = (j for j, layer in enumerate(self.layers, start=1) if layer.itself is not None)
        return Topology(
            self.edges,
            self.direction,
            frozenset(itself),
            self.entry,
            self.visits.sequence,
            self.visits.updates,
            self.initial,
            write_self="self: []",
            self_path=self.self_path,
        )

    def ops_of(self, i: int, j: int) -> OpList:
        """Return the ops on what layer j reads of source i, as the keys say them."""
        layer = self.layers[j - 1]
        if i == j:
            return layer.itself or ()
        if i == 0:
            return layer.edge if self.entry.edge is None else self.entry.edge
        if (i, j) in self.topology.own_ops:
            own: OpList = self.topology.own_ops[i, j]
            return own
        return layer.feedback if i > j else layer.edge

    @cached_property
    def sources(self) -> dict[int, tuple[int, ...]]:
        """What each layer reads, X0 (0) first."""
        return {j: self.topology.sources(j) for j in range(1, len(self.layers) + 1)}

    def leaving(self, keys: OutputKeys) -> tuple[int, ...]:
        """Return the layers of an output, ascending."""
        match keys.layers:
            case "all":
                return tuple(range(1, len(self.layers) + 1))
            case "last":
                return self.visits.sequence[-1:]
            case "sinks":
                return self.topology.sinks
            case layers:
                return tuple(sorted(layers))


# ---- what can't be --------------------------------------------------------------------------


def faults_of(graph: Graph) -> Iterator[PydanticCustomError]:
    """Yield what can't be, each at its key."""
    faults = list(graph.visits.faults()) or list(graph.topology.faults())
    faults += _of_outputs(graph)
    yield from faults
    if faults:
        return
    yield from _of_ways_out(graph)
    yield from _of_ways_in(graph)
    yield from _of_feedback(graph)
    yield from _of_stride(graph)
    yield from _of_layers(graph)
    yield from _of_drop_path(graph)


def _of_outputs(graph: Graph) -> Iterator[PydanticCustomError]:
    n = len(graph.layers)
    for key, output in (("output", graph.output), ("feature", graph.feature)):
        if not isinstance(output.layers, tuple) or (key == "feature" and output == graph.output):
            continue
        for place, layer in enumerate(output.layers):
            if not 1 <= layer <= n:
                message = f"must name layers from 1 to {n}, found {layer}"
                yield impossible(message, key, "layers", place)
            elif layer in output.layers[:place]:
                yield impossible(f"{layer} is there twice", key, "layers", place)
        if not output.layers:
            yield impossible("must name a layer", key, "layers")


def _of_ways_out(graph: Graph) -> Iterator[PydanticCustomError]:
    ends = {*graph.leaving(graph.output), *graph.leaving(graph.feature)}
    lead_out = graph.topology.leads_to(ends)
    for j in graph.visits.sequence:
        if j not in lead_out:
            hint = "let another layer read it, or name it in output.layers"
            path: Path = ("layers", j - 1) if graph.listed else ("output",)
            yield impossible(f"X{j} does not reach an output of the block", *path, hint=hint)


def _of_ways_in(graph: Graph) -> Iterator[PydanticCustomError]:
    """Yield an output that does not depend on X0 yet."""
    if graph.initial == "visit":
        return  # each layer reads X0, or one that was visited before it
    n, stages = len(graph.layers), graph.visits.stages
    ends = {*graph.leaving(graph.output), *graph.leaving(graph.feature)}
    if late := sorted(ends - _reached(graph, graph.visits.updates)):
        later = range(stages + 1, stages + n + 1)
        enough = (each for each in later if ends <= _reached(graph, (n,) * each))
        hint = next((f"write stages: {each}" for each in enough), "let X0 be read in all stages")
        message = f"X{late[0]} is an output in stage {stages}, but does not depend on X0 yet"
        yield impossible(message, "stages", hint=hint)


def _reached(graph: Graph, updates: Sequence[int]) -> set[int]:
    """Return the layers whose last version depends on X0, if they start from zeros."""
    newest: set[int] = set()
    for stage, count in enumerate(updates, start=1):
        entered = {0} if stage == 1 or graph.entry.stages == "all" else set()
        previous = frozenset(newest)
        for j in graph.visits.sequence[:count]:
            versions = previous if graph.simultaneous else newest
            seen = entered if stage == 1 else entered | versions
            newest = newest | {j} if seen.intersection(graph.sources[j]) else newest - {j}
    return newest


def _of_feedback(graph: Graph) -> Iterator[PydanticCustomError]:
    own = graph.topology.own_ops
    if graph.feedback and not any(i > j and (i, j) not in own for i, j in graph.topology.pairs):
        message = "no edge leads from a layer to one of a lower index"
        yield impossible(message, "feedback", hint="remove it, or add such an edge")
    for j, layer in enumerate(graph.layers, start=1):
        fed = any(k == j and i > j and (i, j) not in own for i, k in graph.topology.pairs)
        if "feedback" in layer.own and not fed:
            message = f"no edge leads from a higher layer to X{j}"
            hint = "remove it, or add such an edge"
            yield impossible(message, "layers", j - 1, "feedback", hint=hint)
        if "self" in layer.own and j not in graph.topology.again:
            message = f"no stage reads the last version of X{j} for itself"
            hint = "remove it, or write stages: 2 or more"
            yield impossible(message, "layers", j - 1, "self", hint=hint)


def _of_stride(graph: Graph) -> Iterator[PydanticCustomError]:
    if graph.stride == 1:
        return
    entered = [j for j, sources in graph.sources.items() if 0 in sources]
    for j in entered:
        lists = [graph.layers[j - 1].layer, *(graph.ops_of(i, j) for i in graph.sources[j])]
        for ops in lists:
            if any(isinstance(op, ConvOp) and op.reduce for _, op in walk_keys(ops)):
                return
    hint = "mark the one that does: {conv: 3, reduce: true}"
    yield fault("no convolution of a layer that reads X0 has reduce: true", "stride", hint=hint)


def _of_layers(graph: Graph) -> Iterator[PydanticCustomError]:
    for j, layer in enumerate(graph.layers, start=1):
        lists = [layer.layer, *(graph.ops_of(i, j) for i in graph.sources[j])]
        if layer.filters is None and any(map(needs_filters, lists)):
            hint = "write filters, of the block or of the layer"
            path: Path = ("layers", j - 1) if graph.listed else ("layers",)
            yield fault(f"the convolutions of X{j} have no number of filters", *path, hint=hint)
            if not graph.listed:
                return


def _of_drop_path(graph: Graph) -> Iterator[PydanticCustomError]:
    if any(graph.drop) and not any(
        layer.combine == "mean" and len(sources) > 1
        for layer, sources in zip(graph.layers, graph.sources.values(), strict=True)
    ):
        hint = "write combine: mean"
        yield fault("no layer takes the mean of several sources", "drop_path", hint=hint)


def drop_path_faults(ops: OpList, *path: str | int, edge: bool) -> Iterator[PydanticCustomError]:
    """Yield a fault where a list of ops has drop-path that its place can't have."""
    skips = [
        where
        for where, op in walk_keys(ops)
        if isinstance(op, SkipOp) and op.drop_path is not None and op.drop_path.last
    ]
    for where in skips[0 if edge else 1 :]:
        message = "a layer has one branch with drop-path"
        hint = "remove it, or use more layers"
        if edge:
            message, hint = "an edge has no drop-path", "put the skip into layer"
        yield fault(message, *path, *where, "drop_path", hint=hint)


# ---- the block ------------------------------------------------------------------------------


def build(graph: Graph, words: Words) -> Block:
    """Return the block of a graph that has no faults."""
    layers = tuple(_layer(graph, j) for j in graph.sources)
    return Block(
        layers=_with_widths(layers),
        schedule=Schedule(
            order=graph.visits.sequence,
            updates=graph.visits.updates,
            simultaneous=graph.simultaneous,
            initial=graph.initial,
        ),
        feature=_output(graph, graph.feature),
        transit=_output(graph, graph.output),
        words=words,
        stride=graph.stride,
        norms=graph.norms,
    )


def _layer(graph: Graph, j: int) -> Layer:
    plan, sources = graph.layers[j - 1], graph.sources[j]
    every_stage = graph.entry.stages == "all"
    reads = tuple(
        Read(i, edge_ops(graph.ops_of(i, j), plan.filters), every_stage and i == 0) for i in sources
    )
    ops = layer_ops(plan.layer, plan.filters)
    drop = None
    if any(graph.drop) and plan.combine == "mean" and len(reads) > 1:
        drop = JoinDrop(*graph.drop, plan.columns or (None,) * len(reads))
    return Layer(reads, None, plan.combine, ops, plan.label, drop)


def _with_widths(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers with the channels that they write, as far as the block determines them."""
    widths: dict[int, int | None] = {}
    for _ in layers:  # an edge that carries a value has the width of its source
        before = dict(widths)
        for j, layer in enumerate(layers, start=1):
            read = (width_behind(each.ops, widths.get(each.source)) for each in layer.reads)
            widths[j] = width_behind(layer.ops, next((w for w in read if w is not None), None))
        if widths == before:
            break
    return tuple(
        Layer(each.reads, widths[j], each.combine, each.ops, each.label, each.join_drop)
        for j, each in enumerate(layers, start=1)
    )


def _output(graph: Graph, keys: OutputKeys) -> Output:
    layers = graph.leaving(keys)
    alone = len(layers) == 1 and not keys.input
    return Output(
        layers,
        graph.visits.stages,
        with_input=keys.input,
        alone=alone,
        combine="concat" if alone else keys.combine,
    )
