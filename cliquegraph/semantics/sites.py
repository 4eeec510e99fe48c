"""The sites of a declaration's ops, and the canonical names of the tensors that they read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cliquegraph.blocks.model import Conv, Gate

Part = tuple[int, int, int]
"""Where the channels of a source begin and end among all that a layer reads, and the total."""


@dataclass(frozen=True)
class Site:
    """The site of ops, which determines the tensors that they read.

    Attributes:
        section: the block, or the boundary, which has no layers.
        layer: the layer that is updated.
        stage: the stage in the names of the update's tensors, or of a readout's normalizations, if
            they have one.
        stride: the stride of ops that ``reduce``.
        source: on an edge, the layer that is read.
        parts: on an edge, the source's part of tensors that cover everything the layer reads, by
            their roles.
        after_kernel: on an edge, after its kernel.
    """

    section: str
    layer: int | None = None
    stage: int | None = None
    stride: int = 1
    source: int | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    after_kernel: bool = False

    @property
    def of_layer(self) -> str:
        """The prefix of the names of the layer's tensors; in a boundary, of the section's."""
        return self.section if self.layer is None else f"{self.section}.x{self.layer}"

    @property
    def of_edge(self) -> str:
        """The prefix of the names of the edge's tensors; in a layer, of the layer's."""
        if self.source is None:
            return self.of_layer
        return f"{self.section}.w{self.source}_{self.layer}"

    @property
    def of_update(self) -> str:
        """The prefix of the names of tensors that belong to an update."""
        return self._in_stage(self.of_edge if self.after_kernel else self.of_layer)

    @property
    def of_edge_update(self) -> str:
        """The prefix of the names of tensors that belong to an edge in an update."""
        return self._in_stage(self.of_edge)

    def _in_stage(self, prefix: str) -> str:
        return prefix if self.stage is None else f"{prefix}.s{self.stage}"

    def kernel(self, op: Conv) -> str:
        """Return the name of a convolution: W(i→j) and V(j) are shared by stages."""
        index = "" if op.index is None else f"_{op.index}"
        if self.source is not None:
            is_pair = op.role == "w"
            return f"{self.of_edge}{index}" if is_pair else f"{self.of_layer}.{op.role}"
        if op.role == "v":
            return f"{self.section}.v{self.layer}{index}"
        return f"{self.of_layer if self.layer is None else self.of_update}.{op.role}"

    def gate(self, op: Gate) -> str:
        """Return the name of a gate, which stages share; the first of an edge counts its source."""
        is_first = self.source is not None and op.role == "gate"
        return f"{self.of_layer}.gate{self.source}" if is_first else f"{self.of_edge}.{op.role}"
