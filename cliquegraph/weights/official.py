"""The format of the authors' PyTorch ImageNet checkpoints, and inference of specs from one.

Blocks count from 0 there, ``conv_param`` is a table of (n + 1)², and each tensor of a
normalization has PyTorch's name. The models have bottleneck blocks of two stages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import EDGE_KERNEL, SPATIAL_KERNEL, is_edge_kernel, slot_name
from cliquegraph.ir.types import Field, Param, Part, Section, Slot
from cliquegraph.weights.shares import compression_of
from cliquegraph.weights.source import TensorInfo

_FIELDS = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}
_NORMS = {
    ("norm", 1): "forward_bn",
    ("norm", 2): "loop_bn",
    ("mid_norm", 1): "forward_bn_b",
    ("mid_norm", 2): "loop_bn_b",
}
_ROLES = {
    (Part.STEM, "conv"): "fir_trans",
    (Part.STEM, "norm"): "fir_bn",
    (Part.TRANSITION, "norm"): "list_trans.{b}.bn",
    (Part.TRANSITION, "conv"): "list_trans.{b}.conv",
    (Part.TRANSITION, "attention.fc1"): "list_trans.{b}.attention.fc1",
    (Part.TRANSITION, "attention.fc2"): "list_trans.{b}.attention.fc2",
    (Part.READOUT, "compress.norm"): "list_compress.{b}.bn",
    (Part.READOUT, "compress.conv"): "list_compress.{b}.conv",
    (Part.READOUT, "norm"): "list_gb.{b}.bn",
    (Part.CLASSIFIER, ""): "fc",
}


class OfficialLayout:
    """The authors' keys for the tensors of a lowered graph.

    Raises:
        WeightsError: a tensor of the graph has no counterpart in the authors' models.
    """

    def __init__(self, graph: Graph) -> None:
        self._layers: dict[int, int] = {}
        for tensor in graph.tensors:
            section, layer = tensor.slot.section, tensor.slot.layer
            if section.part is Part.BLOCK and layer is not None:
                self._layers[section.index] = max(self._layers.get(section.index, 0), layer)
        self._require_cliques(graph)
        without = [slot_name(t.slot) for t in graph.tensors if self._owner(t.slot) is None]
        if without:
            raise WeightsError(
                f"{graph.name} does not fit the authors' format: their models have no "
                f"{without[0]}; blocks are bottleneck cliques of two stages"
            )

    def _require_cliques(self, graph: Graph) -> None:
        """Their blocks have a kernel for each pair of layers, and none from a layer to itself."""
        for index, layers in self._layers.items():
            slots = [t.slot for t in graph.tensors if t.slot.section == Section(Part.BLOCK, index)]
            edges = {(s.source, s.layer) for s in slots if is_edge_kernel(s)}
            complete = {(i, j) for i in range(layers + 1) for j in range(1, layers + 1) if i != j}
            if edges and edges != complete:
                raise WeightsError(
                    f"{graph.name} does not fit the authors' format: in block {index} not all "
                    "layers read each other; blocks are bottleneck cliques of two stages"
                )

    def name(self, param: Param) -> str:
        """The key, without the prefix of data parallelism."""
        return f"{self._owner(param.slot)}.{_FIELDS[param.field]}"

    def axes(self, param: Param) -> tuple[int, ...]:
        """The canonical axes."""
        return tuple(range(len(param.shape)))

    def counter(self, param: Param) -> str:
        """The key of BatchNorm2d's batch counter."""
        return f"{self._owner(param.slot)}.num_batches_tracked"

    def _owner(self, slot: Slot) -> str | None:
        index = slot.section.index
        if slot.section.part is not Part.BLOCK:
            role = _ROLES.get((slot.section.part, slot.role))
            return None if role is None else role.format(b=index - 1)
        if slot.layer is None:
            return None
        block, layer = f"list_block.{index - 1}", slot.layer
        if slot.role == EDGE_KERNEL:
            if slot.source is None:
                return None
            return f"{block}.conv_param.{slot.source * (self._layers[index] + 1) + layer}"
        if slot.role == SPATIAL_KERNEL:
            return f"{block}.conv_param_bottle.{layer - 1}"
        norm = _NORMS.get((slot.role, slot.stage or 0))
        return None if norm is None else f"{block}.{norm}.{layer - 1}"


