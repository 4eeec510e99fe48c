"""What ``verify`` finds: errors, and whether they are within tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cliquegraph.ir.storage import Array

TOLERANCE = 1e-10
TOLERANCE_FLOAT32 = 1e-5

# A tensor whose numbers are far below its group's largest is noise of the group's arithmetic:
# it is measured against this share of the largest.
_FLOOR = 1e-3


@dataclass
class Verification:
    """What ``verify`` found.

    Attributes:
        network: its name.
        backends: the backends that took part.
        max_error: the largest relative error of each comparison, float64.
        max_error_float32: the same for forward passes in float32.
        tolerance_float32: for those: 1e-5, or more where the network itself amplifies rounding.
        parameters: how many each backend's model has, as its framework counts them.
        expected_parameters: how many the network has.
        first_difference: the first value in the order of execution that differs, if any does.
        skipped: what was not compared, and why.
        unjudged: what was compared to no end: rounding alone moves it as far.
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
        """Whether something was compared, the counts agree and no error is beyond tolerance."""
        return (
            bool(self.max_error)
            and all(count == self.expected_parameters for count in self.parameters.values())
            and all(error <= TOLERANCE for error in self.max_error.values())
            and all(error <= self.tolerance_float32 for error in self.max_error_float32.values())
        )

    def note(self, what: str, found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        """Record the largest error of a comparison in float64."""
        error = relative_error(found, expected)
        self.max_error[what] = max(error, self.max_error.get(what, 0.0))

    def note_float32(self, what: str, found: Array, expected: Array) -> None:
        """Record the largest error of a comparison in float32."""
        error = relative_error({what: found}, {what: expected})
        self.max_error_float32[what] = max(error, self.max_error_float32.get(what, 0.0))


def relative_error(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Return the largest error of any tensor, relative to the tensor's largest number.

    A number that is not finite, or a tensor that only one side has, is an infinite error.
    """
    if found.keys() != expected.keys():
        return float("inf")
    return max((error for _, error in errors_of(found, expected)), default=0.0)


def errors_of(
    found: Mapping[str, Array], expected: Mapping[str, Array]
) -> Iterator[tuple[str, float]]:
    """Yield the error of each tensor that was expected."""
    largest = max((float(np.abs(array).max()) for array in expected.values()), default=0.0)
    for name, array in expected.items():
        if name not in found or found[name].shape != array.shape:
            yield name, float("inf")
            continue
        with np.errstate(invalid="ignore"):  # infinity less infinity
            difference = float(np.abs(found[name] - array).max())
        scale = max(float(np.abs(array).max()), _FLOOR * largest)
        if not np.isfinite(difference):
            yield name, float("inf")
        elif difference:
            yield name, difference / scale if scale else float("inf")
