"""Which layers read which: the graphs of ``edges``, and who reads X0.

A pair (i, j) says that layer j reads layer i. Layers count from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from cliquegraph.blocks.keys import list_or_one, tuple_of
from cliquegraph.spec.ops import OpList
from cliquegraph.spec.schema import Path, SpecModel, fault, impossible, up_to
from cliquegraph.spec.wording import describe_value

Pair = tuple[int, int]
Direction = Literal["both", "forward", "feedback"]


def _tuples(value: object) -> object:
    """Lists as tuples: a section is frozen, all the way down."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Nearest(SpecModel):
    """Every two layers that are at most so far apart, without wrapping."""

    nearest: Annotated[int, up_to("MAX_LAYERS")]
    """k: layers i and j read each other if 0 < |i − j| ≤ k"""


class SmallWorldKeys(SpecModel):
    """A graph drawn as Watts and Strogatz do (Nature 1998), the same everywhere."""

    neighbours: Annotated[int, Field(ge=2, multiple_of=2)]
    """how many layers each is joined to before edges are rewired; even, and fewer than layers"""
    rewire: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    """the probability that an edge is rewired"""
    seed: Annotated[int, Field(ge=0)]
    """of the draws"""


class SmallWorld(SpecModel):
    """A ring lattice with edges rewired at random."""

    small_world: SmallWorldKeys
    """neighbours, rewire and seed"""


Word = Literal["complete", "chain", "ring", "none"]
_EXPECTED = (
    "'complete', 'chain', 'ring', 'none', {nearest: k}, "
    "{small_world: {neighbours, rewire, seed}}, or a list of [source, target]"
)


def _form(value: object) -> str:
    """The tag of the form that a topology is written in; a section's is its key."""
    if isinstance(value, dict) and len(value) == 1:
        return f"<{next(iter(value))}>"
    if isinstance(value, SpecModel):
        return f"<{next(iter(type(value).model_fields))}>"
    return "<pairs>" if isinstance(value, list | tuple) else "<word>"


def _is_topology(value: object) -> object:
    forms = ("<nearest>", "<small_world>", "<pairs>")
    if _form(value) not in forms and value not in get_args(Word):
        close = get_close_matches(str(value), get_args(Word), 1)
        hint = f"did you mean {close[0]!r}?" if close else None
        raise fault(f"expected {_EXPECTED}, found {describe_value(value)}", hint=hint)
    return _tuples(value)


Edges = Annotated[
    Annotated[Word, Tag("<word>")]
    | Annotated[Nearest, Tag("<nearest>")]
    | Annotated[SmallWorld, Tag("<small_world>")]
    | Annotated[tuple[Pair, ...], Tag("<pairs>")],
    Discriminator(_form),
    BeforeValidator(_is_topology),
]


def _is_pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) in (2, 3):
        return tuple(value)
    expected = "[source, target] or [source, target, ops]"
    raise fault(f"expected {expected}, found {describe_value(value)}")


PairWithOps = Annotated[
    Annotated[Pair, Tag("<2>")] | Annotated[tuple[int, int, OpList], Tag("<3>")],
    Discriminator(lambda value: f"<{len(value)}>"),
    BeforeValidator(_is_pair),
]
EdgesWithOps = Annotated[
    Annotated[Word, Tag("<word>")]
    | Annotated[Nearest, Tag("<nearest>")]
    | Annotated[SmallWorld, Tag("<small_world>")]
    | Annotated[tuple[PairWithOps, ...], Tag("<pairs>")],
    Discriminator(_form),
    BeforeValidator(_is_topology),
]
"""Edges of which some may have ops of their own."""

Layers = Annotated[
    Annotated[Literal["all", "first", "sources"], Tag("<one>")]
    | Annotated[tuple[int, ...], Tag("<list>")],
    Discriminator(list_or_one),
    BeforeValidator(tuple_of),
]


