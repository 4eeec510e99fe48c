"""Units: what runs as one call, and what can't."""

from __future__ import annotations

import pytest

from cliquegraph import optimise
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.ops import Normalize
from cliquegraph.ir.units import units_of
from tests.function import with_reader, without_relu
from tests.networks import clique, graph_of


def test_a_unit_has_a_relu_of_its_own() -> None:
    graph = optimise(graph_of(clique()), 1)
    norm = next(node for node in graph if isinstance(node.op, Normalize))
    for changed in (without_relu, with_reader):
        with pytest.raises(VerificationError) as caught:
            units_of(changed(graph, norm.output))
        assert str(caught.value) == (
            "normalize in block1, stage 1 layer 1: no ReLU of its own behind it"
        )
