"""What differs between two step graphs, place by place."""

from __future__ import annotations

from typing import Any

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.steps.diff import compare_steps
from tests.networks import clique, network


def differences(left: NetworkSpec, right: NetworkSpec) -> list[tuple[str, str, str]]:
    pair = cliquegraph.unroll(left), cliquegraph.unroll(right)
    return [(each.place, each.left, each.right) for each in compare_steps(*pair)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        (
            {"filters": 5},
            [("block 1", "clique, 2 layers × 3 filters", "clique, 2 layers × 5 filters")],
        ),
        ({"feature": 1}, [("block 1, feature", "X0 X1@2 X2@2", "X0 X1@1 X2@1")]),
        ({"transit": 1}, [("block 1, transit", "X1@2 X2@2", "X1@1 X2@1")]),
        (
            {"last_stage_updates": 1},
            [
                ("block 1, X2@2", "X1@2", ""),
                ("block 1, feature", "X0 X1@2 X2@2", "X0 X1@2 X2@1"),
                ("block 1, transit", "X1@2 X2@2", "X1@2 X2@1"),
            ],
        ),
        ({"update": "simultaneous"}, [("block 1, X2@2", "X1@2", "X1@1")]),
        (
            {"order": [2, 1]},
            [
                ("block 1, X1@1", "X0", "X0 X2@1"),
                ("block 1, X2@1", "X0 X1@1", "X0"),
                ("block 1, X1@2", "X2@1", "X2@2"),
                ("block 1, X2@2", "X1@2", "X1@1"),
                ("block 1, order of updates", "X1@1 X2@1 X1@2 X2@2", "X2@1 X1@1 X2@2 X1@2"),
            ],
        ),
        (
            {"layers": 1, "stages": 1},
            [
                ("block 1", "clique, 2 layers × 3 filters", "clique, 1 layers × 3 filters"),
                ("block 1, X2@1", "X0 X1@1", ""),
                ("block 1, X1@2", "X2@1", ""),
                ("block 1, X2@2", "X1@2", ""),
                ("block 1, feature", "X0 X1@2 X2@2", "X0 X1@1"),
                ("block 1, transit", "X1@2 X2@2", "X1@1"),
            ],
        ),
    ],
    ids=str,
)
def test_a_block_differs_where_it_was_changed(
    change: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    found = differences(clique(layers=2), clique(**{"layers": 2, **change}))
    assert found == expected
    swapped = differences(clique(**{"layers": 2, **change}), clique(layers=2))
    assert {(place, right, left) for place, left, right in swapped} == set(expected)


def test_blocks_that_only_one_has() -> None:
    one, two = ({"layers": 1, "filters": 3, "stages": 1}, {"layers": 1, "filters": 4, "stages": 1})
    assert differences(network(one), network(one, two)) == [
        ("block 2", "", "clique, 1 layers × 4 filters")
    ]
    assert differences(network(one, two), network(one)) == [
        ("block 2", "clique, 1 layers × 4 filters", "")
    ]
