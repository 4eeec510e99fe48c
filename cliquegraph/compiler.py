"""The compiler's pipeline from spec to source, for the command line and the Python API."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import wrap

from cliquegraph.analysis.cost import NetworkCost, network_cost
from cliquegraph.analysis.expect import Comparison, compare_expected, mismatch
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, ExpectError, SpecError, VerificationError
from cliquegraph.emit.outline import outline
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.storage import Array
from cliquegraph.lowering.lower import lower
from cliquegraph.passes.fold import fold_tensors
from cliquegraph.passes.pipeline import (
    BEFORE_FOLD,
    DEFAULT_LEVEL,
    INFERENCE,
    LEVELS,
    optimise,
    run_passes,
)
from cliquegraph.plugins.backends import Backend, backend_of
from cliquegraph.semantics.arithmetic import FLOAT64, Arithmetic
from cliquegraph.semantics.exact import Candidate, Evidence
from cliquegraph.semantics.reduce import compare_reduced, least_size
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import FOLDED, NetworkSpec
from cliquegraph.steps.graph import StepGraph
from cliquegraph.steps.sharing import DECIDING, Proof, prove_sharing
from cliquegraph.steps.unroll import unroll

_MOST_PIXELS = 512 * 512
"""Bound on the smallest images that exercise all of a network; CliqueNet-S3 needs 61 × 61."""


@dataclass(frozen=True)
class Compilation:
    """A network being compiled: each stage is computed when it is first needed.

    With ``inference`` the graph is folded for evaluation only, at any level; its tensors are
    those that ``folded`` returns.
    """

    network: NetworkSpec
    level: int = DEFAULT_LEVEL
    inference: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", load(self.network))  # a path or a dictionary, too

    @property
    def options(self) -> tuple[str, ...]:
        """The command-line options that select this graph."""
        return ("--inference",) if self.inference else (f"-O{self.level}",)

    @property
    def module_name(self) -> str:
        """The file name without its suffix."""
        return f"{self.network.name}{FOLDED}" if self.inference else self.network.name

    @cached_property
    def steps(self) -> StepGraph:
        """The step graph."""
        return unroll(self.network)

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that a readout over time reads; none, if it reads the block feature alone."""
        return tuple(reading.stage for reading in self.steps.blocks[-1].readings)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the network that have tensors, in order: ``stem``, ``block1``, ..."""
        sections = dict.fromkeys(tensor.slot.section for tensor in self.lowered.tensors)
        return tuple(map(str, sections))

    @cached_property
    def lowered(self) -> Graph:
        """The op graph as lowered, before any pass."""
        return lower(self.steps)

    @cached_property
    def graph(self) -> Graph:
        """The op graph at the -O level, or folded."""
        if self.inference:
            return run_passes(self.lowered, INFERENCE)
        return optimise(self.lowered, self.level)

    def folded(
        self, tensors: Mapping[str, Array], arithmetic: Arithmetic = FLOAT64
    ) -> dict[str, Array]:
        """Return the tensors of the folded graph, by name, computed from the network's.

        Raises:
            WeightsError: ``tensors`` do not match the network.
        """
        return fold_tensors(run_passes(self.lowered, BEFORE_FOLD), tensors, arithmetic)

    @property
    def _candidate(self) -> Candidate:
        """The graph to compare with the declaration."""
        if self.inference:
            return Candidate(self.graph, self.lowered, self.folded)
        return Candidate(self.graph)

    @cached_property
    def evidence(self) -> Evidence:
        """The result of an exact comparison of the graph with the declaration.

        The comparison runs on a graph of the same structure with fewer channels and smaller
        images, or on this graph if there is none.

        Raises:
            VerificationError: the graph does not compute what is declared.
        """
        return compare_reduced(
            self.network,
            self._candidate,
            lambda network: replace(self, network=network)._candidate,
        )

    @cached_property
    def cost(self) -> NetworkCost:
        """Parameters, MACs and activations as declared, from the op graph before any pass."""
        return network_cost(self.lowered)

    @cached_property
    def executed_macs(self) -> int:
        """MACs of one image that the compiled model executes; passes save some of the declared."""
        return sum(node.macs for node in self.graph.nodes)

    @cached_property
    def executed_by_level(self) -> dict[int, int]:
        """MACs of one image that a model executes at each -O level."""
        graph, done, executed = self.lowered, 0, {}
        for level, passes in LEVELS.items():  # each begins with the passes of the level below
            graph, done = run_passes(graph, passes[done:]), len(passes)
            executed[level] = sum(node.macs for node in graph.nodes)
        return executed

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The figures of ``expect`` with the computed ones."""
        return compare_expected(self.network, self.cost.total)

    @cached_property
    def proof(self) -> Proof:
        """The proof that weights are shared as declared."""
        return prove_sharing(self.steps)

    def require_proved(self) -> None:
        """Raise a ``VerificationError`` unless the rules of sharing that imply the others hold."""
        failures = prove_sharing(self.steps, DECIDING).failures
        broken = [f"block {c.block}, {c.rule}: {c.detail}" for c in failures]
        if broken:
            raise VerificationError("the sharing of weights is not proved: " + "; ".join(broken))

    def require_equal(self) -> None:
        """Raise a ``VerificationError`` unless the graph computes what is declared.

        Skipped where even the smallest images are too large to evaluate, after a dozen halvings
        of a map.
        """
        height, width = least_size(self.graph)
        if height * width <= _MOST_PIXELS:
            _ = self.evidence

    def require_expected(self) -> None:
        """Raise an ``ExpectError`` unless every figure of ``expect`` matches."""
        failed = [each for each in self.comparisons if not each.holds]
        if failed:
            raise ExpectError(mismatch(self.network, each) for each in failed)

    def source(self, backend: Backend, origin: Sequence[str] = ()) -> str:
        """Return the network as a backend's source.

        Args:
            backend: the backend.
            origin: header lines that name the spec and the command that generated the file.

        Raises:
            VerificationError: the sharing of weights can't be proved, or the graph does not
                compute what is declared.
            ExpectError: a figure of ``expect`` does not match.
            SpecError: a name clashes with one that the backend's files use.
        """
        self.require_proved()
        self.require_expected()
        self.require_equal()
        self._require_free_names(backend)
        header = ["Generated by cliquegraph. Do not edit: change the spec and compile again."]
        if self.inference:
            header.append("For evaluation only: takes folded tensors (cliquegraph.fold).")
        header += [*origin, *self._drawn(), *self._figures()]
        graph = (
            self.graph if getattr(backend, "has_slabs", False) else replace(self.graph, slabs=())
        )
        return backend.write(outline(self.steps, graph, header, backend.reserved))

    def _require_free_names(self, backend: Backend) -> None:
        network = self.network
        if network.python_class in backend.reserved | set(dir(builtins)):
            key = "class_name" if network.class_name else "name"
            clash = f"the class {network.python_class} would shadow a name that"
        elif self.module_name in backend.modules:
            key, clash = "name", f"the file {self.module_name}.py would shadow a module that"
        else:
            return
        where, hint = network.locate(key), f"choose another {key}"
        if key == "name" and self.module_name not in backend.modules:
            hint = "choose another name, or set class_name"
        message = f"{clash} {backend.name} files use"
        raise SpecError(Diagnostic(Code.RESERVED_NAME, message, where, hint))

    def _drawn(self) -> list[str]:
        """The topologies that were drawn at random."""
        blocks = [(block.index, block.declared.words.drawn) for block in self.steps.blocks]
        lines = (f"    block {index} drawn: {drawn}" for index, drawn in blocks if drawn)
        return [part for line in lines for part in wrap(line, 100, subsequent_indent=" " * 8)]

    def _figures(self) -> list[str]:
        total = self.cost.total
        expected = ", ".join(f"{each.key} {each.expected}" for each in self.comparisons)
        return [
            f"    op graph:   sha256 {self.lowered.digest()}",
            f"    computed:   {total.parameters:,} parameters, {total.macs:,} MACs",
            *([f"    expected:   {expected}"] if expected else []),
        ]


