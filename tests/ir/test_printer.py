"""The op graph as text, in golden files that were read by a person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cliquegraph import Graph, optimise, print_graph
from tests.networks import EVERY_KEY, clique, graph_of, graphs_of, shipped

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def quickstart() -> Graph:
    return graph_of(shipped("quickstart"))


def test_quickstart_as_lowered(quickstart: Graph) -> None:
    assert print_graph(quickstart) == (GOLDEN / "ir_quickstart.txt").read_text(encoding="utf-8")


def test_quickstart_with_packed_kernels(quickstart: Graph) -> None:
    expected = (GOLDEN / "ir_quickstart_packed.txt").read_text(encoding="utf-8")
    assert print_graph(optimise(quickstart, 0)) == expected
    assert expected != print_graph(quickstart)


@pytest.mark.parametrize("name", EVERY_KEY)
def test_names_of_values_are_unique_and_written_before_they_are_read(name: str) -> None:
    for graph in graphs_of(EVERY_KEY[name]).values():
        written: set[str] = set()
        for line in print_graph(graph).splitlines():
            if line.startswith("  %"):
                results, computed = line.split(" = ", 1)
                assert set(re.findall(r"%[\w.]+", computed)) <= written
                result = results.split(":")[0].strip()
                assert result not in written
                written.add(result)


def test_what_is_held_for_its_weights_alone_is_named_last() -> None:
    lines = print_graph(optimise(graph_of(clique(layers=2, feature=1)), 1)).splitlines()
    assert lines[-2].startswith("  return %logits, %feature")
    # The statistics of X2@1, which the first of them reads, are the readout's too.
    assert lines[-1] == (
        "  # unused but retained: block1.x1.s2.norm.scale, block1.x1.s2.norm.bias, "
        "block1.x2.s2.norm.scale, block1.x2.s2.norm.bias, block1.x2.s2.norm.mean, "
        "block1.x2.s2.norm.var"
    )
