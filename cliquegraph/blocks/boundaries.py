"""Stem, transitions and readout as ops of the model."""

from __future__ import annotations

from cliquegraph.blocks.model import AvgPool, Conv, MaxPool, Norm, Op, Ops, Relu
from cliquegraph.blocks.ops import boundary_ops
from cliquegraph.spec.boundaries import OpsSection
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Transition


def stem_of(network: NetworkSpec) -> Ops:
    """Return the ops from the image to X0 of the first block; none: the image is X0."""
    stem = network.stem
    if stem is None:
        return ()
    if isinstance(stem, OpsSection):
        return boundary_ops(stem.ops)
    is_fan_out = stem.init == "fan_out"
    ops: list[Op] = [
        Conv(stem.kernel, stem.filters, role="conv", stride=stem.stride, fan_out=is_fan_out)
    ]
    if stem.norm:
        ops += [Norm("norm"), Relu()]
    if stem.pool is not None:
        kernel, stride = stem.pool.kernel, stem.pool.stride
        is_max = stem.pool.kind == "max"
        ops.append(
            MaxPool(kernel, stride, (kernel - 1) // 2) if is_max else AvgPool(kernel, stride)
        )
    return tuple(ops)


def transition_of(network: NetworkSpec, index: int) -> Transition | Ops:
    """Return what follows a block: the standard keys, or ops; none: its transit is the next X0.

    Args:
        network: the network.
        index: the block, from 1; not the last.
    """
    transition = network.transition
    if isinstance(transition, tuple):
        transition = transition[index - 1]
    if transition is None:
        return ()
    return boundary_ops(transition.ops) if isinstance(transition, OpsSection) else transition


def readout_ops(network: NetworkSpec) -> Ops | None:
    """Return the ops of a readout before its global pool; None: those of the standard keys."""
    ops = network.readout.ops
    return None if ops is None else boundary_ops(ops)
