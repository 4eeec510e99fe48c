"""Comparison of a network's figures with those its spec expects."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.analysis.cost import Cost
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic
from cliquegraph.spec.figure import Figure
from cliquegraph.spec.network import NetworkSpec


@dataclass(frozen=True)
class Comparison:
    """One figure of ``expect`` and its computed value."""

    key: str
    expected: Figure
    computed: int

    @property
    def holds(self) -> bool:
        """Whether the computed figure rounds to the digits printed."""
        return self.expected.matches(self.computed)


def compare_expected(network: NetworkSpec, cost: Cost) -> tuple[Comparison, ...]:
    """Compare every figure that the spec expects."""
    return tuple(
        Comparison(key, figure, getattr(cost, key))
        for key, figure in network.expect.figures().items()
    )


def mismatch(network: NetworkSpec, comparison: Comparison) -> Diagnostic:
    """Return the diagnostic for a figure that does not match, with its location in the spec."""
    rounded = comparison.expected.show(comparison.computed)
    return Diagnostic(
        Code.EXPECT,
        f"expected {comparison.key} {comparison.expected}, "
        f"but the network has {comparison.computed:,} ({rounded})",
        network.locate("expect", comparison.key),
        "change the network or the figure; --set expect={} turns the comparison off",
    )