class Entry(SpecModel):
    """Who reads X0, and when."""

    to: Layers = "all"
    """all layers, the first that is visited, those that read no layer visited before, or a list"""
    stages: Literal["first", "all"] = "first"
    """stage 1 alone, or every stage"""


class EntryWithOps(Entry):
    """Who reads X0, when, and by which ops."""

    edge: OpList | None = None
    """the ops on X0; default: those of the layer's other edges"""


def pairs_of(edges: Any, n: int, direction: Direction = "both") -> tuple[Pair, ...]:
    """Return the pairs of a topology of n layers, by target, then source.

    Args:
        edges: as a spec says it.
        n: the number of layers.
        direction: ``forward`` keeps pairs (i, j) with i < j, ``feedback`` those with i > j.
    """
    match edges:
        case Nearest(nearest=k):
            pairs = {(i, j) for i, j in _complete(n) if abs(i - j) <= k}
        case SmallWorld(small_world=keys):
            pairs = set(_both(small_world(n, keys.neighbours, keys.rewire, keys.seed)))
        case "complete":
            pairs = set(_complete(n))
        case "chain":
            pairs = {(j, j + 1) for j in range(1, n)}
        case "ring":
            pairs = set(_both((j, j % n + 1) for j in range(1, n + 1) if n > 1))
        case "none":
            pairs = set()
        case _:
            pairs = {each[:2] for each in edges}
    allowed = {"both": (-1, 1), "forward": (1,), "feedback": (-1,)}[direction]
    kept = ((i, j) for i, j in pairs if (j > i) - (j < i) in allowed)
    return tuple(sorted(kept, key=lambda pair: pair[::-1]))


def _complete(n: int) -> Iterator[Pair]:
    numbers = range(1, n + 1)
    return ((i, j) for i in numbers for j in numbers if i != j)


def _both(edges: Iterable[Pair]) -> Iterator[Pair]:
    for i, j in edges:
        yield from ((i, j), (j, i))


def small_world(n: int, neighbours: int, rewire: float, seed: int) -> tuple[Pair, ...]:
    """Draw a Watts–Strogatz graph; undirected edges of layers, as they were drawn.

    A ring lattice joins each node i, from 0, to i ± 1 … i ± neighbours/2. Then, for distances
    d = 1 … neighbours/2 and i = 0 … n − 1, the edge {i, i + d mod n} is replaced by {i, t} with
    the probability ``rewire``; t is drawn uniformly from the nodes that i is not joined to. The
    draws are no library's: see ``_draws``.

    >>> small_world(5, 2, 0.0, 1)
    ((1, 2), (2, 3), (3, 4), (4, 5), (5, 1))
    """
    draws = _draws(seed)
    half = neighbours // 2
    joined: list[set[int]] = [
        {(i + d) % n for d in range(-half, half + 1) if d % n} for i in range(n)
    ]
    edges: dict[Pair, Pair] = {}
    for d in range(1, half + 1):
        for i in range(n):
            edge = end = (i, (i + d) % n)
            if next(draws) < rewire:
                candidates = [t for t in range(n) if t != i and t not in joined[i]]
                if candidates:
                    t = candidates[int(next(draws) * len(candidates))]
                    for a, b in (end, end[::-1]):
                        joined[a].discard(b)
                    joined[i].add(t)
                    joined[t].add(i)
                    edge = (i, t)
            edges[end] = edge
    return tuple((i + 1, j + 1) for i, j in edges.values())


def _draws(seed: int) -> Iterator[float]:
    """Numbers in [0, 1): the c-th is the first 8 bytes of SHA-256 of ``SEED:c``, over 2⁶⁴."""
    count = 0
    while True:
        digest = sha256(f"{seed}:{count}".encode("ascii")).digest()
        yield int.from_bytes(digest[:8], "big") / 2**64
        count += 1


