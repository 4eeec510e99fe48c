"""Which nodes are written as one call: a normalisation, its ReLU, and what reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cliquegraph.ir.graph import Node, Value
from cliquegraph.ir.ops import BatchNorm, Concat, Conv, Normalize, Op, Relu


@dataclass(frozen=True)
class UnitNodes:
    """The nodes of one unit; those that it has."""

    concat: Node | None
    norm: Node | None
    relu: Node | None
    conv: Node | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of execution."""
        found = (self.concat, self.norm, self.relu, self.conv)
        return tuple(node for node in found if node is not None)

    @property
    def recompute(self) -> bool:
        """Whether the backward pass redoes what the convolution reads."""
        return any(node.recompute for node in self.nodes)


def units_of(nodes: Sequence[Node], results: Iterable[Value]) -> dict[Node, UnitNodes]:
    """Return the units of a region by their last node.

    A unit is a normalisation by given moments, or nodes marked ``recompute``,
    with what stands before and behind it and has no other reader.
    """
    uses = Counter(value for node in nodes for value in node.inputs)
    uses.update(results)
    readers = {value: node for node in nodes for value in node.inputs}
    makers = {value: node for node in nodes for value in node.outputs}

    def before(node: Node, kind: type[Op]) -> Node | None:
        maker = makers.get(node.inputs[0])
        alone = uses[node.inputs[0]] == 1
        return maker if maker is not None and alone and isinstance(maker.op, kind) else None

    def behind(node: Node, kind: type[Op]) -> Node | None:
        reader = readers.get(node.output)
        alone = uses[node.output] == 1
        return reader if reader is not None and alone and isinstance(reader.op, kind) else None

    found = {}
    for node in nodes:
        if isinstance(node.op, Normalize) or (isinstance(node.op, BatchNorm) and node.recompute):
            relu = behind(node, Relu)
            if relu is None:
                raise ValueError(f"{node.origin}: no ReLU behind a normalisation")
            unit = UnitNodes(before(node, Concat), node, relu, behind(relu, Conv))
        elif isinstance(node.op, Concat) and node.recompute and behind(node, Conv):
            unit = UnitNodes(node, None, None, behind(node, Conv))
        else:
            continue
        found[unit.nodes[-1]] = unit
    return found
