"""A declaration at random points: its results, and their derivative in a random direction."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import agree
from cliquegraph.ir.types import MapType
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
        self.images = exact.draw(batch, image.channels, *size)
        self._network = network
        self.names = tuple(map(tensor_name, lowered.tensors))
        self._tensors: dict[str, Array] = {}
        self._direction: dict[str, Array] = {}
        # In the order of names, on which the numbers depend; so not on the order of the graph.
        for tensor in sorted(lowered.tensors, key=tensor_name):
            name, value = tensor_name(tensor), exact.draw(*tensor.shape)
            still = np.zeros_like(value)
            self._tensors[name] = value
            self._direction[name] = exact.draw(*tensor.shape) if tensor.field.trainable else still
        self.shapes: dict[tuple[Place, int], tuple[int, ...]] = {}
        self._alike = alike
        self._choices: dict[Hashable, int] = {}
        self._meanings: dict[Hashable, Meaning] = {}
        self._cotangents: dict[tuple[int, ...], Array] = {}
        self._queries: dict[Hashable, int] = {}

    def tensors(self, graph: Graph) -> dict[str, Array]:
        """Return canonical tensors; statistics that the graph stores once are equal."""
        tensors = dict(self._tensors)
        if mirrors_of(graph):
            agree(graph, tensors)
        return tensors

    def direction(self, only: Iterable[str] | None = None) -> dict[str, Array]:
        """Return the direction of derivatives: 0 for statistics, and but for ``only``."""
        if only is None:
            return self._direction
        chosen = frozenset(only)
        return {
            name: each if name in chosen else np.zeros_like(each)
            for name, each in self._direction.items()
        }

    def cotangent(self, shape: tuple[int, ...]) -> Array:
        """Return the coefficients of logits of this shape."""
        if shape not in self._cotangents:
            self._cotangents[shape] = self.exact.draw(*shape)
        return self._cotangents[shape]

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

    def training(self, graph: Graph, only: Iterable[str] | None = None) -> Meaning:
        """Return what is declared in training, in dual numbers: values, then derivatives.

        Args:
            graph: which statistics are equal.
            only: the tensors along which to derive; default: all.
        """
        key = (mirrors_of(graph), True, None if only is None else frozenset(only))
        if key not in self._meanings:
            dual, direction = Dual(self.exact), self.direction(only)
            tensors = {
                name: np.stack((value, direction[name]))
                for name, value in self.tensors(graph).items()
            }
            before = self.exact.queries
            meaning = evaluate(
                self._network,
                tensors,
                dual.constant(self.images),
                training=True,
                masks=lambda *choice: dual.constant(self.mask(*choice)),
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

    def queries(self, graph: Graph, *, training: bool) -> int:
        """Return how many arguments opaque functions received from the declaration."""
        mirrors = mirrors_of(graph)
        if training:
            self.training(graph)
            return self._queries[mirrors, True, None]
        self.evaluation(graph)
        return self._queries[mirrors, False]

    def mask(self, place: Place, choice: int, shape: tuple[int, ...], law: Law) -> Array:
        """Return the result of a random choice: arbitrary elements, different for another law."""
        self.shapes.setdefault((place, choice), shape)
        key = (shape, law) if self._alike else (place, choice, law)
        site = self._choices.setdefault(key, len(self._choices))
        return self.exact.mask(site, *shape)
