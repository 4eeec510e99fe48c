"""Where a generated model stores parameters of the op graph; needs no JAX."""

from __future__ import annotations

from cliquegraph.emit.names import is_bare, member_path
from cliquegraph.ir.types import Biased, Field, Param, WithBias

_FIELDS = {
    Field.SCALE: "scale",
    Field.BIAS: "bias",
    Field.MEAN: "mean",
    Field.VAR: "var",
}
_AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # HWIO, and (in, out) for linear layers


class FlaxLayout:
    """The paths of a model's ``nnx.state``, joined by dots."""

    def name(self, param: Param) -> str:
        """Return the path of a parameter.

        A convolution's kernel is a variable of its own, and so are biases and gates without one; a
        linear layer, and a convolution with a bias, call it ``kernel``.
        """
        path = member_path(param)
        if is_bare(param.slot):
            return ".".join(path)
        if param.field is not Field.WEIGHT:
            path = (*path, _FIELDS[param.field])
        elif len(param.shape) != 4 or isinstance(param, Biased | WithBias):
            path = (*path, "kernel")
        return ".".join(path)

    def axes(self, param: Param) -> tuple[int, ...]:
        """Return the axes: kernels HWIO, linear layers (in, out)."""
        return _AXES[len(param.shape)]

    def counter(self, param: Param) -> None:
        """Return None: Flax does not count batches."""
        return
