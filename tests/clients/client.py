"""What uses models, and what comes of it at each level."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import cliquegraph
from cliquegraph import Compilation, Graph, NetworkSpec, sample_tensors
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.proof.verify import relative_error
from tests.levels import TOLERANCE

TRAINED = tuple(f"-O{level}" for level in LEVELS)
EVERY = (*TRAINED, "folded")
Values = Mapping[str, Array]


@dataclass(frozen=True)
class Sample:
    """A small network at a level."""

    spec: NetworkSpec
    backend: str
    level: str

    @cached_property
    def module(self) -> ModuleType:
        """The generated file, imported."""
        folded = self.level == "folded"
        level = 0 if folded else int(self.level.removeprefix("-O"))
        source = cliquegraph.compile(self.spec, self.backend, level=level, inference=folded)
        module = load_source(source, f"client_{self.backend}_{self.level.strip('-')}")
        sys.modules[module.__name__] = module  # where torch.export looks for it
        return module

    @property
    def graph(self) -> Graph:
        return Compilation(self.spec).graph

    @property
    def executed(self) -> Graph:
        """What the file of this level executes."""
        folded = self.level == "folded"
        level = 0 if folded else int(self.level.removeprefix("-O"))
        return Compilation(self.spec, level, folded).graph

    @property
    def tensors(self) -> dict[str, Array]:
        """Canonical weights, which every level can store."""
        return sample_tensors(Compilation(self.spec, max(LEVELS)).graph)

    def create(self, **options: Any) -> Any:
        """A model, before its weights."""
        return getattr(self.module, self.spec.python_class)(**options)

    def load(self, model: Any) -> Any:
        """The model with these weights."""
        cliquegraph.load_weights(model, self.spec, self.tensors)
        return model


@dataclass(frozen=True)
class Client:
    """A use of models; its values are the same at every level that serves it.

    ``run`` returns values, or values and a note. ``advice`` says what to do instead.
    """

    name: str
    run: Callable[[Sample], Values | tuple[Values, str]]
    levels: tuple[str, ...] = TRAINED
    packages: tuple[str, ...] = ()
    advice: str = ""

    @property
    def is_installed(self) -> bool:
        return all(find_spec(package) for package in self.packages)


@dataclass(frozen=True)
class Outcome:
    """``works``, perhaps with a note, or ``refused`` with a message."""

    verdict: str
    text: str = ""


def outcomes(client: Client, samples: Mapping[str, Sample]) -> dict[str, Outcome]:
    """What comes of a client at each level.

    Raises:
        AssertionError: a level computes other values than -O0.
    """
    expected: Values | None = None
    found: dict[str, Outcome] = {}
    for level in client.levels:
        try:
            result = client.run(samples[level])
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001  # clients raise what they like
            found[level] = Outcome("refused", first_line(error))
            continue
        values, note = result if isinstance(result, tuple) else (result, "")
        expected = values if expected is None else expected
        assert expected.keys() == values.keys(), (client.name, level)
        deviation = relative_error(values, expected)
        assert deviation < TOLERANCE, (client.name, level, deviation)
        found[level] = Outcome("works", note)
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error, and of what it was raised from."""
    line = next(iter(str(error).strip().splitlines()), "")
    text = f"{type(error).__name__}: {line}"[:200]
    return text if error.__cause__ is None else f"{text} From {first_line(error.__cause__)}"
