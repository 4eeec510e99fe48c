"""Proves that a model that somebody wrote by hand is the declared network, or names where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, VerificationError, WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.types import MapType
from cliquegraph.plugins.backends import find_backend, installed
from cliquegraph.proof.bind import Binding, Generated
from cliquegraph.proof.compare import DifferenceError, Subject
from cliquegraph.proof.discern import Discerner
from cliquegraph.proof.exact import LANES
from cliquegraph.proof.locate import Located
from cliquegraph.proof.mapped import Mapped, needed
from cliquegraph.proof.models import failure
from cliquegraph.proof.points import BATCH, Points
from cliquegraph.proof.program import Program
from cliquegraph.proof.prove import (
    FileProof,
    Prover,
    Report,
    Traced,
    digests_of,
    trace_evaluation_gradients,
    unmoved,
    with_ways,
)
from cliquegraph.proof.traced import own_tensors, source_digest, tracer_of
from cliquegraph.proof.weights_map import Placement, of_layout, read_map
from cliquegraph.semantics.field import PrimeField
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.formats import OFFICIAL, TORCHVISION, formats
from cliquegraph.weights.layout import Format

NAMED_MAPS = (OFFICIAL, TORCHVISION)

_MOST_PIXELS = 64 * 64
"""A difference on small images is looked for on the declared ones too, up to this size."""

Mode = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Certified:
    """The comparison of a hand-written model with a declaration.

    Attributes:
        network: the declaration.
        model: the model's name.
        map: the weight map's name.
        proof: the comparison; of a model whose tensors are others, nothing was compared.
        findings: sentences on tensors that are missing, added or of another shape.
        notes: what else there is to say.
    """

    network: NetworkSpec
    model: str
    map: str
    proof: FileProof
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the model is the declared network."""
        return not self.findings and self.proof.ok

    @property
    def messages(self) -> tuple[str, ...]:
        """Sentences on what differs."""
        if self.findings:
            return self.findings
        return () if self.proof.difference is None else (str(self.proof.difference),)


def certify(
    network: NetworkSpec,
    model: Any,
    weights_map: str | Path | Sequence[Placement] | None = None,
    *,
    name: str | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    report: Report = lambda line: None,
) -> Certified:
    """Compare a hand-written model with a declaration: forward, backward and in what it keeps.

    Args:
        network: the declaration.
        model: an ``nn.Module``.
        weights_map: ``official``, ``torchvision``, a file, or placements; default: the model has
            the names of a generated file.
        name: the model's name in messages.
        size: height and width of the images; default: the smallest that the network takes.
        seed: of the primes and all random numbers.
        report: called with a line before each part, for progress.

    Raises:
        UsageError: it is no PyTorch model, or it raises an error itself.
        WeightsError: the weight map can't be read, or names what there is not.
        VerificationError: the model does what has no meaning in exact arithmetic.

    >>> import cliquegraph
    >>> network = cliquegraph.load("specs/quickstart.yaml")
    >>> certify(network, cliquegraph.build(network, "torch")()).ok
    True
    """
    return _Certifying(network, model, weights_map, name, seed, report).run(size)


