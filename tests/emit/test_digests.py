"""What small networks compile to is what it was, at every level and in every backend.

Not one character of `generated/` moves unnoticed either (`make generated-check`), but the shipped
specs do not have every key of the language. Digests can't be read: where a change is wanted,
`python -m tests.emit.test_digests FOLDER` before and after it writes the texts to be compared, and
`python -m tests.emit.test_digests` the digests anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import product
from pathlib import Path

import pytest

from cliquegraph import print_graph
from cliquegraph.blocks.model import Conv, Norm
from cliquegraph.compiler import Compilation
from cliquegraph.fuzz.fuzz import TARGETS, Target
from cliquegraph.ir.edges import edge_kernels, kernel_shape, spatial_kernels
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.node_link import to_json
from cliquegraph.ir.serialize import from_json
from cliquegraph.plugins.backends import find_backend
from tests.networks import EVERY_KEY, clique

FILE = Path(__file__).parents[1] / "golden" / "digests.json"
BACKENDS = ("torch", "flax")
NETWORKS = {
    **EVERY_KEY,
    # The least that lends a normalization to another stage.
    "two stages share a norm": clique(2, stages=3, norm_per_stage=False),
}


def texts_of(name: str, target: Target) -> dict[str, str]:
    compilation = Compilation(NETWORKS[name], target.level, target.inference)
    texts = {backend: compilation.source(find_backend(backend)) for backend in BACKENDS}
    texts["proof"] = "\n".join(map(str, compilation.proof.claims))
    texts["steps"] = json.dumps([step.as_row() for step in compilation.steps.steps])
    texts["op graph"] = print_graph(compilation.graph)
    texts["op graph, JSON"] = json.dumps(to_json(compilation.graph))
    return texts


def digests(name: str, target: Target) -> dict[str, str]:
    texts = texts_of(name, target)
    return {what: hashlib.sha256(text.encode()).hexdigest() for what, text in texts.items()}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.option)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_what_it_was(name: str, target: Target) -> None:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    assert digests(name, target) == kept[name][target.option]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.option)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_comes_back_from_its_json(name: str, target: Target) -> None:
    graph = Compilation(NETWORKS[name], target.level, target.inference).graph
    back = from_json(json.loads(json.dumps(to_json(graph))))
    assert back == graph
    assert print_graph(back) == print_graph(graph)
    for found, expected in zip((*back.nodes, *back.idle), (*graph.nodes, *graph.idle), strict=True):
        assert found.origin == expected.origin


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_are_found_whatever_tensors_they_lie_in(name: str) -> None:
    compilation = Compilation(NETWORKS[name])
    edges, spatial = edge_kernels(compilation.lowered), spatial_kernels(compilation.lowered)
    for block in compilation.steps.blocks:
        pairs = {(edge.source, edge.target) for edge in block.edges}
        assert set(edges.get(block.index, {})) == pairs
        for (source, target), piece in edges.get(block.index, {}).items():
            assert kernel_shape(piece)[1] == piece.stop - piece.start
            slot = piece.tensor.slot
            assert slot.layer == target
            assert slot.source in (None, source)
        if Norm("mid_norm") in block.declared.ops:  # there is a bottleneck
            found = {layer: tensor_name(t) for layer, t in spatial[block.index].items()}
            role = "v{}" if block.declared.words.staged else "x{}.mid_conv"
            assert found == {
                layer: f"block{block.index}.{role.format(layer)}.weight" for layer in block.order
            }
        else:
            own = {
                layer: f"block{block.index}.v{layer}.weight"
                for layer in block.order
                if any(is_spatial(op) for op in block.declared.layer(layer).ops)
            }
            found = {layer: tensor_name(t) for layer, t in spatial.get(block.index, {}).items()}
            assert found == own


def is_spatial(op: object) -> bool:
    """Whether an op is the only kernel V(j) of its layer."""
    return isinstance(op, Conv) and op.role == "v" and op.index is None


if __name__ == "__main__":
    for name, target in product(NETWORKS, TARGETS if sys.argv[1:] else ()):
        for what, text in texts_of(name, target).items():
            path = Path(sys.argv[1], name, target.option.strip("-"), f"{what}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    new = {name: {t.option: digests(name, t) for t in TARGETS} for name in NETWORKS}
    if not sys.argv[1:]:
        FILE.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
