"""Which passes run at each -O level, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.verify import verify_graph
from cliquegraph.passes.cse import ShareCommon
from cliquegraph.passes.dead import DropDeadSteps
from cliquegraph.passes.fold import Fold
from cliquegraph.passes.moments import ShareMoments
from cliquegraph.passes.pack import Pack
from cliquegraph.passes.pool import PoolFirst
from cliquegraph.passes.recompute import Recompute
from cliquegraph.passes.slabs import LayOut


class Pass(Protocol):
    """A rewrite of the graph that computes the same function from the same tensors."""

    @property
    def name(self) -> str:
        """The name in messages."""

    def apply(self, graph: Graph) -> Graph:
        """Return the rewritten graph; ``graph`` itself does not change."""


_SHARED = (ShareCommon(), Pack(), PoolFirst(), ShareMoments(), DropDeadSteps(), LayOut())

LEVELS: dict[int, tuple[Pass, ...]] = {
    0: (ShareCommon(), Pack()),
    1: _SHARED,
    2: (*_SHARED, Recompute()),
}
"""The passes of each level, in order.

Level 0 uses the framework's own modules; it merges convolutions that several updates repeat, and
packs kernels into banks.
"""

BEFORE_FOLD: tuple[Pass, ...] = (ShareCommon(), Pack(), PoolFirst(), DropDeadSteps())
INFERENCE: tuple[Pass, ...] = (*BEFORE_FOLD, Fold())
"""The passes for inference only; the result takes folded tensors."""

DEFAULT_LEVEL = 0


def passes_of(level: int) -> tuple[Pass, ...]:
    """Return the passes of a level.

    Raises:
        UsageError: there is no such level.
    """
    if type(level) is not int:
        raise UsageError(f"a level is an integer, such as 0, not {level!r}")
    if level not in LEVELS:
        known = ", ".join(f"-O{each}" for each in LEVELS)
        raise UsageError(f"there is no level -O{level}; this version has {known}")
    return LEVELS[level]


def run_passes(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Apply passes in order and verify the graph after each.

    Raises:
        VerificationError: a pass violated a rule; names the passes that had run.
    """
    done: list[str] = []
    for each in passes:
        graph = each.apply(graph)
        done.append(each.name)
        try:
            verify_graph(graph)
        except VerificationError as error:
            raise VerificationError(f"after {' → '.join(done)}: {error}") from None
    return graph


def optimise(graph: Graph, level: int = DEFAULT_LEVEL) -> Graph:
    """Return ``graph`` at an -O level.

    Args:
        graph: the op graph, ``cliquegraph.lower(cliquegraph.unroll(network))``.
        level: the -O level.

    Raises:
        UsageError: there is no such level.
    """
    require_type(graph, Graph, "cliquegraph.lower(cliquegraph.unroll(network))")
    return run_passes(graph, passes_of(level))
