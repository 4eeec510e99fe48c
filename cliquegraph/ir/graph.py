"""The op graph: static single assignment, in the order of execution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cliquegraph.ir.node_link import digest, structure
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import Param, Tensor

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A network as operations; ``cliquegraph.print_graph`` returns them as text.

    Two graphs are equal if their names, nodes, wiring, parameters and outputs are; lines of the
    spec are ignored.

    Attributes:
        name: the network's.
        tensors: every canonical tensor that the network owns. Passes retain them, so that every
            -O level takes the same weights, even where no node reads one any more.
        nodes: in the order of execution; the first is the input.
        logits: (classes,) for each image.
        features: the block features, first block to last.
        idle: unused nodes, which are not executed. Their parameters are unused but retained: they
            belong to the network, and must not be lost in conversions between levels.
        slabs: buffers with values in adjacent columns, where the backend has such.
    """

    name: str
    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    logits: Value
    features: tuple[Value, ...]
    idle: tuple[Node, ...] = ()
    slabs: tuple[Slab, ...] = ()

    @property
    def input(self) -> Value:
        """The batch of images."""
        return self.nodes[0].output

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Everything that the network returns."""
        return (self.logits, *self.features)

    @cached_property
    def params(self) -> tuple[Param, ...]:
        """Every parameter once, in the order of first use; those of unused nodes last."""
        nodes = (*self.nodes, *self.idle)
        return tuple(dict.fromkeys(operand.param for node in nodes for operand in node.operands))

    @cached_property
    def producers(self) -> dict[Value, Node]:
        """The node that writes each value, unused nodes included."""
        nodes = (*self.nodes, *self.idle)
        return {value: node for node in nodes for value in node.outputs}

    @cached_property
    def consumers(self) -> dict[Value, tuple[Node, ...]]:
        """The nodes that read each value, each once, in order, unused nodes last."""
        readers: dict[Value, dict[Node, None]] = {}
        for node in (*self.nodes, *self.idle):
            for value in node.inputs:
                readers.setdefault(value, {})[node] = None
        return {value: tuple(nodes) for value, nodes in readers.items()}

    @cached_property
    def unread_features(self) -> frozenset[Node]:
        """The concatenations that are a block feature which nothing in the network reads."""
        unread = (value for value in self.features if value not in self.consumers)
        nodes = (self.producers[value] for value in unread)
        return frozenset(node for node in nodes if isinstance(node.op, Concat))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and structure(self) == structure(other)

    __hash__ = None  # type: ignore[assignment]  # equality compares the whole graph

    def __repr__(self) -> str:
        count = f"{len(self.nodes)} nodes, {len(self.tensors)} tensors"
        return f"<Graph {self.name}: {count}, {self.input.type} → {self.logits.type}>"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def digest(self) -> str:
        """Return the SHA-256 of the graph without its name and the lines of the spec."""
        return digest(self)

    def to_networkx(self) -> nx.MultiDiGraph[int]:
        """Return nodes by position, with an arc for each value read (``output``, ``input``)."""
        import networkx as nx

        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph(name=self.name)
        place = {
            value: (i, k)
            for i, node in enumerate(self.nodes)
            for k, value in enumerate(node.outputs)
        }
        for i, node in enumerate(self.nodes):
            graph.add_node(i, node=node)
            for position, value in enumerate(node.inputs):
                source, output = place[value]
                graph.add_edge(source, i, output=output, input=position)
        return graph