class _Certifying:
    def __init__(
        self,
        network: NetworkSpec,
        model: Any,
        weights_map: str | Path | Sequence[Placement] | None,
        name: str | None,
        seed: int,
        report: Report,
    ) -> None:
        self._network, self._seed, self._report = network, seed, report
        self._compilation = Compilation(network, 0)
        self._tracer = tracer_of(model)
        self._name = name or type(model).__qualname__
        self._own = own_tensors(self._tracer)
        self._graph: Graph = self._compilation.lowered
        self._map, self._binding = self._bind(weights_map)
        self._source = source_digest(model)

    # ---- tensors -----------------------------------------------------------------------------

    def _bind(
        self, weights_map: str | Path | Sequence[Placement] | None
    ) -> tuple[str, Mapped | Generated]:
        lowered = self._compilation.lowered
        if weights_map is None:
            return self._generated()
        if not isinstance(weights_map, str | Path):
            return "placements", Mapped(lowered, self._own, weights_map, "the map")
        if weights_map in NAMED_MAPS:
            name = str(weights_map)
            each = max(formats(self._network, name), key=self._common)
            placed = of_layout(lowered, each.layout)
            return name, Mapped(lowered, self._own, placed, f"the names of {name}")
        path = Path(weights_map)
        return str(path), Mapped(lowered, self._own, read_map(path, lowered), str(path))

    def _common(self, each: Format) -> int:
        """How many names a format has in common with the model."""
        return len(each.shapes.keys() & {*self._own.shapes, *self._own.aliases})

    def _generated(self) -> tuple[str, Generated]:
        """The tensors of a model with a generated file's own names, at whichever level."""
        shapes = dict(self._own.shapes)
        candidates: list[Format] = []
        for name in installed():
            if hasattr(find_backend(name), "model_tracer"):
                candidates += formats(self._network, name)
        for each in candidates:
            if each.shapes == shapes:
                level = int(each.option.removeprefix("-O"))
                compilation = Compilation(self._network, level)
                self._graph = compilation.graph
                return each.option, Generated(compilation, each.layout)
        hint = "a weight map says which tensors are which: --weights-map official, torchvision or"
        for name in NAMED_MAPS:
            try:
                fits = any(each.shapes == shapes for each in formats(self._network, name))
            except WeightsError:  # the network has no such names
                continue
            if fits:
                hint = f"its names are those of --weights-map {name}, not"
                break
        raise WeightsError(
            f"{self._name} does not have the names of a file generated for {self._network.name}; "
            f"{hint} a file (docs/proof.md)"
        )

    # ---- comparison ----------------------------------------------------------------------------

    def run(self, size: tuple[int, int] | None) -> Certified:
        """Compare, on larger images if the model does not take small ones."""
        start = perf_counter()
        if isinstance(self._binding, Mapped):
            findings = self._binding.findings(needed(self._compilation.lowered))
            if findings:
                proof = self._nothing(size, perf_counter() - start)
                return Certified(self._network, self._name, self._map, proof, tuple(findings))
        image = self._network.input
        whole = (image.height, image.width)
        prover = Prover(self._compilation, self._seed, self._report, size)
        notes: list[str] = []
        try:
            proof = self._compare(prover, start)
        except _ModelError as error:
            if size is not None or prover.size == whole:
                raise UsageError(f"{self._name} {error}") from None
            notes.append(
                f"compared on images of {whole[0]}×{whole[1]}: on {prover.size[0]}×"
                f"{prover.size[1]} the model {error}"
            )
            proof = self._on_whole(whole, start)
        else:
            small = prover.size != whole and size is None
            if proof.difference is None and small:
                proof = self._evaluate_whole(proof, whole, start)
            elif small and whole[0] * whole[1] <= _MOST_PIXELS:
                proof, notes = self._again(proof, whole, start)
        return Certified(self._network, self._name, self._map, proof, notes=tuple(notes))

    def _evaluate_whole(self, found: FileProof, whole: tuple[int, int], start: float) -> FileProof:
        """Compare what one image of the declared size gives: a model may have sizes of its own."""
        self._report(f"{self._name}: one image of {whole[0]}×{whole[1]}")
        shape = (1, self._network.input.channels, *whole)
        try:
            program = self._trace(shape, "evaluation")
        except _ModelError as error:
            raise UsageError(f"{self._name} on images of {whole[0]}×{whole[1]} {error}") from None
        exact = PrimeField(self._seed, 2)
        points = Points(self._network, self._compilation.lowered, whole, exact, batch=1)
        subject = Subject(
            self._graph, self._binding, self._tracer.parameters, program, None, by_hand=True
        )
        try:
            subject.compare(points)
        except DifferenceError as different:
            located = self._discerner(subject, shape).locate(different, points)
            message = f"on images of {whole[0]}×{whole[1]}, {located.message}"
            found = replace(found, difference=Located(message, located.line))
        return replace(found, seconds=perf_counter() - start)

    def _discerner(self, subject: Subject, shape: tuple[int, int, int, int]) -> Discerner:
        return Discerner(self._compilation, subject, partial(self._trace, shape))

    def _on_whole(self, whole: tuple[int, int], start: float) -> FileProof:
        try:
            return self._compare(Prover(self._compilation, self._seed, self._report, whole), start)
        except _ModelError as error:
            raise UsageError(f"{self._name} {error}") from None

    def _again(
        self, found: FileProof, whole: tuple[int, int], start: float
    ) -> tuple[FileProof, list[str]]:
        """Compare on images of the declared size what differs on small ones."""
        proof = self._on_whole(whole, start)
        if proof.difference is not None:
            return proof, []
        small = f"{found.size[0]}×{found.size[1]}"
        return proof, [f"on images of {small} it differs: {found.difference}"]

    def _compare(self, prover: Prover, start: float) -> FileProof:
        image = self._compilation.lowered.input.type
        assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
        shape = (BATCH, image.channels, *prover.size)
        self._report(f"{self._name}: trace")
        evaluation = self._trace(shape, "evaluation")
        training = self._training(evaluation, prover, shape)
        traced = [Traced(evaluation, training)]
        if training is not None:
            gradients = trace_evaluation_gradients(partial(self._tracer.trace, shape))
            traced = [Traced(evaluation, training, *gradients)]
            if self._tracer.chooses:
                traced.append(Traced.of(partial(self._trace, shape, derives=True)))
        binding: Binding = self._binding
        subject = with_ways(
            traced,
            lambda each: Subject(
                self._graph,
                binding,
                self._tracer.parameters,
                each.evaluation,
                each.training,
                frozenset() if training is None else self._unmoved(training),
                by_hand=True,
                evaluation_gradients=each.derived,
            ),
        )
        self._report(f"{self._name}: compare")
        discerner = self._discerner(subject, shape)

        def find(different: DifferenceError, at: Points) -> Located:
            self._require_distinct(different, subject, prover)
            self._report(f"{self._name}: look for the first difference")
            return discerner.locate(different, at)

        found = prover.compare(subject, find)
        failed = next((each.failed for each in traced if each.failed), "")
        if failed and found.difference is None:
            found = replace(found, difference=Located(failed))
        trace, gradients_trace = digests_of(traced)
        return FileProof(
            backend=self._name,
            option=self._map,
            size=prover.size,
            operators=traced[0].operators,
            file=self._source,
            trace=trace,
            gradients_trace=gradients_trace,
            compared=found.numbers,
            points=found.points,
            bound=found.bound,
            difference=found.difference,
            seconds=perf_counter() - start,
        )

    def _training(
        self, evaluation: Program, prover: Prover, shape: tuple[int, int, int, int]
    ) -> Program | None:
        """The program in training; None if it can't be evaluated, but that in evaluation differs.

        Raises:
            VerificationError: it can't be evaluated.
        """
        try:
            return self._trace(shape, "training", gradients=True)
        except VerificationError:
            lowered = self._compilation.lowered
            points = Points(self._network, lowered, prover.size, PrimeField(self._seed, LANES))
            subject = Subject(
                self._graph, self._binding, self._tracer.parameters, evaluation, None, by_hand=True
            )
            try:
                subject.compare(points)
            except DifferenceError:
                return None
            raise

    def _require_distinct(
        self, different: DifferenceError, subject: Subject, prover: Prover
    ) -> None:
        """Raise if all that differs is which random choice is whose."""
        draws = (
            [step for step in subject.training.steps if "bernoulli" in step.operator]
            if (subject.training)
            else []
        )
        if len(draws) < 2 or "evaluation" in different.what:
            return
        exact = PrimeField(self._seed, LANES)
        lowered = self._compilation.lowered
        alike = Points(self._network, lowered, prover.size, exact, alike=True)
        try:
            subject.compare(alike)
        except DifferenceError:
            return
        raise VerificationError(
            f"{self._name} draws random numbers in another order than declared, and which are "
            "whose can't be told; with equal ones it is the declared network. Draw in the order of "
            "the schedule, or set the rates to 0 with --set and in the model"
        )

    def _trace(
        self,
        shape: tuple[int, int, int, int],
        mode: Mode,
        *,
        gradients: bool = False,
        derives: bool = False,
    ) -> Program:
        try:
            program = self._tracer.trace(shape, mode, gradients=gradients, derives=derives)
        except VerificationError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the user's code raises
            raise _ModelError(f"fails: {failure(error)}") from None
        return replace(program, features=()) if not self._has_features(program) else program

    def _has_features(self, program: Program) -> bool:
        """Whether what the model returns beside logits are the block features."""
        return len(program.features) == len(self._graph.features)

    def _unmoved(self, training: Program) -> frozenset[str]:
        """Statistics of unused updates, if the model does not execute them either."""
        written = {number for step in training.steps for number in step.mutates}
        still = {
            canonical
            for name, number in training.tensors.items()
            if number not in written and training.after.get(name) == number
            for canonical in self._binding.canonical(name)
        }
        placed = {c for name in self._own.shapes for c in self._binding.canonical(name)}
        idle = unmoved(self._compilation.lowered)
        return idle & (still | (idle - placed)) if self._map else idle

    def _nothing(self, size: tuple[int, int] | None, seconds: float) -> FileProof:
        """The proof of a model that was not compared."""
        image = self._network.input
        return FileProof(
            self._name,
            self._map,
            size or (image.height, image.width),
            (0, 0),
            self._source,
            "",
            {},
            (),
            1.0,
            None,
            seconds,
        )


class _ModelError(Exception):
    """The model raised an error."""
