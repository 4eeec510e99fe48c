"""The names of torchvision's ResNets and DenseNets; timm's ResNets use the same.

Blocks count from 1 in both, units of a ResNet from 0. The published DenseNet files have ``norm.1``
and ``conv.2`` inside dense layers, where current models have ``norm1`` and ``conv2``.
"""

from __future__ import annotations

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import SPATIAL_KERNEL, slot_name
from cliquegraph.ir.types import Field, Param, Part, Slot

_FIELDS = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}
_RESNET = {
    (Part.STEM, "conv"): "conv1",
    (Part.STEM, "norm"): "bn1",
    (Part.BLOCK, "norm1"): "layer{b}.{unit}.bn1",
    (Part.BLOCK, "norm2"): "layer{b}.{unit}.bn2",
    (Part.BLOCK, "norm3"): "layer{b}.{unit}.bn3",
    (Part.BLOCK, SPATIAL_KERNEL): "layer{b}.{unit}.conv{p}",
    (Part.BLOCK, "shortcut.conv"): "layer{b}.{unit}.downsample.0",
    (Part.BLOCK, "shortcut.norm"): "layer{b}.{unit}.downsample.1",
    (Part.CLASSIFIER, ""): "fc",
}
_LAYER = "features.denseblock{b}.denselayer{j}"
_DENSENET = {
    (Part.STEM, "conv"): "features.conv0",
    (Part.STEM, "norm"): "features.norm0",
    (Part.BLOCK, "norm"): f"{_LAYER}.norm1",
    (Part.BLOCK, "conv"): f"{_LAYER}.conv1",
    (Part.BLOCK, "mid_norm"): f"{_LAYER}.norm2",
    (Part.BLOCK, "mid_conv"): f"{_LAYER}.conv2",
    (Part.TRANSITION, "norm"): "features.transition{b}.norm",
    (Part.TRANSITION, "conv"): "features.transition{b}.conv",
    (Part.READOUT, "norm"): "features.norm5",
    (Part.CLASSIFIER, ""): "classifier",
}
_PUBLISHED = {
    key: name.replace(f"{_LAYER}.norm", f"{_LAYER}.norm.").replace(
        f"{_LAYER}.conv", f"{_LAYER}.conv."
    )
    for key, name in _DENSENET.items()
}


class TorchvisionLayout:
    """torchvision's keys for the tensors of a lowered graph.

    Args:
        graph: the graph.
        published: use the names in published DenseNet files.

    Raises:
        WeightsError: a tensor of the graph has no counterpart in torchvision's models.
    """

    def __init__(self, graph: Graph, *, published: bool = False) -> None:
        roles = {tensor.slot.role for tensor in graph.tensors}
        densenet = _PUBLISHED if published else _DENSENET
        self._names = _RESNET if SPATIAL_KERNEL in roles else densenet
        owners: dict[str, Slot] = {}
        for slot in dict.fromkeys(tensor.slot for tensor in graph.tensors):
            owner = self._owner(slot)
            # A name occurs twice if each block has a readout: torchvision has only the last one.
            if owner is None or owners.setdefault(owner, slot) != slot:
                raise WeightsError(
                    f"{graph.name} does not fit torchvision's format: its ResNets and DenseNets "
                    f"have no {slot_name(slot)}"
                )

    def name(self, param: Param) -> str:
        """The key."""
        return f"{self._owner(param.slot)}.{_FIELDS[param.field]}"

    def axes(self, param: Param) -> tuple[int, ...]:
        """The canonical axes."""
        return tuple(range(len(param.shape)))

    def counter(self, param: Param) -> str:
        """The key of BatchNorm2d's batch counter."""
        return f"{self._owner(param.slot)}.num_batches_tracked"

    def _owner(self, slot: Slot) -> str | None:
        name = self._names.get((slot.section.part, slot.role))
        if name is None or slot.stage is not None:
            return None
        layer = slot.layer or 0
        return name.format(b=slot.section.index, j=layer, unit=layer - 1, p=slot.index)
