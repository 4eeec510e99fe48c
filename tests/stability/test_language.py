"""The version of the spec language: another one is refused, with what to do."""

from __future__ import annotations

import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import SpecError

SPEC = """
name: small
input: {channels: 1, height: 8, width: 8}
stem: {filters: 4}
blocks:
  - {layers: 2, filters: 3}
classifier: {classes: 2}
"""
WRITE = "write 'cliquegraph: 1', an unquoted number"
NEWER = "a newer cliquegraph may read it"


def test_version_1_is_read() -> None:
    assert cliquegraph.loads("cliquegraph: 1" + SPEC).name == "small"


@pytest.mark.parametrize(
    ("written", "found", "hint"),
    [
        ("2", "2", NEWER),
        ("10", "10", NEWER),
        ("0", "0", WRITE),
        ("-1", "-1", WRITE),
        ('"1"', "'1'", WRITE),
        ("1.0", "1.0", WRITE),
        ("2.0", "2.0", WRITE),
        ("true", "true", WRITE),
        ("v1", "'v1'", WRITE),
        ("[1]", "[1]", WRITE),
        ("", "nothing", WRITE),
    ],
)
def test_another_version_is_refused_alone(written: str, found: str, hint: str) -> None:
    # What else is wrong may be right in that version: `stalk` is not spoken of.
    with pytest.raises(SpecError) as caught:
        cliquegraph.loads(f"cliquegraph: {written}{SPEC}stalk: 1\n")
    (said,) = caught.value.diagnostics
    assert said.message == (
        f"cliquegraph: this compiler reads version 1 of the language, found {found}"
    )
    assert said.hint == hint
    assert said.location is not None
    assert said.location.line == 1


def test_a_missing_version_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        cliquegraph.loads(SPEC)
    (said,) = caught.value.diagnostics
    assert said.message == "missing key 'cliquegraph': expected 1"
    assert said.hint == "start the file with 'cliquegraph: 1'"


def test_set_does_not_get_around_it() -> None:
    with pytest.raises(SpecError, match="this compiler reads version 1"):
        cliquegraph.loads("cliquegraph: 1" + SPEC, overrides=["cliquegraph=2"])
