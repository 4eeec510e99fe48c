"""Whether an op graph computes what is declared: evaluates both exactly and compares them.

Both run on the same random numbers in a prime field, in evaluation and in training. The results of
each update, section and block are compared, and the running statistics after a training pass.
Equal results prove that the functions are equal, up to a probability of error that is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import DrawColumn, Dropout, JoinWeights, Keep
from cliquegraph.ir.storage import agree
from cliquegraph.ir.types import MapType, MaskType, MomentsType, Part, Section, WeightsType
from cliquegraph.semantics.arithmetic import Arithmetic, Array, survival
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import PrimeField, collision
from cliquegraph.semantics.interpret import interpret
from cliquegraph.semantics.operations import Law, Meaning, Place
from cliquegraph.spec.network import NetworkSpec

BATCH = 2

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Candidate:
    """An op graph to compare with the declaration.

    Attributes:
        graph: the graph.
        unfolded: for a folded graph, the original, which has the canonical tensors.
        fold: computes the folded tensors from the canonical ones, in an arithmetic.
    """

    graph: Graph
    unfolded: Graph | None = None
    fold: Callable[[Tensors, Arithmetic], dict[str, Array]] | None = None

    @property
    def canonical(self) -> Graph:
        """The graph that has the canonical tensors."""
        return self.unfolded or self.graph


@dataclass(frozen=True)
class Evidence:
    """Counts of a comparison that found no difference.

    Attributes:
        values: values compared, in all passes.
        statistics: running statistics compared.
        queries: arguments of opaque functions, on both sides.
        lanes: primes.
        constants: the constants met.
    """

    values: int
    statistics: int
    queries: int
    lanes: int
    constants: frozenset[Fraction]
    _comparison: _Comparison

    @cached_property
    def degree(self) -> int:
        """The largest degree of a compared value or of an argument of an opaque function."""
        return max(degree for degree, _ in self._polynomials)

    @cached_property
    def _polynomials(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return self._comparison.polynomials(self.constants)

    @property
    def bound(self) -> float:
        """An upper bound of the probability that different networks are found equal."""
        return collision(self.queries, *self._polynomials, lanes=self.lanes)


class Declared:
    """A declaration at random points, evaluated once for all graphs compared with it."""

    def __init__(
        self, network: NetworkSpec, canonical: Graph, arithmetic: PrimeField | Degrees
    ) -> None:
        image = canonical.input.type
        assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
        self.arithmetic = arithmetic
        self.images = arithmetic.draw(BATCH, image.channels, image.height, image.width)
        self._network = network
        ordered = sorted(canonical.tensors, key=tensor_name)
        self._tensors = {tensor_name(tensor): arithmetic.draw(*tensor.shape) for tensor in ordered}
        self._choices: dict[tuple[Place, int, Law], int] = {}
        self._shared: dict[object, dict[str, Array]] = {}
        self._meanings: dict[object, tuple[Meaning, int]] = {}

    def tensors(self, graph: Graph) -> dict[str, Array]:
        """Return canonical tensors; statistics that the graph stores once are equal."""
        key = mirrors_of(graph)
        if key not in self._shared:
            self._shared[key] = dict(self._tensors)
            if key:
                agree(graph.params, self._shared[key])
        return self._shared[key]

    def meaning(self, graph: Graph, training: bool) -> tuple[Meaning, int]:
        """Return what is declared, with these tensors, and the number of opaque arguments."""
        key = (mirrors_of(graph), training)
        if key not in self._meanings:
            before = self.arithmetic.queries
            meaning = evaluate(
                self._network,
                self.tensors(graph),
                self.images,
                training=training,
                masks=self.mask,
                arithmetic=self.arithmetic,
            )
            self._meanings[key] = (meaning, self.arithmetic.queries - before)
        return self._meanings[key]

    def mask(self, place: Place, choice: int, shape: tuple[int, ...], law: Law) -> Array:
        """Return the result of a random choice: arbitrary elements, different for another law."""
        site = self._choices.setdefault((place, choice, law), len(self._choices))
        return self.arithmetic.mask(site, *shape)


def compare(
    network: NetworkSpec, candidate: Candidate, declared: Declared | None = None
) -> Evidence:
    """Compare a declaration with an op graph of it, at random points of a prime field.

    Nodes that are not executed are compared too: they have parameters that other levels use.

    Args:
        network: the declaration.
        candidate: the graph, already checked by ``verify_graph``.
        declared: the declaration at random points, if other graphs are compared with it.

    Raises:
        VerificationError: they differ; names the first place in the order of execution that does.
    """
    declared = declared or Declared(network, candidate.canonical, PrimeField())
    return _Comparison(network, candidate).run(declared)


class _Comparison:
    """The comparison of a declaration with one graph."""

    def __init__(self, network: NetworkSpec, candidate: Candidate) -> None:
        self._network, self._candidate = network, candidate
        graph = candidate.graph
        self._graph = replace(graph, nodes=(*graph.nodes, *graph.idle), idle=())
        self._sites = dict(sites_of(self._graph))
        self._written = _written(self._graph)
        self._modes = (False, True) if candidate.fold is None else (False,)

    def run(self, declared: Declared) -> Evidence:
        """Compare all results of both sides."""
        assert isinstance(declared.arithmetic, PrimeField)  # noqa: S101  # degrees are for the bound only
        values = statistics = queries = 0
        results = []
        for training in self._modes:
            meaning, declared_queries = declared.meaning(self._candidate.canonical, training)
            self._require_same_parts(meaning)
            before = declared.arithmetic.queries
            results.append((training, meaning, *self._evaluate_graph(declared, training)))
            queries += declared_queries + declared.arithmetic.queries - before
        for place in results[0][1].values:
            for training, meaning, computed, running in results:
                if place in computed:
                    values += 1
                    if not np.array_equal(computed[place], meaning.values[place]):
                        raise self._differs(place, meaning, training)
                for name in meaning.statistics.get(place, ()):
                    statistics += 1
                    if not np.array_equal(running[name], meaning.running[name]):
                        raise self._broken(place, f"{name} does not move as declared")
        self._require_readers()
        lanes, constants = len(declared.arithmetic.primes), declared.arithmetic.constants
        return Evidence(values, statistics, queries, lanes, constants, self)

    def polynomials(self, constants: Iterable[Fraction]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The largest degree and bits of an opaque function's argument, and of a compared value."""
        degrees = Degrees(constants)
        declared = Declared(self._network, self._candidate.canonical, degrees)
        largest = np.zeros(2, np.int64)
        for training in self._modes:
            meaning, _ = declared.meaning(self._candidate.canonical, training)
            computed, _ = self._evaluate_graph(declared, training)
            results = (*meaning.values.values(), *meaning.running.values(), *computed.values())
            for each in results:
                largest = np.maximum(largest, each.reshape(2, -1).max(axis=1))
        (a, b), (c, d) = degrees.largest.tolist(), largest.tolist()
        return (a, b), (c, d)

    def _evaluate_graph(
        self, declared: Declared, training: bool
    ) -> tuple[dict[Place, Array], dict[str, Array]]:
        """Return the graph's result at each place, and its running statistics after the pass."""
        arithmetic = declared.arithmetic

        def mask(node: Node, x: Array) -> Array:
            law = law_of(self._graph, node)
            if isinstance(node.op, Keep):
                batch = x.shape[-4] if node.op.per_image else 1
                return declared.mask(*self._sites[node], (batch, 1, 1, 1), law)
            if isinstance(node.op, JoinWeights):
                return declared.mask(*self._sites[node], (node.op.count,), law)
            assert isinstance(node.op, Dropout)  # noqa: S101  # no other op is random
            masked = arithmetic.multiply(x, declared.mask(*self._sites[node], x.shape[-4:], law))
            return arithmetic.scale(masked, 1 / survival(node.op.rate))

        tensors = declared.tensors(self._candidate.canonical)
        if self._candidate.fold is not None:
            tensors = self._candidate.fold(tensors, arithmetic)
        result = interpret(
            self._graph,
            tensors,
            declared.images,
            training=training,
            mask=mask,
            arithmetic=arithmetic,
        )
        values = {place: result.values[value] for place, value in self._written.items()}
        return values, result.running

    # ---- errors -------------------------------------------------------------------

    def _require_same_parts(self, declared: Meaning) -> None:
        """Require that every place and every tensor is on both sides."""
        for place in self._written:
            if place not in declared.values:
                raise self._broken(place, "is in the graph, but not declared")
        for place in declared.values:
            # Folded graphs lack unused updates, and boundaries that only drop out.
            if place not in self._written and self._candidate.fold is None:
                raise VerificationError(f"{place} is not in the graph")
        names = {tensor_name(tensor) for tensor in self._candidate.canonical.tensors}
        if unread := sorted(names - declared.tensors):
            raise VerificationError(f"{unread[0]} is in the graph, but not declared")

    def _require_readers(self) -> None:
        """Require that every node has a reader."""
        results = {*self._graph.outputs, *self._written.values()}
        for node in self._graph.nodes:
            read = any(value in results or value in self._graph.consumers for value in node.outputs)
            if not read:
                message = f"nothing reads what its {node.op.mnemonic} writes"
                raise self._broken(_place(node), message)

    def _differs(self, place: Place, declared: Meaning, training: bool) -> VerificationError:
        what = "what it writes"
        if place.layer is not None:
            what = f"X{place.layer}@{place.stage}, of {{{declared.reads[place]}}},"
        elif place in _feature_places(self._graph):
            what = "the block feature"
        mode = "training" if training else "evaluation"
        return self._broken(place, f"{what} is not as declared, in {mode}")

    def _broken(self, place: Place, message: str) -> VerificationError:
        value = self._written.get(place)
        line = self._graph.producers[value].origin.line if value is not None else None
        where = str(place) if line is None else f"{place}, line {line}"
        return VerificationError(f"{where}: {message}")


