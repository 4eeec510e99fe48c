"""How far two variants of a network differ, and whether rounding explains it. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.bundled.networks import Array
from benchmarks.bundled.rounds import Json, significant

EXACT = 1e-8
"""The tolerance of float64."""

# Like verify: the error of a tensor far below its group's largest is relative to a share of that.
_FLOOR = 1e-3
# Rounding error relative to -O0's that another order of the same operations may have.
_FACTOR, _STEPS = 4, 8
# Where -O0 itself is so far from the exact values, the result is inconclusive.
_HOPELESS = 0.25
# In half types some small tensor always has a large error, and a loss is close by chance.
_JUDGED = ("logits", "all_gradients", "statistics")


@dataclass(frozen=True)
class Outcome:
    """What a variant computed, in canonical tensors, float64."""

    logits: Array
    loss: float
    gradients: Mapping[str, Array] = field(default_factory=dict)
    statistics: Mapping[str, Array] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, Mapping[str, Array]]:
        """Its tensors by group; a folded network has only the first two."""
        groups = {
            "logits": {"": self.logits},
            "loss": {"": np.array(self.loss)},
            "gradients": self.gradients,
            "statistics": self.statistics,
        }
        return {what: tensors for what, tensors in groups.items() if tensors}


@dataclass(frozen=True)
class Comparison:
    """The errors of an outcome.

    Attributes:
        errors: the largest relative error of any tensor of a group; ``all_gradients``: of all of
            them as one vector, by its length.
        worst_gradient: the gradient tensor with the largest error.
    """

    errors: Mapping[str, float]
    worst_gradient: str | None

    @property
    def finite(self) -> bool:
        """Whether every value is finite."""
        return all(map(math.isfinite, self.errors.values()))

    def agrees(self, rounding: Comparison, eps: float) -> bool | None:
        """Tell whether rounding explains all errors; None: inconclusive.

        Args:
            rounding: the comparison of -O0 in the same types with -O0 in float64.
            eps: of the type; float64's demands ``EXACT``.
        """
        if eps < np.finfo(np.float32).eps:
            return all(error <= EXACT for error in self.errors.values())
        judged = [what for what in _JUDGED if what in self.errors]
        known = {what: rounding.errors.get(what, math.inf) for what in judged}
        conclusive = [what for what in judged if known[what] <= _HOPELESS]
        if any(self.errors[what] > _FACTOR * known[what] + _STEPS * eps for what in conclusive):
            return False
        return True if judged == conclusive else None

    def described(self) -> Json:
        """Return it as part of a result line."""
        errors = {what: significant(value, 3) for what, value in self.errors.items()}
        worst = {"worst_gradient": self.worst_gradient} if self.worst_gradient else {}
        return {"errors": errors, **worst, "finite": self.finite}


def compare(outcome: Outcome, expected: Outcome) -> Comparison:
    """Compare the outcome of a variant with the expected one, group by group."""
    errors, worst = {}, None
    for what, tensors in outcome.groups.items():
        each = dict(_errors(tensors, expected.groups[what]))
        name = max(each, key=each.__getitem__)
        errors[what] = each[name]
        if what == "gradients":
            worst = name
            errors["all_gradients"] = _distance(tensors, expected.groups[what])
    return Comparison(errors, worst)


def _distance(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Return the norm of the difference of all tensors, relative to that of the expected ones."""
    if found.keys() != expected.keys():
        return math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        apart = sum(float(np.square(found[name] - array).sum()) for name, array in expected.items())
    length = sum(float(np.square(array).sum()) for array in expected.values())
    return math.sqrt(apart / length) if math.isfinite(apart) else math.inf


def _errors(
    found: Mapping[str, Array], expected: Mapping[str, Array]
) -> Iterator[tuple[str, float]]:
    """Yield the error of each tensor relative to its largest value; infinite where invalid."""
    largest = max(float(np.abs(array).max()) for array in expected.values())
    for name in expected.keys() | found.keys():
        if name not in found or name not in expected or found[name].shape != expected[name].shape:
            yield name, math.inf
            continue
        array = expected[name]
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            difference = float(np.abs(found[name] - array).max())
        scale = max(float(np.abs(array).max()), _FLOOR * largest)
        yield name, difference / scale if math.isfinite(difference) else math.inf
