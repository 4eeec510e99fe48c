"""Lay the features of a block in adjacent columns, so that no reader concatenates them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.ops import Concat, Normalize
from cliquegraph.ir.slabs import Slab

Reads = Sequence[tuple[Value, ...]]

_MOST_WORK = 10**6
"""Bound on the search for a better layout: moves × values that are read."""


@dataclass(frozen=True)
class LayOut:
    """Decide where the features lie that normalizations read together.

    1. Features that one ``Normalize`` reads together with others are in one slab. Each has moments,
       and one width and place for all its readers.
    2. The columns are in the order in which the features are written: whatever reads all that was
       written last, as the layers of dense and of clique blocks do, reads a window. Where layers
       read others, a feature moves if that leaves fewer windows in all.

    A feature that is always normalized by itself is left alone, and so is what no normalization by
    shared moments reads: there a backend concatenates.
    """

    name = "lay out"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with slabs."""
        import networkx as nx

        reads = [*_reads(graph)]
        together: nx.Graph[Value] = nx.Graph()
        for read in reads:
            nx.add_path(together, read)
        written = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
        slabs = []
        for component in nx.connected_components(together):
            inside = [read for read in reads if read[0] in component]
            slabs.append(Slab(_improve(sorted(component, key=written.__getitem__), inside)))
        slabs.sort(key=lambda slab: written[slab.values[0]])
        return replace(graph, slabs=tuple(slabs))


def _reads(graph: Graph) -> Iterator[tuple[Value, ...]]:
    """The features that each normalization reads, of those that read several."""
    for node in graph.nodes:
        if isinstance(node.op, Normalize):
            maker = graph.producers[node.inputs[0]]
            if isinstance(maker.op, Concat) and len(maker.inputs) > 1:
                yield maker.inputs


def _improve(values: list[Value], reads: Reads) -> tuple[Value, ...]:
    """Move values, one at a time, while that leaves fewer windows."""
    work = len(values) ** 2 * sum(map(len, reads))
    best = _count_windows(values, reads)
    while best > len(reads) and work <= _MOST_WORK:
        moved = min(_moves(values), key=lambda each: _count_windows(each, reads))
        if (fewer := _count_windows(moved, reads)) >= best:
            break
        values, best = moved, fewer
    return tuple(values)


def _moves(values: list[Value]) -> Iterator[list[Value]]:
    for i, value in enumerate(values):
        rest = values[:i] + values[i + 1 :]
        yield from ([*rest[:j], value, *rest[j:]] for j in range(len(values)) if j != i)


def _count_windows(values: Sequence[Value], reads: Reads) -> int:
    """Count the windows of all readers in a slab of these values."""
    slab = Slab(tuple(values))
    return sum(len(slab.windows(read)) for read in reads)
