"""``--set``: what it reaches, and what it says when it reaches nothing."""

import pytest

from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.blocks.dense import DenseBlock
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.spec.load import loads
from cliquegraph.spec.network import NetworkSpec

SPEC = """\
cliquegraph: 1
name: example
input: {channels: 3, height: 32, width: 32}
stem: {filters: 64}
block_defaults: {filters: 36, dropout: 0.2}
blocks:
  - {layers: 4}
  - {layers: 4, order: [4, 3, 2, 1]}
classifier: {classes: 10}
training: cifar
expect: {parameters: 1M}
"""


def change(*overrides: str) -> NetworkSpec:
    return loads(SPEC, "x.yaml", overrides)


def message(*overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        change(*overrides)
    return str(caught.value)


def test_one_element() -> None:
    assert [b.filters for b in change("blocks.0.filters=48").blocks] == [48, 36]


def test_every_element_and_over_the_defaults() -> None:
    assert [b.dropout for b in change("blocks.*.dropout=0").blocks] == [0, 0]


def test_the_defaults_themselves() -> None:
    spec = change("block_defaults.filters=10", "block_defaults.stages=3")
    assert [b.filters for b in spec.blocks] == [10, 10]
    assert [b.stages for b in spec.blocks if isinstance(b, CliqueBlock)] == [3, 3]


def test_a_section_that_is_not_there() -> None:
    assert change("readout.compression=0.5").readout.compression == 0.5
    pool = change("stem.pool.kind=max", "stem.pool.kernel=3", "stem.pool.stride=2").stem.pool
    assert pool is not None
    assert (pool.kind, pool.kernel, pool.stride) == ("max", 3, 2)


def test_a_value_that_can_not_be_read_is_of_its_key() -> None:
    said = message("stem={filters: .inf}", "blocks.*.dropout=.nan")
    assert "stem.filters: expected a finite number, found .inf" in said
    assert "blocks.*.dropout: expected a finite number, found .nan" in said


def test_a_section_that_is_null() -> None:
    text = SPEC.replace("filters: 64", "filters: 64, pool: null")
    pool = ["stem.pool.kind=avg", "stem.pool.kernel=2", "stem.pool.stride=2"]
    assert loads(text, overrides=pool).stem.pool is not None


def test_a_whole_section() -> None:
    assert not change("expect={}").expect.figures()
    spec = change("blocks=[{layers: 2}, {kind: dense, layers: 3}]")
    assert [b.filters for b in spec.blocks] == [36, 36]
    assert isinstance(spec.blocks[1], DenseBlock)


def test_a_recipe_by_name_has_keys() -> None:
    training = change("training.epochs=3").training
    assert training is not None
    assert (training.recipe, training.epochs) == ("cifar", 3)
    training = change("training=svhn", "training.epochs=3").training
    assert training is not None
    assert (training.recipe, training.epochs) == ("svhn", 3)


def test_the_last_of_two_counts() -> None:
    assert change("stem.filters=1", "stem.filters=2").stem.filters == 2


def test_elements_do_not_share_a_value() -> None:
    spec = change("blocks.*.order=[1, 2, 3, 4]", "blocks.0.order.0=2", "blocks.0.order.1=1")
    orders = [b.visits.sequence for b in spec.blocks if isinstance(b, CliqueBlock)]
    assert orders == [(2, 1, 3, 4), (1, 2, 3, 4)]


def test_a_value_may_hold_an_equals_sign() -> None:
    assert "found 'a=b'" in message("name=a=b")


def test_null_is_written_out() -> None:
    assert change("class_name=null").class_name is None
    assert change("training=~").training is None


def test_the_place_is_in_the_override() -> None:
    spec = change("stem.filters=48", "expect={parameters: 2M}")
    where = spec.locate("stem", "filters")
    assert where is not None
    assert (str(where), where.text) == ("--set:1:14", "stem.filters=48")
    assert str(spec.locate("expect", "parameters")) == "--set:1:21"
    assert str(spec.locate("stem")) == "x.yaml:4:7"


def test_a_replaced_section_forgets_its_places() -> None:
    assert str(change("blocks.1={layers: 3}").locate("blocks", 1, "order", 0)) == "--set:1:10"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "blocks.0.filters",
            "--set:1:17: error[bad-override]: expected an '=' after the path\n"
            "   1 | blocks.0.filters\n"
            "     |                 ^\n"
            "  = help: write PATH=VALUE, such as blocks.0.filters=48 or blocks.*.dropout=0",
        ),
        (
            "",
            "--set:1:1: error[bad-override]: expected PATH=VALUE on one line",
        ),
        (
            "stem.filters=1\nname=b",
            "--set:1:1: error[bad-override]: expected PATH=VALUE on one line\n"
            "   1 | stem.filters=1 name=b\n"
            "     | ^",
        ),
        (
            "=48",
            "--set:1:1: error[bad-override]: expected a key or a number in the path\n"
            "   1 | =48\n"
            "     | ^\n"
            "  = help: write PATH=VALUE, such as blocks.0.filters=48 or blocks.*.dropout=0",
        ),
        (
            "blocks..filters=48",
            "--set:1:8: error[bad-override]: expected a key or a number in the path\n"
            "   1 | blocks..filters=48\n"
            "     |        ^\n"
            "  = help: write PATH=VALUE, such as blocks.0.filters=48 or blocks.*.dropout=0",
        ),
        (
            "stem.filters=",
            "--set:1:14: error[bad-override]: expected a value after the '='\n"
            "   1 | stem.filters=\n"
            "     |              ^\n"
            "  = help: write null for nothing, {} for an empty section",
        ),
        (
            "blocks.2.filters=48",
            "--set:1:8: error[bad-override]: blocks has no element '2'\n"
            "   1 | blocks.2.filters=48\n"
            "     |        ^\n"
            "  = help: valid indices are 0 to 1, or *",
        ),
        (
            "blocks.-1.filters=48",
            "--set:1:8: error[bad-override]: blocks has no element '-1'\n"
            "   1 | blocks.-1.filters=48\n"
            "     |        ^\n"
            "  = help: valid indices are 0 to 1, or *",
        ),
        (
            "name.first=x",
            "--set:1:6: error[bad-override]: name is 'example': it has no 'first' to set\n"
            "   1 | name.first=x\n"
            "     |      ^",
        ),
        (
            "stem.*=3",
            "--set:1:6: error[bad-override]: "
            "stem is a section: '*' selects the elements of a list\n"
            "   1 | stem.*=3\n"
            "     |      ^",
        ),
        (
            "stem.filters=[1",
            "--set:1:14: error[syntax]: syntax error while parsing a list in brackets: "
            "expected ',' or ']', but got the end of the text\n"
            "   1 | stem.filters=[1\n"
            "     |              ^",
        ),
        (
            "stem={filters: 1, filters: 2}",
            "--set:1:19: error[duplicate-key]: "
            "duplicate key 'filters', first at line 1, column 7\n"
            "   1 | stem={filters: 1, filters: 2}\n"
            "     |                   ^",
        ),
        (
            "stem.filters=many",
            "--set:1:14: error[wrong-value]: "
            "stem.filters: expected an integer of at least 1 and at most "
            "65536, found 'many'\n"
            "   1 | stem.filters=many\n"
            "     |              ^",
        ),
        (
            "stem.filtres=48",
            "--set:1:6: error[unknown-key]: stem: unknown key 'filtres'\n"
            "   1 | stem.filtres=48\n"
            "     |      ^\n"
            "  = help: did you mean 'filters'?",
        ),
        (
            "stem.pool.kind=max",
            "--set:1:6: error[missing-key]: "
            "stem.pool: missing key 'kernel': expected an integer of at "
            "least 1 and at most 63\n"
            "   1 | stem.pool.kind=max\n"
            "     |      ^\n"
            "--set:1:6: error[missing-key]: "
            "stem.pool: missing key 'stride': expected an integer of at "
            "least 1 and at most 63\n"
            "   1 | stem.pool.kind=max\n"
            "     |      ^",
        ),
    ],
)
def test_message(override: str, expected: str) -> None:
    assert message(override) == expected


def test_all_overrides_that_lead_nowhere_are_reported() -> None:
    assert message("a", "blocks.7=1", "name=x").count("error[") == 2


def test_faults_of_the_file_come_before_those_of_overrides() -> None:
    with pytest.raises(SpecError) as caught:
        loads(SPEC.replace("classes: 10", "classes: x"), "x.yaml", ["name=X"])
    files = [d.location.file for d in caught.value.diagnostics if d.location]
    assert files == ["x.yaml", "--set"]
