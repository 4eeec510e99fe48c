"""What is no kind of block is refused with the package that offers it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

import cliquegraph
from cliquegraph.blocks.clique import KIND as CLIQUE
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins import kinds as module
from cliquegraph.plugins.kinds import GROUP, Kind, default_kind, kinds
from cliquegraph.spec.schema import BlockSpec


class Nameless(BlockSpec):
    kind: str

    @property
    def reads(self) -> int:
        return 0


class Second(Nameless):
    kind: Literal["second"] = "second"


SECOND = Kind(Second, CLIQUE.block)


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    kinds.cache_clear()
    yield
    kinds.cache_clear()


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    ours = [EntryPoint(n, f"cliquegraph.blocks.{n}:KIND", GROUP) for n in ("clique", "dense")]
    points = [*ours, EntryPoint(name, value, GROUP)]
    monkeypatch.setattr(module, "entry_points_of", lambda group: points if group == GROUP else [])
    with pytest.raises(UsageError) as caught:
        kinds()
    return str(caught.value)


def test_ours_are_found_the_same_way() -> None:
    assert list(kinds()) == ["clique", "dense", "fractal", "graph", "recurrent", "residual"]
    assert default_kind() == "clique"
    assert [kind.name for kind in kinds().values()] == list(kinds())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ring", "no_such_package:KIND", "fails to load: No module named 'no_such_package'"),
        ("ring", "math:KIND", "fails to load: module 'math' has no attribute 'KIND'"),
        ("ring", "math:pi", "is not a cliquegraph.plugins.kinds.Kind"),
        ("ring", "cliquegraph.blocks.dense:KIND", "is named 'dense'"),
    ],
)
def test_what_is_no_kind_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(monkeypatch, name, value) == f"block kind {name!r} ({value}) {message}"


def test_blocks_without_a_kind_are_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", _load_with_second)
    assert refusal(monkeypatch, "second", "elsewhere:KIND") == (
        "exactly one block kind must be the default; these are: clique, second"
    )


def _load_with_second(point: EntryPoint) -> object:
    if point.name == "second":
        return SECOND
    return __import__(point.module, fromlist=["KIND"]).KIND


def test_a_kind_bounds_what_its_updates_read() -> None:
    class Unbounded(BlockSpec):
        kind: Literal["unbounded"]

    with pytest.raises(TypeError, match="Unbounded does not define the property reads"):
        Kind(Unbounded, CLIQUE.block)


def test_a_kind_has_one_name() -> None:
    with pytest.raises(TypeError, match=r"Nameless.kind must be the Literal of one name"):
        Kind(Nameless, CLIQUE.block)


def test_a_network_is_read_after_the_kinds_are_known() -> None:
    # The union is no part of what importing makes: a package with a kind imports ours.
    assert "blocks" in cliquegraph.NetworkSpec.model_fields
    network = cliquegraph.load("specs/quickstart.yaml")
    assert isinstance(network.blocks[0], CLIQUE.spec)
