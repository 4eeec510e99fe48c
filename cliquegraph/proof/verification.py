"""The result of ``verify``: errors, and whether they are within tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cliquegraph.ir.storage import Array

TOLERANCE = 1e-10
TOLERANCE_FLOAT32 = 1e-5

# A tensor whose values are far below the largest of its group is rounding noise of the group's
# arithmetic: its error is relative to this fraction of the largest value.
_FLOOR = 1e-3


@dataclass(repr=False)
class Verification:
    """The result of ``verify``.

    Attributes:
        network: the network's name.
        backends: the backends that took part.
        max_error: the largest relative error of each comparison, float64.
        max_error_float32: the same for forward passes in float32.
        tolerance_float32: for those: 1e-5, or more if the network itself amplifies rounding.
        parameters: of each backend's model, as counted by its framework.
        expected_parameters: of the network.
        first_difference: the first value in the order of execution that differs, if any.
        skipped: what was not compared, and why.
        unjudged: inconclusive comparisons: rounding alone causes differences as large.
    """

    network: str
    backends: tuple[str, ...]
    max_error: dict[str, float] = field(default_factory=dict)
    max_error_float32: dict[str, float] = field(default_factory=dict)
    tolerance_float32: float = TOLERANCE_FLOAT32
    parameters: dict[str, int] = field(default_factory=dict)
    expected_parameters: int = 0
    first_difference: str | None = None
    skipped: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether something was compared, the counts agree and all errors are within tolerance."""
        return (
            bool(self.max_error)
            and all(count == self.expected_parameters for count in self.parameters.values())
            and all(error <= TOLERANCE for error in self.max_error.values())
            and all(error <= self.tolerance_float32 for error in self.max_error_float32.values())
        )

    def __repr__(self) -> str:
        figures = [
            f"{len(errors)} comparisons in {dtype}, errors up to {max(errors.values()):.1e}"
            for dtype, errors in (
                ("float64", self.max_error),
                ("float32", self.max_error_float32),
            )
            if errors
        ]
        backends = ", ".join(self.backends)
        outcome = "ok" if self.ok else "not ok"
        return f"<Verification {self.network} ({backends}): {outcome}; {'; '.join(figures)}>" + (
            f"\n  first difference: {self.first_difference}" if self.first_difference else ""
        )

    def text(self) -> str:
        """Return every comparison with its largest relative error, a line each."""
        kinds = (("float64", self.max_error), ("float32", self.max_error_float32))
        return "\n".join(
            f"{dtype}, {what}: {error:.1e}"
            for dtype, errors in kinds
            for what, error in errors.items()
        )

    def note(self, what: str, actual: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        """Record the largest error of a comparison in float64."""
        error = relative_error(actual, expected)
        self.max_error[what] = max(error, self.max_error.get(what, 0.0))

    def note_float32(self, what: str, actual: Array, expected: Array) -> None:
        """Record the largest error of a comparison in float32."""
        error = relative_error({what: actual}, {what: expected})
        self.max_error_float32[what] = max(error, self.max_error_float32.get(what, 0.0))


def relative_error(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Return the largest error of any tensor, relative to the tensor's largest value.

    A non-finite value, or a tensor that only one side has, is an infinite error.
    """
    if actual.keys() != expected.keys():
        return float("inf")
    return max((error for _, error in errors_of(actual, expected)), default=0.0)


def errors_of(
    actual: Mapping[str, Array], expected: Mapping[str, Array]
) -> Iterator[tuple[str, float]]:
    """Yield the error of each expected tensor."""
    largest = max((float(np.abs(array).max()) for array in expected.values()), default=0.0)
    for name, array in expected.items():
        if name not in actual or actual[name].shape != array.shape:
            yield name, float("inf")
            continue
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            difference = float(np.abs(actual[name] - array).max())
        scale = max(float(np.abs(array).max()), _FLOOR * largest)
        if not np.isfinite(difference):
            yield name, float("inf")
        elif difference:
            yield name, difference / scale if scale else float("inf")
