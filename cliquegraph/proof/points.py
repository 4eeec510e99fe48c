"""A declaration at random points: its results, and their derivative in a random direction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import agree
from cliquegraph.ir.types import MapType, StagesType
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.dual import Dual
from cliquegraph.semantics.exact import mirrors_of
from cliquegraph.semantics.field import PrimeField
from cliquegraph.semantics.operations import Law, Meaning, Observe, Place
from cliquegraph.spec.network import NetworkSpec

BATCH = 3
"""Images in a batch: an odd number, so that no count of pixels is a power of 2 by chance."""


class Points:
    """Random images, tensors and a direction, the same for every program that is compared.

    They depend on the seed of the arithmetic and on names alone, so that two of the same seed may
    be used at the same time, in two threads.

    Args:
        network: the declaration.
        lowered: its graph before any pass, which has the canonical tensors.
        size: height and width of the images.
        exact: the arithmetic.
        batch: how many images.
        alike: whether random choices of one law and shape have equal results.

    Attributes:
        images: (batch, channels, height, width), in front of which are the lanes.
        names: the canonical tensors, in the order in which they are read.
        logits_shape: (batch, classes), in front of them stages for a readout over time.
        shapes: of what each place has drawn at random, by its number there.
    """

    def __init__(
        self,
        network: NetworkSpec,
        lowered: Graph,
        size: tuple[int, int],
        exact: PrimeField | Degrees,
        *,
        alike: bool = False,
        batch: int = BATCH,
    ) -> None:
        image = lowered.input.type
        assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
        self.exact = exact
        self.images = exact.drawn("images", batch, image.channels, *size)
        logits = lowered.logits.type
        stages = (logits.stages,) if isinstance(logits, StagesType) else ()
        self.logits_shape = (*stages, batch, network.classifier.classes)
        self._network = network
        self._shapes = {tensor_name(each): each.shape for each in lowered.tensors}
        self._trained = {tensor_name(each) for each in lowered.tensors if each.field.trainable}
        self.names = tuple(self._shapes)
        self.shapes: dict[tuple[Place, int], tuple[int, ...]] = {}
        self._alike = alike
        self._meanings: dict[Hashable, Meaning] = {}
        self._queries: dict[Hashable, int] = {}

    def tensors(self, graph: Graph) -> Mapping[str, Array]:
        """Return canonical tensors; statistics that the graph stores once are equal."""
        equal: dict[str, Array] = {}
        if mirrors_of(graph):
            statistics = [param for param in graph.params if not param.field.trainable]
            equal = {name: self._value(name) for name in self.names if name not in self._trained}
            agree(statistics, equal)
        return _Named(self.names, lambda name: equal[name] if name in equal else self._value(name))

    def direction(self, only: Iterable[str] | None = None) -> Mapping[str, Array]:
        """Return the direction of derivatives: 0 for statistics, and but for ``only``."""
        along = self._trained if only is None else self._trained.intersection(only)

        def part(name: str) -> Array:
            if name in along:
                return self.exact.drawn(f"direction of {name}", *self._shapes[name])
            return np.zeros_like(self._value(name))

        return _Named(self.names, part)

    def _value(self, name: str) -> Array:
        return self.exact.drawn(name, *self._shapes[name])

    def cotangent(self, shape: tuple[int, ...]) -> Array:
        """Return the coefficients of logits of this shape."""
        return self.exact.drawn("cotangent", *shape)

    def counter(self, name: str) -> Array:
        """Return how many batches a model's counter has counted before."""
        return self.exact.drawn(f"counter {name}")

    def evaluation(self, graph: Graph) -> Meaning:
        """Return what is declared in evaluation."""
        key = (mirrors_of(graph), False)
        if key not in self._meanings:
            before = self.exact.queries
            self._meanings[key] = evaluate(
                self._network, self.tensors(graph), self.images, arithmetic=self.exact
            )
            self._queries[key] = self.exact.queries - before
        return self._meanings[key]

    def training(self, graph: Graph) -> Meaning:
        """Return what is declared in training, in dual numbers."""
        return self.derived(graph, training=True)

    def derived(
        self, graph: Graph, *, training: bool, only: Iterable[str] | None = None
    ) -> Meaning:
        """Return what is declared in a mode, in dual numbers: values, then derivatives.

        Args:
            graph: which statistics are equal.
            training: whether in training, else in evaluation.
            only: the tensors along which to derive; default: all.
        """
        key = (mirrors_of(graph), training, None if only is None else frozenset(only))
        if key not in self._meanings:
            dual, values, slopes = Dual(self.exact), self.tensors(graph), self.direction(only)
            tensors = _Named(self.names, lambda name: np.stack((values[name], slopes[name])))
            before = self.exact.queries
            meaning = evaluate(
                self._network,
                tensors,
                dual.constant(self.images),
                training=training,
                masks=(lambda *choice: dual.constant(self.mask(*choice))) if training else None,
                arithmetic=dual,
            )
            self._queries[key] = self.exact.queries - before
            if only is not None:
                return meaning
            self._meanings[key] = meaning
        return self._meanings[key]

    def observe(self, graph: Graph, observe: Observe, *, training: bool) -> None:
        """Evaluate what is declared once more, and show each value, without derivatives."""
        evaluate(
            self._network,
            self.tensors(graph),
            self.images,
            training=training,
            masks=self.mask if training else None,
            arithmetic=self.exact,
            observe=observe,
        )

    def queries(self, graph: Graph, *, training: bool, derived: bool) -> int:
        """Return how many arguments opaque functions received from the declaration.

        Args:
            graph: which statistics are equal.
            training: in which mode.
            derived: whether in dual numbers.
        """
        mirrors = mirrors_of(graph)
        if derived:
            self.derived(graph, training=training)
            return self._queries[mirrors, training, None]
        self.evaluation(graph)
        return self._queries[mirrors, False]

    def mask(self, place: Place, choice: int, shape: tuple[int, ...], law: Law) -> Array:
        """Return the result of a random choice: arbitrary elements, different for another law."""
        self.shapes.setdefault((place, choice), shape)
        key = (shape, law) if self._alike else (place, choice, law)
        site = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7])
        return self.exact.mask(site, *shape)


class _Named(Mapping[str, Array]):
    """Arrays by name, each computed when it is read: all at once would fill the memory."""

    def __init__(self, names: Sequence[str], compute: Callable[[str], Array]) -> None:
        self._names, self._compute = dict.fromkeys(names), compute

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Overlaid(_Named):
    """Arrays by name, some of them replaced by others."""

    def __init__(self, some: Mapping[str, Array], others: Mapping[str, Array]) -> None:
        super().__init__(tuple(others), lambda name: some[name] if name in some else others[name])
