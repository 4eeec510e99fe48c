"""Numerical verification that the interpreter and every backend compute the same network.

All of them run on the same random weights, images and labels in float64: forward passes in
evaluation and training, gradients, running statistics, three SGD steps. The interpreter is the
reference for forward values; gradients and SGD steps are compared between backends, and above
-O0 with the first backend's at -O0, where its framework computes them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import BackendError, UsageError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Origin
from cliquegraph.ir.ops import Dropout, JoinWeights, Keep
from cliquegraph.ir.storage import Array, Labels
from cliquegraph.ir.types import MapType, Part
from cliquegraph.passes.pipeline import DEFAULT_LEVEL
from cliquegraph.plugins.backends import Backend, Executor, find_backend, installed
from cliquegraph.proof.rounding import RandomRounding
from cliquegraph.proof.verification import (
    TOLERANCE,
    TOLERANCE_FLOAT32,
    Verification,
    errors_of,
    relative_error,
)
from cliquegraph.semantics.interpret import Mask, Result, interpret
from cliquegraph.spec.load import Declaration, load
from cliquegraph.weights.sample import sample_tensors

_LAST_DIGITS = 10  # rounding of two backends may differ as much as that many ulps in the weights
_RANDOM_ROUNDINGS = 3  # of every result of a history, by chance up and down
_ROUNDINGS = 10  # bound on a float32 pass's error, in multiples of rounding its inputs alone
SGD_STEPS = 3

Report = Callable[[str], None]
History = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class Trial:
    """The random inputs, the same for all."""

    tensors: dict[str, Array]
    images: Array
    labels: Labels
    masks: tuple[Array, ...]
    """factors of branches with drop-path, and weights of joins: nonzero, so that none is dropped"""

    def chance(self, lowered: Graph) -> Mask:
        """Return the outcome of random choices: dropout does nothing, masks are the given ones."""
        drawing = (node for node in lowered.nodes if isinstance(node.op, Keep | JoinWeights))
        masks = dict(zip(drawing, self.masks, strict=True))
        return lambda node, x: masks.get(node, x)


def verify(
    network: Declaration,
    backends: Sequence[str] | str | None = None,
    *,
    level: int = DEFAULT_LEVEL,
    inference: bool = False,
    seed: int = 0,
    batch: int = 4,
    report: Report = lambda line: None,
) -> Verification:
    """Compare the interpreter and backends on one network.

    Args:
        network: whatever ``load`` takes.
        backends: a name or several; default: every installed backend whose framework is installed.
        level: the -O level.
        inference: verify the folded network, in evaluation only.
        seed: of the random weights, images and labels.
        batch: number of images.
        report: called with a line before each part, for progress.

    Raises:
        BackendError: a requested backend is missing, or none is available.
        UsageError: no backend is named, the batch is smaller than 2, or there is no such level.
        SpecError: invalid shapes, or a class name that a backend's files use.
        ExpectError: a figure of ``expect`` does not match.
        VerificationError: the sharing of weights can't be proved, or a pass broke the graph.

    >>> import cliquegraph
    >>> cliquegraph.verify("specs/quickstart.yaml", ["torch"]).ok
    True
    """
    if batch < 2:
        raise UsageError("a batch of 1 may leave one value per channel, which has no variance")
    chosen = choose_backends([backends] if isinstance(backends, str) else backends)
    network = load(network)
    compilation = Compilation(network, level, inference)
    # The interpreter runs the lowered graph: a wrong pass must not be its own reference.
    lowered, graph = compilation.lowered, compilation.graph
    trial = _trial(lowered, lowered if inference else graph, seed, batch)
    result = Verification(network.name, tuple(backend.name for backend in chosen))
    result.expected_parameters = (
        _trainable(graph) if inference else compilation.cost.total.parameters
    )
    if any(isinstance(node.op, Dropout) for node in lowered.nodes):
        result.skipped.append("dropout is switched off, since its masks differ between frameworks")
    unused = _unused_statistics(graph)
    if unused:
        result.skipped.append("unused updates are not executed: their statistics do not change")

    canonical = trial.tensors
    report("interpreter, evaluation")
    expected = {False: interpret(lowered, trial.tensors, trial.images)}
    result.tolerance_float32 = _float32_tolerance(lowered, trial, expected[False])
    if inference:
        result.skipped.append("training, gradients and statistics: a folded network has none")
        trial = replace(trial, tensors=compilation.folded(trial.tensors))
        unused = set(expected[False].running)
    else:
        report("interpreter, training")
        chance = trial.chance(lowered)
        expected[True] = interpret(lowered, trial.tensors, trial.images, training=True, mask=chance)

    histories = {}
    literal, first = Compilation(network, 0), chosen[0]
    if compilation.level and not inference:
        report(f"{first.name} -O0, gradients and {SGD_STEPS} SGD steps")
        executor = _executor(first, literal, "float64", trial)
        histories[f"{first.name} -O0"] = dict(_history(executor, trial, unused))
    for backend in chosen:
        report(f"{backend.name}, forward")
        executor = _executor(backend, compilation, "float64", trial)
        _compare_count(result, backend.name, executor)
        for training, reference in expected.items():
            place = f"{backend.name}, {'training' if training else 'evaluation'}"

            @cache
            def neighbors(training: bool = training) -> tuple[Result, ...]:
                mask = chance if training else None
                nudged = tuple(
                    interpret(lowered, each, _nudged(trial.images), training=training, mask=mask)
                    for each in _neighbors(canonical)
                )
                rounded = interpret(
                    lowered,
                    canonical,
                    trial.images,
                    training=training,
                    mask=mask,
                    arithmetic=RandomRounding(),
                )
                return *nudged, rounded

            _compare_forward(
                result, place, executor, lowered, trial, reference, training, unused, neighbors
            )
        if not inference:
            report(f"{backend.name}, gradients and {SGD_STEPS} SGD steps")
            histories[backend.name] = dict(_history(executor, trial, unused))
        report(f"{backend.name}, float32")
        single = _executor(backend, compilation, "float32", trial)
        single.load(trial.tensors)
        logits = single.forward(trial.images, training=False).logits
        result.note_float32("logits, evaluation", logits, expected[False].logits)
    if not inference:

        @cache
        def histories_of_neighbors() -> tuple[History, ...]:
            executor = _executor(first, literal, "float64", trial)
            trials = (replace(trial, tensors=each) for each in _neighbors(trial.tensors))
            found = [dict(_history(executor, each, unused)) for each in trials]
            # A backend of somebody else may lack the method.
            for seed_of_rounding in range(_RANDOM_ROUNDINGS * hasattr(executor, "round_at_random")):
                executor.round_at_random(seed_of_rounding)
                found.append(dict(_history(executor, trial, unused)))
            return tuple(found)

        _compare_histories(result, histories, histories_of_neighbors)
    return result


def _executor(backend: Backend, compilation: Compilation, dtype: str, trial: Trial) -> Executor:
    name, graph = compilation.network.python_class, compilation.graph
    if not hasattr(backend, "executor"):
        raise BackendError(f"backend {backend.name!r} has no executor, which verify needs")
    executor = backend.executor(compilation.source(backend), name, graph, dtype)
    if trial.masks and not compilation.inference:
        executed = set(_draws(graph))  # unused updates are not
        draws = zip(_draws(compilation.lowered), trial.masks, strict=True)
        executor.set_masks([mask for draw, mask in draws if draw in executed])
    return executor


def _draws(graph: Graph) -> Iterator[tuple[Origin, int]]:
    """Where a graph draws masks, by the node's place and its number there."""
    count: Counter[Origin] = Counter()
    for node in graph.nodes:
        if isinstance(node.op, Keep | JoinWeights):
            yield node.origin, count[node.origin]
            count[node.origin] += 1


