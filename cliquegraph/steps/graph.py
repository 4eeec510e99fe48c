"""Steps, features and edges: a network unrolled into its updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cliquegraph.blocks.model import Block
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.notebook import Html, notebook
from cliquegraph.spec.network import NetworkSpec

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, order=True)
class Feature:
    """The maps of one layer as computed in one stage, ``X_i^(s)`` in the paper.

    Layer 0 is the block's input X0, in stage 0.
    """

    block: int
    layer: int
    stage: int

    def __str__(self) -> str:
        return f"X{self.layer}@{self.stage}" if self.layer else "X0"


@dataclass(frozen=True, order=True)
class Edge:
    """An ordered pair of layers of one block, and so the kernel ``W_ij`` from i to j."""

    block: int
    source: int
    target: int

    def __str__(self) -> str:
        return f"W{self.source}_{self.target}"


@dataclass(frozen=True)
class Step:
    """One update: a row of Table 1.

    Attributes:
        reads: bottom layers, X0 first, then ascending.
        weights: the kernel of each read, in the same order; None where the value is read itself.
        writes: the top layer.
    """

    block: int
    stage: int
    layer: int
    reads: tuple[Feature, ...]
    weights: tuple[Edge | None, ...]
    writes: Feature

    def as_row(self) -> dict[str, object]:
        """The row of Table 1 as data; reads are X0 first, then ascending."""
        return {
            "block": self.block,
            "stage": self.stage,
            "layer": self.layer,
            "reads": [str(feature) for feature in self.reads],
            "weights": [None if edge is None else str(edge) for edge in self.weights],
            "writes": str(self.writes),
        }

    @property
    def kernels(self) -> tuple[Edge, ...]:
        """The kernels W(i→j) that it uses."""
        return tuple(edge for edge in self.weights if edge is not None)


@dataclass(frozen=True)
class Reading:
    """What a readout reads: the block feature at the end of a stage."""

    stage: int
    features: tuple[Feature, ...]


@dataclass(frozen=True, repr=False)
class BlockSteps:
    """The unrolled schedule of one block.

    Attributes:
        index: b, from 1.
        declared: the block as declared.
        steps: the updates, first to last.
        feature: what the block feature consists of, X0 first, then ascending.
        transit: what is passed on to the next block, ascending.
        readings: what readouts over time read, by stage; the last is the block feature. Empty
            where a readout reads the block feature alone.
    """

    index: int
    declared: Block
    steps: tuple[Step, ...]
    feature: tuple[Feature, ...]
    transit: tuple[Feature, ...]
    readings: tuple[Reading, ...] = ()

    def __repr__(self) -> str:
        words = self.declared.words
        return f"<BlockSteps {self.index}: {words.kind}, {words.size}, {len(self.steps)} updates>"

    @property
    def has_one_output(self) -> bool:
        """Whether the block feature is also what is passed on."""
        combined = self.declared.feature.combine == self.declared.transit.combine
        return combined and self.transit == self.feature

    @property
    def order(self) -> tuple[int, ...]:
        """The layers in visiting order."""
        return self.declared.schedule.order

    @cached_property
    def edges(self) -> dict[Edge, tuple[int, ...]]:
        """Every kernel that updates use, with their stages; by target, then source."""
        stages: dict[Edge, list[int]] = defaultdict(list)
        for step in self.steps:
            for edge in step.kernels:
                stages[edge].append(step.stage)
        ordered = sorted(stages, key=lambda edge: (edge.target, edge.source))
        return {edge: tuple(stages[edge]) for edge in ordered}

    @cached_property
    def values(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Every pair (source, target) that is read as the value itself, with the stages."""
        stages: dict[tuple[int, int], list[int]] = defaultdict(list)
        for step in self.steps:
            for feature, edge in zip(step.reads, step.weights, strict=False):
                if edge is None:
                    stages[feature.layer, step.layer].append(step.stage)
        return {pair: tuple(each) for pair, each in sorted(stages.items())}

    @property
    def visit(self) -> dict[int, int]:
        """The position of each layer in visiting order; X0 precedes them, at 0."""
        return self.declared.schedule.visit

    def table_order(self, step: Step) -> tuple[tuple[Feature, Edge | None], ...]:
        """The reads of a step as in Table 1: oldest first, then in visiting order."""
        pairs = zip(step.reads, step.weights, strict=True)
        return tuple(sorted(pairs, key=lambda pair: (pair[0].stage, self.visit[pair[0].layer])))

    def to_networkx(self) -> nx.DiGraph[Feature]:
        """The unrolled block; see ``StepGraph.to_networkx``."""
        import networkx as nx

        graph: nx.DiGraph[Feature] = nx.DiGraph(name=f"block {self.index}")
        graph.add_node(Feature(self.index, 0, 0))
        for step in self.steps:
            graph.add_node(step.writes, step=step)
            for feature, edge in zip(step.reads, step.weights, strict=False):
                graph.add_edge(feature, step.writes, edge=edge)
        return graph

    @property
    def depth(self) -> int:
        """The number of updates on the longest path through the block."""
        import networkx as nx

        return sum(1 for _ in nx.topological_generations(self.to_networkx())) - 1

    def loop_graph(self) -> nx.DiGraph[int]:
        """The block itself (Figure 1): layers as nodes, an arc for each pair that is read.

        Each arc has its ``edge``, None where the value is read itself, and the ``stages`` that
        read it.
        """
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph(name=f"block {self.index}")
        graph.add_nodes_from((0, *sorted(self.order)))
        for edge, stages in self.edges.items():
            graph.add_edge(edge.source, edge.target, edge=edge, stages=stages)
        for (source, target), stages in self.values.items():
            graph.add_edge(source, target, edge=None, stages=stages)
        return graph


