"""temporary"""

from __future__ import annotations

from cliquegraph.blocks.model import AvgPool, Conv, MaxPool, Norm, Op, Ops, Relu
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Transition


def stem_of(network: NetworkSpec) -> Ops:
    """Temporary."""
    stem = network.stem
    ops: list[Op] = [
        Conv(stem.kernel, stem.filters, "conv", stride=stem.stride, fan_out=stem.init == "fan_out")
    ]
    if stem.norm:
        ops += [Norm("norm"), Relu()]
    if stem.pool is not None:
        k, s = stem.pool.kernel, stem.pool.stride
        ops.append(MaxPool(k, s, (k - 1) // 2) if stem.pool.kind == "max" else AvgPool(k, s))
    return tuple(ops)


def transition_of(network: NetworkSpec, index: int) -> Transition | Ops:
    """Temporary."""
    return network.transition or ()


def readout_ops(network: NetworkSpec) -> Ops | None:
    """Temporary."""
    return None