def choose_backends(names: Sequence[str] | None) -> list[Backend]:
    """Return backends by name; for None, all whose framework is installed.

    Raises:
        BackendError: a requested one is missing, or none is available.
        UsageError: no backend is named.
    """
    if names is not None:
        if not names:
            raise UsageError("name at least one backend to verify")
        chosen = [find_backend(name) for name in dict.fromkeys(names)]
        for backend in chosen:
            if how := backend.missing():
                raise BackendError(f"backend {backend.name!r} lacks its framework: {how}")
        return chosen
    backends = [find_backend(name) for name in installed()]
    chosen = [backend for backend in backends if backend.missing() is None]
    if not chosen:
        ways = ", or ".join(f"{how} ({each.name})" for each in backends if (how := each.missing()))
        raise BackendError(f"no backend can run: {ways or 'none is installed'}")
    return chosen


def _float32_tolerance(graph: Graph, trial: Trial, expected: Result) -> float:
    """Return the tolerance for float32.

    A deep network with random weights amplifies rounding, CliqueNet-S3 a thousandfold. This is
    measured by rounding only weights and images to float32 and computing in float64.
    """

    def rounded(array: Array) -> Array:
        return array.astype(np.float32).astype(np.float64)

    tensors = {name: rounded(array) for name, array in trial.tensors.items()}
    logits = interpret(graph, tensors, rounded(trial.images)).logits
    amplified = relative_error({"": logits}, {"": expected.logits})
    return max(TOLERANCE_FLOAT32, _ROUNDINGS * amplified)