@dataclass(frozen=True)
class Topology:
    """Who reads whom in a block, as its keys say it.

    Attributes:
        edges, direction, entry: the keys ``edges``, ``direction``, ``input``.
        itself: the layers that read their own last version.
        order: the layers in the order of their visits.
        updates: how many of them each stage visits.
        initial: ``zero``: stage 1 reads X0 alone.
        write_self: how a spec says that layers read themselves.
        self_path: where this one says so.
    """

    edges: Any
    direction: Direction
    itself: frozenset[int]
    entry: Entry
    order: tuple[int, ...]
    updates: tuple[int, ...]
    initial: Literal["visit", "zero"] = "visit"
    write_self: str = "self: true"
    self_path: Path = ("self",)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of layers, without X0 and without a layer's own version."""
        return pairs_of(self.edges, len(self.order), self.direction)

    @cached_property
    def own_ops(self) -> dict[Pair, Any]:
        """The ops of the pairs that have their own."""
        pairs = self.edges if isinstance(self.edges, tuple) else ()
        return {each[:2]: each[2] for each in pairs if len(each) > 2}

    @cached_property
    def _read(self) -> dict[int, tuple[int, ...]]:
        """The layers that each layer may read, without X0 and itself."""
        read: dict[int, list[int]] = {j: [] for j in self.order}
        for i, j in self.pairs:
            read[j].append(i)
        return {j: tuple(sources) for j, sources in read.items()}

    @cached_property
    def _visit(self) -> dict[int, int]:
        return {layer: position for position, layer in enumerate(self.order)}

    @cached_property
    def again(self) -> frozenset[int]:
        """The layers that stage 2 visits."""
        return frozenset(self.order[: self.updates[1]] if len(self.updates) > 1 else ())

    @cached_property
    def _read_x0(self) -> frozenset[int]:
        match self.entry.to:
            case "all":
                return frozenset(self.order)
            case "first":
                return frozenset(self.order[:1])
            case "sources":
                return frozenset(
                    j
                    for j, sources in self._read.items()
                    if not any(self._before(i, j) for i in sources)
                )
            case layers:
                return frozenset(layers)

    @cached_property
    def sinks(self) -> tuple[int, ...]:
        """The layers that no layer visited later reads, ascending."""
        return tuple(sorted(set(self.order) - {i for i, j in self.pairs if self._before(i, j)}))

    def _before(self, i: int, j: int) -> bool:
        return self._visit[i] < self._visit[j]

    def _is_read(self, i: int, j: int) -> bool:
        """Whether some stage reads a pair."""
        return j in self.again or (self.initial == "visit" and self._before(i, j))

    def sources(self, layer: int) -> tuple[int, ...]:
        """Return what a layer reads, X0 (0) first, then ascending, itself among them."""
        sources = set(self._read[layer])
        sources |= {0} if layer in self._read_x0 else set()
        sources |= {layer} & self.itself & self.again
        return tuple(sorted(sources))

    def faults(self) -> Iterator[PydanticCustomError]:
        """Yield what can't be, each at its key."""
        if faults := [*self._faults_of_edges(), *self._faults_of_entry()]:
            yield from faults
            return
        yield from self._without_a_read()
        yield from self._unread()

    def _without_a_read(self) -> Iterator[PydanticCustomError]:
        """Layers that read nothing in some stage."""
        for j in self.order:
            if j in self._read_x0 or self._starts_from_zeros(j):
                continue
            if self.initial == "zero" or not any(self._before(i, j) for i in self._read[j]):
                hint = "let it read X0 by input.to, or visit it later"
                if self.write_self != "self: true":
                    hint = "let it read X0 by input.to, visit it later, or write initial: zero"
                if self.initial == "zero":
                    hint = "let it read X0 by input.to, or write stages: 2 or more"
                yield impossible(f"X{j} reads nothing in stage 1", "input", hint=hint)
        for j in (layer for layer in self.order if layer in self.again):
            entered = j in self._read_x0 and self.entry.stages == "all"
            if not (entered or j in self.itself or self._read[j]):
                hint = f"let it read itself ({self.write_self}), or X0 in all stages "
                hint += "(input: {stages: all})"
                yield impossible(f"X{j} reads nothing in stage 2", "edges", hint=hint)

    def _starts_from_zeros(self, j: int) -> bool:
        return self.initial == "zero" and j in self.again

    def _unread(self) -> Iterator[PydanticCustomError]:
        """What no stage reads; a complete graph means what can be read."""
        if self.itself and not self.again:
            hint = "write stages: 2 or more"
            message = "no stage reads a layer's own last version"
            yield impossible(message, *self.self_path, hint=hint)
        unread = [(i, j) for i, j in self.pairs if not self._is_read(i, j)]
        if unread and self.edges != "complete":
            (i, j), *_ = unread
            if self.initial == "zero":
                message, hint = f"no stage reads X{i} for X{j}", "write more stages"
            else:
                message = f"no stage reads X{i} for X{j}, which is visited before"
                earlier = "forward" if i > j else "feedback"
                hint = f"write more stages, or direction: {earlier}"
            yield impossible(message, "edges", hint=hint)

    def leads_to(self, ends: Iterable[int]) -> frozenset[int]:
        """Return the layers from which a way leads to one of these, by edges that are read."""
        reached, new = set(ends), list(ends)
        while new:
            j = new.pop()
            sources = {i for i in self._read[j] if self._is_read(i, j)} - reached
            reached |= sources
            new += sources
        return frozenset(reached)

    def _faults_of_edges(self) -> Iterator[PydanticCustomError]:
        n = len(self.order)
        match self.edges:
            case SmallWorld(small_world=keys) if keys.neighbours >= n:
                message = f"must be fewer than layers, {n}"
                yield impossible(message, "edges", "small_world", "neighbours")
            case tuple(pairs):
                for place, (i, j) in enumerate(each[:2] for each in pairs):
                    if not (1 <= i <= n and 1 <= j <= n):
                        message = f"must name layers from 1 to {n}, found [{i}, {j}]"
                        yield impossible(message, "edges", place)
                    elif i == j:
                        message = f"X{i} can't be its own source here"
                        hint = f"write {self.write_self}"
                        yield impossible(message, "edges", place, hint=hint)
                    elif (i, j) in (each[:2] for each in pairs[:place]):
                        yield impossible(f"[{i}, {j}] is there twice", "edges", place)

    def _faults_of_entry(self) -> Iterator[PydanticCustomError]:
        n, to = len(self.order), self.entry.to
        if isinstance(to, tuple):
            for place, layer in enumerate(to):
                if not 1 <= layer <= n:
                    message = f"must name layers from 1 to {n}, found {layer}"
                    yield impossible(message, "input", "to", place)

    @property
    def words(self) -> str:
        """What a title says of it, from a comma on; nothing where all read each other."""
        match self.edges:
            case "complete":
                parts = []
            case Nearest(nearest=k):
                parts = [f"nearest {k}"]
            case SmallWorld(small_world=keys):
                parts = [f"small world of {keys.neighbours} neighbors, seed {keys.seed}"]
            case str(word):
                parts = [word] if word != "none" else ["no edges"] * (len(self.order) > 1)
            case pairs:
                parts = [f"{len(pairs)} edges"]
        parts += [f"{self.direction} only"] if self.direction != "both" else []
        if self.itself:
            every = len(self.itself) == len(self.order)
            layer = "each layer" if len(self.order) > 1 else "the layer"
            parts += [f"{layer} reads itself" if every else f"{len(self.itself)} read themselves"]
        parts += ["X0 in every stage"] if self.entry.stages == "all" else []
        return "".join(f", {each}" for each in parts)

    @property
    def drawn(self) -> str | None:
        """The pairs of a graph that was drawn, by target: ``X1 ← X4 X5, X2 ← …``."""
        if not isinstance(self.edges, SmallWorld):
            return None
        by_target: dict[int, list[int]] = {}
        for i, j in self.pairs:
            by_target.setdefault(j, []).append(i)
        return ", ".join(
            f"X{j} ← {' '.join(f'X{i}' for i in sources)}" for j, sources in by_target.items()
        )
