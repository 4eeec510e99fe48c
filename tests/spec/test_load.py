"""Reading specs: the same from YAML and JSON, with places, and never a traceback."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.blocks.dense import DenseBlock
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.spec.document import MAX_CHARACTERS
from cliquegraph.spec.load import MAX_BYTES, load, loads

SPEC = """\
cliquegraph: 1
name: example
input: {channels: 3, height: 32, width: 32}
stem: {filters: 64}
block_defaults: {filters: 36, dropout: 0}
blocks:
  - {layers: 4}
  - layers: 5
    filters: 12
    order: [5, 4, 3, 2, 1]
classifier: {classes: 10}
"""


def message(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        loads(text, "x.yaml")
    return str(caught.value)


def test_defaults_are_filled_in() -> None:
    spec = loads(SPEC)
    assert spec.python_class == "Example"
    assert [block.filters for block in spec.blocks] == [36, 12]
    first, second = spec.blocks
    assert isinstance(first, CliqueBlock)
    assert isinstance(second, CliqueBlock)
    assert first.dropout == 0
    assert first.visits.sequence == (1, 2, 3, 4)
    assert second.visits.sequence == (5, 4, 3, 2, 1)


def test_json_is_the_same_as_yaml() -> None:
    data = {
        "cliquegraph": 1,
        "name": "example",
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {"filters": 64},
        "block_defaults": {"filters": 36, "dropout": 0},
        "blocks": [{"layers": 4}, {"layers": 5, "filters": 12, "order": [5, 4, 3, 2, 1]}],
        "classifier": {"classes": 10},
    }
    for indent in (None, 2, "\t"):
        assert loads(json.dumps(data, indent=indent)) == loads(SPEC)


def test_places_are_those_of_the_values() -> None:
    spec = loads(SPEC, "x.yaml")
    where = spec.locate("blocks", 1, "filters")
    assert where is not None
    assert (str(where), where.text) == ("x.yaml:9:14", "    filters: 12")
    assert str(spec.locate("stem")) == "x.yaml:4:7"
    assert str(spec.locate("blocks", 0)) == "x.yaml:7:5"
    assert str(spec.locate("blocks", 1, "order", 2)) == "x.yaml:10:19"


def test_what_was_not_written_is_at_the_section_around_it() -> None:
    spec = loads(SPEC, "x.yaml")
    assert str(spec.locate("stem", "kernel")) == "x.yaml:4:7"
    assert str(spec.locate("readout", "compression")) == "x.yaml:1:1"


def test_a_shared_value_is_at_block_defaults() -> None:
    spec = loads(SPEC, "x.yaml")
    assert str(spec.locate("blocks", 0, "filters")) == "x.yaml:5:27"
    nested = SPEC.replace("dropout: 0}", "order: [4, 3, 2, 1]}").replace("layers: 5", "layers: 4")
    nested = nested.replace("order: [5, 4, 3, 2, 1]", "stages: 3")
    assert str(loads(nested, "x.yaml").locate("blocks", 1, "order", 3)) == "x.yaml:5:48"


def test_where_a_network_was_written_is_no_part_of_it() -> None:
    assert loads(SPEC) == loads("\n\n" + SPEC, "elsewhere.yaml")


def test_byte_order_mark_and_windows_line_ends_are_read() -> None:
    spec = loads("\ufeff" + SPEC.replace("\n", "\r\n"))
    assert spec == loads(SPEC)
    first = spec.locate("cliquegraph")
    assert first is not None
    assert first.text == "cliquegraph: 1"
    where = loads(SPEC.replace("\n", "\r\n"), "x.yaml").locate("stem")
    assert where is not None
    assert where.text == "stem: {filters: 64}"


def test_numbers_are_those_of_yaml_1_2() -> None:
    spec = loads(SPEC.replace("64", "0x40").replace("dropout: 0}", "dropout: 1e-1}"))
    assert spec.stem.filters == 64
    assert spec.blocks[0].dropout == 0.1
    assert loads(SPEC.replace("64", "064")).stem.filters == 64


def test_a_recipe_is_a_name_or_a_section() -> None:
    named = loads(SPEC + "training: svhn\n").training
    assert named is not None
    assert named.recipe == "svhn"
    assert named == loads(SPEC + "training: {recipe: svhn}\n").training


def test_a_default_that_is_not_of_the_kind_is_no_default() -> None:
    text = SPEC.replace("block_defaults: {", "block_defaults: {kind: clique, stages: 3, ")
    text = text.replace("  - {layers: 4}", "  - {kind: dense, layers: 4, filters: 8}")
    first, second = loads(text).blocks
    assert isinstance(first, DenseBlock)
    assert first.filters == 8
    assert isinstance(second, CliqueBlock)
    assert second.stages == 3


def test_defaults_can_make_every_block_dense() -> None:
    text = SPEC.replace("block_defaults: {", "block_defaults: {kind: dense, ")
    text = text.replace("    order: [5, 4, 3, 2, 1]\n", "")
    assert all(isinstance(block, DenseBlock) for block in loads(text).blocks)


def test_a_default_that_one_kind_takes_is_no_fault_where_each_block_states_its_own() -> None:
    text = SPEC.replace("block_defaults: {", "block_defaults: {bottleneck: 4, ")
    text = text.replace("  - {layers: 4}", "  - {kind: dense, layers: 4, bottleneck: 2}")
    text = text.replace("    order:", "    bottleneck: true\n    order:")
    assert [block.bottleneck for block in loads(text).blocks] == [2, True]


def test_defaults_without_a_kind_reach_both_kinds() -> None:
    text = SPEC.replace("  - {layers: 4}", "  - {kind: dense, layers: 4}")
    assert [block.filters for block in loads(text).blocks] == [36, 12]


def test_a_faulty_default_is_reported_once() -> None:
    text = message(SPEC.replace("filters: 36", "filters: few").replace("    filters: 12\n", ""))
    assert text.count("error[") == 1
    assert text.startswith(
        "x.yaml:5:27: error[wrong-value]: block_defaults.filters: expected an integer"
    )


def test_many_faults_are_cut_short() -> None:
    text = message(SPEC + "".join(f"x{i}: 1\n" for i in range(200)))
    assert text.count("error[unknown-key]: unknown key") == 50
    assert text.endswith("x.yaml: error[more-errors]: there are more errors than shown")


def test_files_that_are_none(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    expected = {
        tmp_path / "absent.yaml": "no such file",
        tmp_path: "expected a YAML or JSON file, but this is a directory",
        pipe: "expected a YAML or JSON file, but this is not a regular file",
        large: "larger than the 262,144 bytes a spec may have\n"
        "  = help: MAX_CHARACTERS in cliquegraph.spec.document sets the maximum",
        tmp_path / ("x" * 300): "can't be read: File name too long",
    }
    for path, problem in expected.items():
        code = "over-limit" if path == large else "unreadable-file"
        with pytest.raises(SpecError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: error[{code}]: {problem}"


def test_names_that_are_none() -> None:
    for name in ("", "a\0b", "\udcff", "absent\n.yaml"):
        with pytest.raises(SpecError) as caught:
            load(name)
        str(caught.value).encode("utf-8")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="can't be read: Permission denied"):
        load(file)


def test_a_text_is_not_longer_than_a_file() -> None:
    assert message("#" * (MAX_CHARACTERS + 1)) == (
        "x.yaml: error[over-limit]: a spec has at most 262,144 characters\n"
        "  = help: MAX_CHARACTERS in cliquegraph.spec.document sets the maximum"
    )


TOKENS = st.sampled_from(
    [*"[]{}:,-?!&*|>'\"%@`#\n \t\\~01e.<\r", "\\U", "- ", "? ", ": ", "---", "%YAML ", "!!", "0x"]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(TOKENS).map("".join)))
def test_any_text_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    str(caught.value).encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SPEC)), st.integers(0, 3), TOKENS), max_size=4),
    st.lists(st.lists(st.sampled_from(["blocks", ".", "*", "=", "0", "["])).map("".join)),
)
def test_any_change_of_a_spec_is_a_spec_or_a_spec_error(
    changes: list[tuple[int, int, str]], overrides: list[str]
) -> None:
    text = SPEC
    for start, length, token in changes:
        text = text[:start] + token + text[start + length :]
    try:
        loads(text, overrides=overrides)
    except SpecError as error:
        str(error).encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(content=st.binary())
def test_any_file_is_a_spec_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError):
        load(file)
