"""What an update of a hand-written model reads, found in its traced program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cliquegraph.proof.occurs import Computed, Labels
from cliquegraph.proof.program import Step

Reads = frozenset[tuple[str, str | None]]
"""Versions of layers, each with the tensor of the kernel through which it is read, if any."""

_KERNELS = ("aten.convolution", "aten.mm", "aten.addmm", "aten.matmul", "aten.linear", "aten.bmm")
_DEPTH = 4000


@dataclass
class Reader:
    """Finds the steps that are an update, and what they read.

    Attributes:
        computed: all values of the program.
        tensors: which channels are those of canonical tensors.
        versions: which are those of versions of layers, ``block1.X2@1``, or of X0, ``block1.X0``.
        edges: the canonical kernels that belong to pairs of layers.
    """

    computed: Computed
    tensors: Labels
    versions: Labels
    edges: frozenset[str]
    _calls: dict[str, list[Step]] = field(init=False)

    def __post_init__(self) -> None:
        self._calls = {}
        for step in self.computed.program.steps:
            if not self.computed.maps_read(step) or not self._results(step):
                continue
            for name in self.tensors_of(step):
                self._calls.setdefault(name, []).append(step)

    def calls(self, name: str) -> list[Step]:
        """The steps that use a canonical tensor, in order."""
        return self._calls.get(name, [])

    def tensors_of(self, step: Step) -> list[str]:
        """The canonical tensors that a step reads."""
        found: dict[str, None] = {}
        for number in step.reads:
            if number not in self.computed.held:
                continue
            names: dict[str, None] = {}
            for each in self.computed.prints.get(number, ()):
                names.update(dict.fromkeys(self.tensors.names(each)))
            found.update(names or dict.fromkeys(self.computed.held[number]))
        return list(found)

    def anchors(self, wanted: Mapping[str, int]) -> list[Step]:
        """The steps that are an update: each kernel's call of this number, of those in one place.

        Args:
            wanted: how many updates before this one use a tensor.
        """
        called = {
            name: self.calls(name)[ordinal]
            for name, ordinal in wanted.items()
            if ordinal < len(self.calls(name))
        }
        mixing = {name: step for name, step in called.items() if self._mixes(step)}
        chosen = mixing or called
        pairs = {name: step for name, step in chosen.items() if name in self.edges}
        groups: dict[int, list[Step]] = {}
        for step in (pairs or chosen).values():
            groups.setdefault(self.end(step), []).append(step)
        if not groups:
            return []
        # Kernels of pairs end in one sum; those of a layer follow each other, up to the last.
        best = max(groups.values(), key=len) if pairs else list(groups.values())[-1]
        found = {id(step): step for step in best}
        return [step for step in self.computed.program.steps if id(step) in found]

    def around(self, anchors: Iterable[Step]) -> list[Step]:
        """The steps from the versions that an update reads to its end."""
        found: dict[int, Step] = {}
        for step in anchors:
            self.reads(self.end(step), "", through=True, visited=found)
        return list(found.values())

    # ---- forward -------------------------------------------------------------------------

    def end(self, step: Step) -> int:
        """The value to which a step's result goes alone, through operators of each element."""
        computed = self.computed
        number = self._results(step)[0]
        while True:
            readers = computed.consumers.get(number, [])
            if len(readers) != 1 or self._mixes(readers[0]):
                return number
            results = self._results(readers[0])
            if not results or computed.shapes[results[0]] != computed.shapes[number]:
                return number
            number = results[0]

    def _results(self, step: Step) -> list[int]:
        held = self.computed.held
        return [n for n in step.writes if n in self.computed.prints and n not in held]

    def _mixes(self, step: Step) -> bool:
        return step.operator.startswith(_KERNELS)

    # ---- backward ------------------------------------------------------------------------

    def reads(
        self,
        number: int,
        block: str,
        *,
        through: bool = False,
        visited: dict[int, Step] | None = None,
    ) -> Reads:
        """Return the versions from which a value was computed.

        Args:
            number: the value.
            block: the block whose versions are preferred, where several are equal.
            through: do not stop at the value itself.
            visited: receives the steps between.
        """
        channels = tuple(range(len(self.computed.prints[number])))
        found: set[tuple[str, str | None]] = set()
        seen: set[tuple[int, tuple[int, ...], str | None]] = set()
        waiting: list[tuple[int, tuple[int, ...], str | None, bool]] = [
            (number, channels, None, through)
        ]
        while waiting and len(seen) < _DEPTH:
            at, some, kernel, skip = waiting.pop()
            if (at, some, kernel) in seen:
                continue
            seen.add((at, some, kernel))
            unknown = some
            if not skip:
                unknown = ()
                for channel in some:
                    version = self._version(self.computed.prints[at][channel], block)
                    if version is None:
                        unknown += (channel,)
                    else:
                        found.add((version, kernel))
            if unknown:
                if visited is not None and at in self.computed.producers:
                    step = self.computed.producers[at]
                    visited[id(step)] = step
                waiting += self._behind(at, unknown, kernel)
                if at == self.computed.program.images:
                    found.add(("the image", kernel))
        return frozenset(found)

    def _behind(
        self, at: int, channels: tuple[int, ...], kernel: str | None
    ) -> Iterable[tuple[int, tuple[int, ...], str | None, bool]]:
        """Yield what channels of a value were computed from, with the kernel behind them."""
        computed = self.computed
        step = computed.producers.get(at)
        if step is None:
            return
        if self._mixes(step):
            yield from self._through_kernels(step)
            return
        sources, left = computed.maps_read(step), set(channels)
        for source in sources:
            place = {each: n for n, each in enumerate(computed.prints[source])}
            here = [c for c in channels if computed.prints[at][c] in place and c in left]
            if here:
                yield source, tuple(place[computed.prints[at][c]] for c in here), kernel, False
                left.difference_update(here)
        rest = tuple(c for c in channels if c in left)
        for source in sources if rest else ():
            width = len(computed.prints[source])
            same = width == len(computed.prints[at])
            yield source, rest if same else tuple(range(width)), kernel, False

    def _through_kernels(
        self, step: Step
    ) -> Iterable[tuple[int, tuple[int, ...], str | None, bool]]:
        computed = self.computed
        sources = computed.maps_read(step)
        weights = [
            n for n in step.reads if n in computed.held and len(computed.shapes.get(n, ())) > 1
        ]
        for source in sources:
            width = len(computed.prints[source])
            of: dict[str | None, list[int]] = {}
            labels = computed.prints[weights[0]] if weights else ()
            for channel in range(width):
                names = self.tensors.names(labels[channel]) if len(labels) == width else []
                if not names and len(labels) == 1:
                    names = self.tensors.names(labels[0])
                name = next((each for each in names if each in self.edges), None)
                of.setdefault(name, []).append(channel)
            for name, some in of.items():
                yield source, tuple(some), name, False

    def _version(self, found: int, block: str) -> str | None:
        names = self.versions.names(found)
        own = [name for name in names if name.startswith(f"{block}.")]
        # X0 is an earlier block's version, too.
        return next(iter((*own, *names)), None)