def law_of(graph: Graph, node: Node) -> Law:
    """What a random choice is drawn from, as the declaration names it."""
    match node.op:
        case Dropout(rate):
            return ("element", rate)
        case Keep(rate, per_image):
            return ("branch", rate, per_image)
        case JoinWeights(rate, _, columns):
            makers = [graph.producers[value].op for value in node.inputs[1:]]
            drawn = [(op.rate, op.columns) for op in makers if isinstance(op, DrawColumn)]
            return ("join", rate, columns, drawn[0] if drawn else ())
    raise TypeError(f"{node.op.mnemonic} is not random")


def mirrors_of(graph: Graph) -> tuple[object, ...]:
    """The statistics that a graph stores once for several readers."""
    return tuple(param.holdings for param in graph.params if param.mirrors)


def _place(node: Node) -> Place:
    origin = node.origin
    return Place(str(origin.section), origin.stage, origin.layer)


def _written(graph: Graph) -> dict[Place, Value]:
    """The result of each place: the last value of its nodes, or an output of the network."""
    values = {
        _place(node): value
        for node in graph.nodes
        for value in node.outputs
        if not isinstance(value.type, MomentsType | MaskType | WeightsType)
    }
    for block in [place for place in values if place.layer is None]:
        if block.section.startswith(str(Part.BLOCK)):
            del values[block]  # its feature, or its transit
    return values | _feature_places(graph) | {Place(str(Part.CLASSIFIER)): graph.logits}


def _feature_places(graph: Graph) -> dict[Place, Value]:
    """The feature of each block."""
    return {
        Place(str(Section(Part.BLOCK, index))): value
        for index, value in enumerate(graph.features, start=1)
    }


def sites_of(graph: Graph) -> Iterator[tuple[Node, tuple[Place, int]]]:
    """The place of each random choice and its number there."""
    choices: Counter[Place] = Counter()
    for node in graph.nodes:
        if isinstance(node.op, Dropout | Keep | JoinWeights):
            yield node, (_place(node), choices[_place(node)])
            choices[_place(node)] += 1
