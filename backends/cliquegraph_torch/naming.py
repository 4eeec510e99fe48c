"""Where a generated model keeps a parameter of the op graph."""

from __future__ import annotations

from torch import Tensor, nn

from cliquegraph.emit.names import member_path
from cliquegraph.ir.names import shared_by_stages
from cliquegraph.ir.types import Field, Param

_FIELDS = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}


def state_name(param: Param) -> str:
    """Return the key of a parameter in the model's ``state_dict``."""
    path = member_path(param)
    return ".".join(path if shared_by_stages(param.slot) else (*path, _FIELDS[param.field]))


def find_tensor(model: nn.Module, param: Param) -> Tensor:
    """Return the model's tensor for a parameter; its layout is the canonical one."""
    found: object = model
    for name in state_name(param).split("."):
        found = getattr(found, name)
    assert isinstance(found, Tensor)  # noqa: S101  # this backend wrote the model
    return found
