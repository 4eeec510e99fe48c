"""What the models say of themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cliquegraph.blocks.clique import CliqueBlock, clique
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.spec.figure import Figure
from cliquegraph.spec.load import loads
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import MAX_BLOCKS, Expect

SPEC = """\
cliquegraph: 1
name: example
input: {channels: 3, height: 32, width: 32}
stem: {filters: 64}
blocks: [{layers: 4, filters: 36}]
classifier: {classes: 10}
"""


@pytest.mark.parametrize(
    ("printed", "computed", "holds"),
    [
        ("14.38M", 14_383_024, True),
        ("14.38M", 14_375_000, True),
        ("14.38M", 14_374_999, False),
        ("14.38M", 14_385_000, True),  # half to even; half up gives 14.39
        ("14.39M", 14_385_000, True),
        ("14.39M", 14_384_999, False),
        ("8M", 7_998_138, True),
        ("8M", 8_500_001, False),
        ("11M", 11_008_376, True),
        ("0.94M", 935_994, True),
        ("940k", 939_500, True),
        ("8.15G", 8_147_859_200, True),
        ("1T", 999_999_999_999, True),
        ("935994", 935_994, True),
        ("935994", 935_995, False),
    ],
)
def test_a_figure_holds_where_the_computed_one_rounds_to_it(
    printed: str, computed: int, holds: bool
) -> None:
    assert Figure(printed).matches(computed) is holds


@given(st.integers(0, 10**15), st.integers(0, 6), st.sampled_from(["k", "M", "G"]))
def test_a_figure_holds_for_what_it_shows(computed: int, digits: int, unit: str) -> None:
    figure = Figure((f"1.{'0' * digits}" if digits else "1") + unit)
    assert Figure(figure.show(computed)).matches(computed)


def test_figures_are_those_that_are_declared() -> None:
    declared = Expect(parameters="14.38M", macs=12).figures()
    assert {key: str(figure) for key, figure in declared.items()} == {
        "parameters": "14.38M",
        "macs": "12",
    }
    assert list(loads(SPEC + "expect: {flops: 8.15G}\n").expect.figures()) == ["flops"]


@pytest.mark.parametrize(
    ("name", "python_class"),
    [("net", "Net"), ("cliquenet_s3", "CliquenetS3"), ("a_b__c_", "ABC")],
)
def test_the_class_is_the_name_in_pascal_case(name: str, python_class: str) -> None:
    assert loads(SPEC.replace("example", name)).python_class == python_class


def test_the_class_can_be_named() -> None:
    assert loads(SPEC + "class_name: CliqueNetS3\n").python_class == "CliqueNetS3"
    assert loads(SPEC.replace("example", "none") + "class_name: Nothing\n").name == "none"


def test_stages_default_to_the_last() -> None:
    block = CliqueBlock(layers=4, filters=8, stages=3)
    assert (block.feature_stage, block.transit_stage) == (3, 3)
    block = CliqueBlock(layers=4, filters=8, stages=3, feature=1, transit=2)
    assert (block.feature_stage, block.transit_stage) == (1, 2)


def test_only_the_last_stage_is_partial() -> None:
    block = CliqueBlock(layers=4, filters=8, stages=3, last_stage_updates=1)
    assert block.visits.updates == (4, 4, 1)
    assert CliqueBlock(layers=4, filters=8).visits.updates == (4, 4)


def test_later_stages_share_the_norm_of_stage_2_where_asked() -> None:
    specs = (CliqueBlock(layers=4, filters=8, norm_per_stage=own) for own in (True, False))
    own, shared = map(clique, specs)
    assert [own.norm_stage(stage) for stage in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [shared.norm_stage(stage) for stage in (1, 2, 3, 4)] == [1, 2, 2, 2]


def test_the_order_has_two_names() -> None:
    assert CliqueBlock(layers=3, filters=8, order="descending").visits.sequence == (3, 2, 1)
    assert CliqueBlock(layers=3, filters=8, order=(2, 3, 1)).visits.sequence == (2, 3, 1)


@pytest.mark.parametrize(
    "block",
    [
        "{layers: 1, filters: 4, stages: 1}",
        "{layers: 1, filters: 4, last_stage_updates: 0}",
        "{layers: 4, filters: 4, stages: 1, last_stage_updates: 4}",
        "{kind: dense, layers: 4, filters: 4, bottleneck: false}",
        "{kind: dense, layers: 4, filters: 4, bottleneck: 64}",
    ],
)
def test_limits_are_inside(block: str) -> None:
    assert len(loads(SPEC.replace("{layers: 4, filters: 36}", block)).blocks) == 1


@pytest.mark.parametrize(
    "block",
    [
        "{layers: 1, filters: 4, stages: 3, last_stage_updates: 0}",
        "{kind: dense, layers: 4, filters: 4, bottleneck: 65}",
        "{layers: 513, filters: 4}",
        "{layers: 4, filters: 65537}",
    ],
)
def test_what_is_beyond_a_limit_is_refused(block: str) -> None:
    with pytest.raises(SpecError):
        loads(SPEC.replace("{layers: 4, filters: 36}", block))


def test_blocks_built_in_python_have_the_limit_of_those_in_a_file() -> None:
    data = loads(SPEC).model_dump()
    data["blocks"] *= MAX_BLOCKS
    assert len(NetworkSpec.model_validate(data).blocks) == MAX_BLOCKS
    data["blocks"] += data["blocks"][:1]
    with pytest.raises(ValidationError, match="expected at most 64 blocks, found 65"):
        NetworkSpec.model_validate(data)


def test_networks_can_be_kept_in_a_set() -> None:
    other: NetworkSpec = loads(SPEC.replace("36", "37"))
    assert len({loads(SPEC), loads(SPEC, "elsewhere"), other}) == 2
