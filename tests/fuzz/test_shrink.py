"""Shrinking keeps a failure, and nothing that it does not need."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.fuzz.shrink import shrink
from cliquegraph.plugins.kinds import Document
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Transition

SMALLEST = {"channels": 1, "height": 1, "width": 1}


def declares(document: Document) -> bool:
    """Whether a spec is one."""
    try:
        read_document(document)
    except SpecError:
        return False
    return True


def simultaneous_of_three(network: NetworkSpec) -> bool:
    return any(
        isinstance(block, CliqueBlock)
        and block.update == "simultaneous"
        and block.layers > 2
        and block.stages > 1
        for block in network.blocks
    )


def two_blocks_with_a_max_pool(network: NetworkSpec) -> bool:
    cliques = all(isinstance(block, CliqueBlock) for block in network.blocks)
    pooled = isinstance(network.transition, Transition) and network.transition.pool == "max"
    return cliques and len(network.blocks) > 1 and pooled


@pytest.mark.parametrize(
    ("wanted", "blocks", "others"),
    [
        (
            simultaneous_of_three,
            [{"layers": 3, "filters": 1, "update": "simultaneous"}],
            {},
        ),
        (
            two_blocks_with_a_max_pool,
            [{"layers": 1, "filters": 1, "stages": 1}] * 2,
            {"transition": {"pool": "max"}},
        ),
    ],
)
def test_what_is_left_is_what_the_failure_needs(
    wanted: Callable[[NetworkSpec], bool], blocks: list[Document], others: Document
) -> None:
    def fails(document: Document) -> bool:
        return declares(document) and wanted(read_document(document))

    first = next(spec for spec in (draw_spec(0, i) for i in range(1000)) if fails(spec))
    small = shrink(first, fails)
    names = {"cliquegraph": 1, "name": first["name"]}
    expected = {
        **names,
        "input": SMALLEST,
        "blocks": blocks,
        "classifier": {"classes": 1},
        **others,
    }
    assert small.pop("stem") in ({"filters": 1}, "none")
    assert small == expected


def test_layers_that_an_order_names_are_left_out_with_it() -> None:
    def fails(document: Document) -> bool:
        blocks = document.get("blocks", [{}])
        return len(blocks[0].get("order", [])) > 1 and declares(document)

    block = {"layers": 4, "filters": 2, "order": [3, 1, 4, 2], "stages": 3, "feature": 3}
    first = {**draw_spec(0, 0), "blocks": [block]}
    first.pop("block_defaults", None)
    (small,) = shrink(first, fails)["blocks"]
    assert small["layers"] == 2
    assert sorted(small["order"]) == [1, 2]
    assert "feature" not in small


def test_a_number_is_lowered_by_one_where_half_is_too_small() -> None:
    def fails(document: Document) -> bool:
        return declares(document) and document["stem"]["filters"] >= 3

    first = {**draw_spec(0, 0), "stem": {"filters": 4}}
    assert shrink(first, fails)["stem"]["filters"] == 3


def test_it_asks_about_no_spec_twice_and_ends() -> None:
    asked: list[str] = []

    def fails(document: Document) -> bool:
        asked.append(str(document))
        return declares(document)

    shrink(draw_spec(0, 1), fails)
    assert len(set(asked)) == len(asked) < 300