def _trial(lowered: Graph, graph: Graph, seed: int, batch: int) -> Trial:
    """Draw random inputs for a network; statistics that ``graph`` stores once are equal."""
    rng = np.random.default_rng(seed)
    image = lowered.input.type
    assert isinstance(image, MapType)  # noqa: S101  # Input infers no other
    images = rng.normal(size=(batch, image.channels, image.height, image.width))
    labels = rng.integers(0, graph.logits.type.channels, batch)
    shapes: list[tuple[int, ...]] = []
    for node in lowered.nodes:
        if isinstance(node.op, Keep):
            shapes.append((batch if node.op.per_image else 1, 1, 1, 1))
        elif isinstance(node.op, JoinWeights):
            shapes.append((node.op.count,))
    masks = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    return Trial(sample_tensors(graph, seed), images, labels, tuple(masks))


def _unused_statistics(graph: Graph) -> set[str]:
    """Return names of running statistics of updates that are not executed: they don't change."""
    read = {operand.param for node in graph.nodes for operand in node.operands}
    return {
        tensor_name(piece.tensor)
        for param in graph.params
        if param not in read and not param.field.trainable
        for pieces in param.holdings
        for piece in pieces
    }


def _trainable(graph: Graph) -> int:
    return sum(tensor.size for tensor in graph.tensors if tensor.field.trainable)


def _compare_count(result: Verification, name: str, executor: Executor) -> None:
    count = result.parameters[name] = executor.parameters()
    if count != result.expected_parameters and result.first_difference is None:
        result.first_difference = (
            f"{name}: the model has {count:,} parameters, "
            f"but the network {result.expected_parameters:,}"
        )


def _compare_forward(
    result: Verification,
    place: str,
    executor: Executor,
    graph: Graph,
    trial: Trial,
    expected: Result,
    training: bool,
    unused: Collection[str],
    neighbors: Callable[[], Sequence[Result]],
) -> None:
    """Compare a forward pass; inconclusive where rounding is amplified, as for histories."""
    mode = "training" if training else "evaluation"
    executor.load(trial.tensors)
    outputs = executor.forward(trial.images, training=training)
    kept = executor.tensors()

    def parts(one: Result) -> dict[str, dict[str, Array]]:
        moved = {key: array for key, array in one.running.items() if key not in unused}
        return {
            f"logits, {mode}": {"": one.logits},
            f"block features, {mode}": _numbered(one.features),
            **({f"running statistics, {mode}": moved} if moved else {}),
        }

    actual = {
        f"logits, {mode}": {"": outputs.logits},
        f"block features, {mode}": _numbered(outputs.features),
    }
    for what, right in parts(expected).items():
        computed = actual.get(what) or {key: array for key, array in kept.items() if key in right}
        if not _is_inconclusive(
            result,
            what,
            computed,
            right,
            lambda: [parts(each)[what] for each in neighbors()],  # noqa: B023
        ):
            result.note(what, computed, right)
    if not result.ok and result.first_difference is None:
        executor.load(trial.tensors)
        traced = executor.trace(trial.images, training=training)
        result.first_difference = f"{place}: {_first_difference(graph, traced, expected)}"


def _numbered(arrays: Sequence[Array]) -> dict[str, Array]:
    return {str(index): array for index, array in enumerate(arrays)}


