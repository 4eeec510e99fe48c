"""A generated file that somebody has edited, and what ``verify`` says of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.emit.view import ModelView
from cliquegraph.plugins.backends import Backend, Executor, find_backend
from cliquegraph.proof.verification import Verification
from tests.networks import network

TAMPERED = network(
    {"layers": 3, "filters": 3, "stages": 3},
    {"layers": 3, "filters": 3},
    transition={"attention": True},
)


@dataclass(frozen=True)
class Tampered:
    """A backend whose file somebody has edited: ``old`` became ``new``, where it stands."""

    inner: Backend
    old: str
    new: str
    edited: list[str]

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def description(self) -> str:
        return self.inner.description

    @property
    def reserved(self) -> frozenset[str]:
        return self.inner.reserved

    @property
    def has_slabs(self) -> bool:
        return getattr(self.inner, "has_slabs", False)

    @property
    def modules(self) -> frozenset[str]:
        return self.inner.modules

    def missing(self) -> str | None:
        return self.inner.missing()

    def write(self, view: ModelView) -> str:
        source = self.inner.write(view)
        if self.old in source:
            self.edited.append(view.class_name)
        return source.replace(self.old, self.new, 1)

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        return self.inner.executor(source, class_name, graph, dtype)


def verify_tampered(
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    *,
    backend: str = "torch",
    backends: tuple[str, ...] = (),
    spec: NetworkSpec | None = None,
    level: int = 0,
) -> Verification:
    def find(name: str) -> Any:
        found = find_backend(name)
        return Tampered(found, old, new, edited) if name == backend else found

    edited: list[str] = []
    monkeypatch.setattr(sys.modules["cliquegraph.proof.verify"], "find_backend", find)
    found = cliquegraph.verify(spec or TAMPERED, backends or [backend], level=level)
    assert edited, f"no file has {old!r}"
    return found