def compile(  # `cliquegraph.compile` is what users type
    network: Declaration,
    backend: str | Backend,
    *,
    level: int = DEFAULT_LEVEL,
    inference: bool = False,
) -> str:
    """Compile a network and return its source.

    Args:
        network: whatever ``load`` takes: a network, a path, a dictionary.
        backend: the name of an installed backend, or a backend.
        level: the -O level.
        inference: fold what is constant in evaluation; the level is then ignored.

    Raises:
        SpecError: invalid shapes, or a class name that the backend's files use.
        ExpectError: a figure of ``expect`` does not match.
        BackendError: there is no such backend.
        UsageError: there is no such level.
        VerificationError: the sharing of weights can't be proved, a pass broke the graph, or the
            graph does not compute what is declared.

    >>> import cliquegraph
    >>> source = cliquegraph.compile("specs/quickstart.yaml", "torch")
    >>> "class Quickstart(nn.Module):" in source
    True
    """
    return Compilation(load(network), level, inference).source(backend_of(backend))


def fold(network: Declaration, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors of a network compiled with ``inference``, by name.

    Args:
        network: whatever ``load`` takes.
        tensors: its canonical tensors, by name.

    Raises:
        WeightsError: ``tensors`` do not match the network.
    """
    return Compilation(load(network), inference=True).folded(tensors)