def _first_difference(
    graph: Graph, traced: Mapping[tuple[str, str], Array], expected: Result
) -> str:
    """Describe the first value that differs; generated code uses the compiler's names."""
    last = {node.origin.section: node for node in graph.nodes}
    for node in graph.nodes:
        section = node.origin.section
        if section.part is Part.BLOCK:
            key = (str(section), node.output.hint)
        elif section.part is Part.CLASSIFIER:
            key = ("", node.output.hint)
        elif node is last[section]:
            key = (str(section), "x" if isinstance(node.output.type, MapType) else "z")
        else:
            continue
        if key not in traced:
            continue
        error = relative_error({"": traced[key]}, {"": expected.values[node.output]})
        if error > TOLERANCE:
            where = " of ".join(part for part in (key[1], key[0]) if part)
            return f"the first value that differs is {where}, by {error:.1e} ({node.origin})"
    return "no single value differs; what is returned or kept as running statistics does"


def _history(
    executor: Executor, trial: Trial, unused: Collection[str]
) -> Iterator[tuple[str, dict[str, Array]]]:
    executor.load(trial.tensors)
    loss, gradients = executor.gradients(trial.images, trial.labels)
    yield "gradients", gradients
    executor.load(trial.tensors)
    losses = [executor.sgd_step(trial.images, trial.labels) for _ in range(SGD_STEPS)]
    yield "losses", {"": np.array([loss, *losses])}
    after = {key: array for key, array in executor.tensors().items() if key not in unused}
    yield f"weights after {SGD_STEPS} SGD steps", after


def _neighbors(tensors: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Yield the next larger and the next smaller values; equal values stay equal.

    In one direction alone, rounding may cancel.
    """
    for end in (np.inf, -np.inf):
        yield {name: np.nextafter(array, end) for name, array in tensors.items()}


def _nudged(images: Array) -> Array:
    """Images with each pixel's last digit changed, up or down at random: no scaling undoes that."""
    up = np.random.default_rng(0).random(images.shape) < 0.5
    return np.nextafter(images, np.where(up, np.inf, -np.inf))


def _is_inconclusive(
    result: Verification,
    what: str,
    computed: Mapping[str, Array],
    expected: Mapping[str, Array],
    of_neighbors: Callable[[], Sequence[Mapping[str, Array]]],
) -> bool:
    """Tell whether rounding explains a difference, and note so.

    It does if the difference is at most ten times what changing last digits does: of each weight,
    and of each intermediate result.
    """
    error = relative_error(computed, expected)
    if not TOLERANCE < error < math.inf:  # non-finite values are not rounding
        return False
    amplified = max(relative_error(each, expected) for each in of_neighbors())
    if not error <= _LAST_DIGITS * amplified < math.inf:
        return False
    note = (
        f"{what}: changing last digits changes them by {amplified:.0e}, "
        "so the comparison is inconclusive"
    )
    if note not in result.unjudged:
        result.unjudged.append(note)
    return True


def _compare_histories(
    result: Verification,
    histories: Mapping[str, History],
    histories_of_neighbors: Callable[[], Sequence[History]],
) -> None:
    """Compare gradients and SGD steps with those of the first history.

    Gradients of a network with dead units are pure rounding, amplified by each normalization of a
    constant. If the distance between two histories is at most ten times what changing the last
    digit of each weight, or of each result, does to the first one, it is inconclusive.
    """
    names = list(histories)
    if len(names) < 2:
        result.skipped.append("gradients and SGD steps: there is no second backend to compare with")
        return
    for other in names[1:]:
        for what, expected in histories[names[0]].items():
            computed = histories[other][what]
            if _is_inconclusive(
                result,
                what,
                computed,
                expected,
                lambda: [h[what] for h in histories_of_neighbors()],  # noqa: B023
            ):
                continue
            result.note(what, computed, expected)
            wrong = [(name, e) for name, e in errors_of(computed, expected) if e > TOLERANCE]
            if wrong and result.first_difference is None:
                name, error = wrong[0]
                place = f"{what} of {name}" if name else what
                result.first_difference = (
                    f"{other}, training: {place} differ from {names[0]}'s by {error:.1e}"
                )