@dataclass(frozen=True, repr=False)
class StepGraph:
    """A network unrolled into its updates, block by block.

    A notebook shows it as its loops; ``text`` returns its updates.
    """

    network: NetworkSpec
    blocks: tuple[BlockSteps, ...]

    def __repr__(self) -> str:
        count = f"{len(self.blocks)} block{'s' * (len(self.blocks) > 1)}"
        updates = sum(len(block.steps) for block in self.blocks)
        return f"<StepGraph {self.network.name}: {count}, {updates} updates>"

    def _repr_svg_(self) -> Html:
        return notebook().steps_svg(self)

    def text(self) -> str:
        """Return every update as a line, ``block 1: X0 X1@1 -> X2@1``."""
        return "\n".join(
            f"block {step.block}: {' '.join(map(str, step.reads))} -> {step.writes}"
            for step in self.steps
        )

    @property
    def steps(self) -> Iterator[Step]:
        """Every update of the network, first to last."""
        return (step for block in self.blocks for step in block.steps)

    def block(self, index: int) -> BlockSteps:
        """Return block ``index``, counted from 1.

        Raises:
            UsageError: there is no such block.
        """
        if not 1 <= index <= len(self.blocks):
            raise UsageError(f"{self.network.name} has blocks 1 to {len(self.blocks)}, not {index}")
        return self.blocks[index - 1]

    def to_networkx(self) -> nx.DiGraph[Feature]:
        """The unrolled graph: features as nodes, each with its ``step``; a read is an arc.

        An arc from feature to feature has its ``edge``, the kernel through which it is read.
        """
        import networkx as nx

        graph: nx.DiGraph[Feature] = nx.DiGraph()
        for block in self.blocks:
            graph.update(block.to_networkx())  # overwrites the name too
        graph.name = self.network.name
        return graph

    @property
    def depths(self) -> tuple[int, ...]:
        """The number of updates on the longest path through each block."""
        return tuple(block.depth for block in self.blocks)

    def loop_graph(self, index: int) -> nx.DiGraph[int]:
        """The loop of block ``index`` (Figure 1); see ``BlockSteps.loop_graph``."""
        return self.block(index).loop_graph()
