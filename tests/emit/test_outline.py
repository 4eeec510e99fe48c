"""From op graphs to views: what a call hands over, and which graphs have no such call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cliquegraph.compiler import Compilation
from cliquegraph.emit.outline import outline
from cliquegraph.errors import VerificationError
from cliquegraph.ir.graph import Node, Value
from cliquegraph.ir.ops import Concat
from tests.networks import clique


def test_an_update_that_gathers_a_second_list_is_refused() -> None:
    # A class takes one list: the second would silently be the first.
    compilation = Compilation(clique(), 1)
    graph = compilation.graph
    of = [n for n in graph if (n.origin.stage, n.origin.layer) == (2, 3)]
    gathered, *_ = of
    assert isinstance(gathered.op, Concat)
    two = gathered.inputs[::-1]
    second = Node(Concat(), two, (), (Value(gathered.output.type),), gathered.origin)
    place = graph.nodes.index(of[-1]) + 1
    nodes = (*graph.nodes[:place], second, *graph.nodes[place:])
    with pytest.raises(VerificationError, match="block1, stage 2 layer 3: gathers 2 lists"):
        outline(compilation.steps, replace(graph, nodes=nodes), (), ())
