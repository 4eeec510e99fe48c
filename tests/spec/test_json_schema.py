"""The JSON Schema that editors use: it takes what the compiler takes."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cliquegraph.spec.document import parse
from cliquegraph.spec.json_schema import json_schema

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
INVALID = ROOT / "tests" / "invalid"


def faults(data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(json_schema()).iter_errors(data)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_the_file_beside_the_specs_is_current() -> None:
    text = (ROOT / "specs" / "cliquegraph.schema.json").read_text(encoding="utf-8")
    assert text == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path: Path) -> None:
    assert faults(parse(path.read_text(encoding="utf-8"), path.name).data) == []


@pytest.mark.parametrize(
    "name",
    [
        *("unknown_key", "unknown_section", "misspelt_key", "misspelt_section", "wrong_type"),
        *("text_for_bool", "rate_of_one", "missing_key", "missing_version", "unknown_version"),
        *("unknown_kind", "no_blocks", "even_kernel", "negative", "name_pattern"),
        *("training_unknown", "expect_bad_figure", "defaults_bad_key", "order_of_texts"),
        *("clique_key_in_dense_block", "pool_missing_stride", "dense_bottleneck_true"),
    ],
)
def test_what_an_editor_can_see_is_marked(name: str) -> None:
    text = (INVALID / f"{name}.yaml").read_text(encoding="utf-8")
    assert faults(parse(text, name).data)


def test_every_key_is_explained() -> None:
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section["properties"].items():
            assert value.get("description"), key
