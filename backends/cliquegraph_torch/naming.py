"""Where a generated model stores parameters of the op graph; needs no PyTorch."""

from __future__ import annotations

from cliquegraph.emit.names import is_bare, member_path
from cliquegraph.ir.types import Field, Param

_FIELDS = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}


class TorchLayout:
    """The keys of a model's ``state_dict``; its layout is the canonical one."""

    def name(self, param: Param) -> str:
        """Return the key of a parameter."""
        path = member_path(param)
        return ".".join(path if is_bare(param.slot) else (*path, _FIELDS[param.field]))

    def axes(self, param: Param) -> tuple[int, ...]:
        """Return the axes in their canonical order."""
        return tuple(range(len(param.shape)))

    def counter(self, param: Param) -> str:
        """Return the key of BatchNorm2d's counter, unused with a momentum."""
        return ".".join((*member_path(param), "num_batches_tracked"))
