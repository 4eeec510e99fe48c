"""Exact comparison of a declaration with its op graph, after every pass of every level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.lowering.lower import lower
from cliquegraph.passes.fold import Fold, fold_tensors
from cliquegraph.passes.pipeline import INFERENCE, LEVELS, Pass, run_passes
from cliquegraph.semantics.exact import Candidate, Declared, Evidence, compare
from cliquegraph.semantics.field import PrimeField
from cliquegraph.semantics.reduce import least_size, narrower, resize
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.unroll import unroll

LANES = 6
"""Primes at once: for all shipped networks the bound is below 2⁻⁶⁰."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """The comparison of one graph.

    Attributes:
        passes: the passes that had run.
        size: height and width of the images.
        evidence: the result.
        seconds: the time it took.
    """

    passes: tuple[str, ...]
    size: tuple[int, int]
    evidence: Evidence
    seconds: float


def compare_exactly(
    network: NetworkSpec,
    *,
    levels: Iterable[tuple[Pass, ...]] | None = None,
    narrow: bool = False,
    seed: int = 0,
    report: Report = lambda line: None,
) -> Iterator[Stage]:
    """Compare a declaration with its op graph as lowered and after every pass.

    Channel counts are the network's; images are the smallest that it accepts.

    Args:
        network: the declaration.
        levels: the passes of each level; default: all, and those that fold.
        narrow: compare a narrower network of the same structure, if there is one.
        seed: of the primes and all random numbers.
        report: called with a line before each comparison, for progress.

    Yields:
        a stage for each graph, after its comparison.

    Raises:
        VerificationError: a graph differs; names the passes that had run, and the first
            difference in the order of execution.
    """
    lowered = lower(unroll(network))
    small_network = narrower(network, lowered, lambda each: lower(unroll(each))) if narrow else None
    if small_network is not None:
        network, lowered = small_network, lower(unroll(small_network))
    size = least_size(lowered)
    small = resize(lowered, *size)
    declared = Declared(network, small, PrimeField(seed, LANES))
    compared: dict[object, Evidence] = {}
    for passes, candidate in _candidates(small, levels or (*LEVELS.values(), INFERENCE)):
        report(words(passes))
        start = perf_counter()
        computed = _computed(candidate.graph)
        if computed not in compared:
            try:
                compared[computed] = compare(network, candidate, declared)
            except VerificationError as error:
                raise VerificationError(f"{words(passes)}: {error}") from None
        yield Stage(passes, size, compared[computed], perf_counter() - start)


def words(passes: tuple[str, ...]) -> str:
    """Describe the graph after these passes."""
    return f"after {' → '.join(passes)}" if passes else "as lowered"


def _computed(graph: Graph) -> object:
    """The part of a graph that determines its results; some passes change only annotations."""
    nodes = (*graph.nodes, *graph.idle)
    each = tuple((node.op, node.inputs, node.operands, node.outputs) for node in nodes)
    return each, graph.outputs


def _candidates(
    lowered: Graph, levels: Iterable[tuple[Pass, ...]]
) -> Iterator[tuple[tuple[str, ...], Candidate]]:
    """Every graph of a network, with the names of the passes that produced it."""
    graphs: dict[tuple[str, ...], Graph] = {(): lowered}
    yield (), Candidate(lowered)
    for passes in levels:
        done: tuple[str, ...] = ()
        for each in passes:
            before, done = done, (*done, each.name)
            if done in graphs:
                continue
            graphs[done] = run_passes(graphs[before], (each,))
            candidate = Candidate(graphs[done])
            if isinstance(each, Fold):
                fold = partial(fold_tensors, graphs[before])
                candidate = replace(candidate, unfolded=graphs[before], fold=fold)
            yield done, candidate
