"""Random specs: the same for the same seed, valid, small, and of the whole language."""

from __future__ import annotations

import pytest

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.fuzz.cover import all_uses, coverage, uses_of
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.spec.dump import dump_document
from cliquegraph.spec.json_schema import json_schema

DRAWN = [draw_spec(0, index) for index in range(300)]


def test_a_spec_depends_on_seed_and_index_alone() -> None:
    assert [draw_spec(0, index) for index in (7, 3)] == [DRAWN[7], DRAWN[3]]
    texts = {str({**spec, "name": ""}) for spec in DRAWN}
    assert len(texts) == len(DRAWN)
    assert draw_spec(1, 7) != DRAWN[7]


def test_every_key_and_value_of_the_schema_is_drawn() -> None:
    drawn = coverage(uses_of(spec, read_document(spec)) for spec in DRAWN)
    assert drawn.keys() == all_uses()
    assert not [use for use, count in drawn.items() if not count]


def test_what_can_be_used_is_what_the_schema_says() -> None:
    uses = all_uses()
    assert {("clique.order", word) for word in ("ascending", "descending", "list")} <= uses
    assert {("stem.pool.kind", "max"), ("stem.pool", "absent")} <= uses
    assert {("dense.bottleneck", "false"), ("dense.bottleneck", "number")} <= uses
    assert {("clique.kernel", "3, the default"), ("clique.kernel", "number")} <= uses
    assert {("training.augmentation", "none"), ("training.augmentation", "absent")} <= uses
    schema = json_schema()
    sections = {"clique": ["CliqueBlock"], "transition": ["Transition", "OpsSection"]}
    for section, models in sections.items():
        named = (key.split(".") for key, _ in uses)  # what stands in a section of a key, too
        keys = {".".join(parts[:2]) for parts in named if parts[0] == section and len(parts) > 1}
        declared = [key for model in models for key in schema["$defs"][model]["properties"]]
        assert keys == {f"{section}.{key}" for key in declared}


@pytest.mark.parametrize("index", range(0, 300, 3))
def test_each_is_a_network_as_yaml(index: int) -> None:
    network = cliquegraph.loads(dump_document(DRAWN[index], "drawn\nspec"))
    assert network == read_document(DRAWN[index])
    compilation = Compilation(network)
    assert compilation.proof.holds
    compilation.require_expected()
    assert compilation.cost.total.macs <= 300_000