def implied_document(infos: Mapping[str, TensorInfo], place: str) -> dict[str, Any]:
    """Return the spec implied by a checkpoint's shapes, as plain data without a name.

    What shapes do not determine is taken from the authors' ImageNet model: images of 224×224, the
    stem's stride and pool (section 3.4 of the paper). Shapes are not checked for consistency here.

    Raises:
        WeightsError: it is not a checkpoint of theirs.
    """
    return _Implied(infos, place).document()


class _Implied:
    def __init__(self, infos: Mapping[str, TensorInfo], place: str) -> None:
        self._shapes = {name: each.shape for name, each in infos.items()}
        self._place = place

    def document(self) -> dict[str, Any]:
        stem = self._shape("fir_trans.weight", 4)
        classes = self._shape("fc.weight", 2)[0]
        if stem[2] % 2 == 0 or stem[2] != stem[3]:
            raise self._no("fir_trans.weight is not a square kernel of odd size")
        readout = {} if self._compression is None else {"compression": self._compression}
        return {
            "cliquegraph": 1,
            "input": {"channels": stem[1], "height": 224, "width": 224},
            "stem": {
                "filters": stem[0],
                "kernel": stem[2],
                "stride": 2,
                "norm": True,
                "pool": {"kind": "max", "kernel": 3, "stride": 2},
            },
            "block_defaults": {"kind": "clique", "bottleneck": True},
            "blocks": [self._block(b) for b in range(self._blocks)],
            "transition": {"attention": "list_trans.0.attention.fc1.weight" in self._shapes},
            "readout": readout,
            "classifier": {"classes": classes},
        }

    @cached_property
    def _blocks(self) -> int:
        return self._count(r"list_block\.(\d+)\.")

    def _block(self, index: int) -> dict[str, Any]:
        layers = self._count(rf"list_block\.{index}\.conv_param_bottle\.(\d+)\.weight$")
        kernel = self._shape(f"list_block.{index}.conv_param_bottle.0.weight", 4)
        return {
            "layers": layers,
            "filters": kernel[0],
            **({} if kernel[2] == 3 else {"kernel": kernel[2]}),
        }

    @cached_property
    def _compression(self) -> float | None:
        """The fraction of channels that readouts retain: the paper's half if it fits."""
        if not any(name.startswith("list_compress.") for name in self._shapes):
            return None
        shapes = [self._shape(f"list_compress.{b}.conv.weight", 4) for b in range(self._blocks)]
        pairs = [(channels, compressed) for compressed, channels, *_ in shapes]
        compression = compression_of(pairs)
        if compression is None:
            raise self._no("the readouts compress their channels by different factors")
        return compression

    def _count(self, pattern: str) -> int:
        numbers = {int(match[1]) for name in self._shapes if (match := re.match(pattern, name))}
        if not numbers or numbers != set(range(len(numbers))):
            keys = re.sub(r"\(.*?\)", "N", pattern).replace("\\", "").rstrip("$")
            raise self._no(f"its keys {keys} are not numbered consecutively from 0")
        return len(numbers)

    def _shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        shape = self._shapes.get(name)
        if shape is None:
            raise self._no(f"it has no {name}")
        if len(shape) != dimensions or 0 in shape:
            raise self._no(f"{name} has shape {shape}")
        return shape

    def _no(self, why: str) -> WeightsError:
        return WeightsError(
            f"{self._place} is not a checkpoint in the authors' ImageNet format: {why}"
        )
