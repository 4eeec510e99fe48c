"""Canonical names of tensors, as in the exchange format.

They depend only on the declared network, not on a backend or an -O level.
"""

from __future__ import annotations

import re

from cliquegraph.ir.types import Field, Param, ParamSlice, Slot, Tensor

EDGE_KERNEL = "w"  # W(i→j), one for each ordered pair that is read
SPATIAL_KERNEL = "v"  # V(j), a kernel of layer ops
BIAS = "bias"  # of a layer, or on an edge, beside no kernel
GATE = "gate"
KERNEL_BIAS = {kernel: f"{kernel}.{BIAS}" for kernel in (EDGE_KERNEL, SPATIAL_KERNEL)}
"""The bias of a kernel that stages share."""
_GATE = re.compile(rf"{GATE}(_?\d+)?")
_BIAS = re.compile(rf"(^|\.){BIAS}(_?\d+)?$")


def value_hint(letter: str, layer: int, stage: int | None) -> str:
    """Return the name of a layer's value: ``x2_1`` in stage 1, ``x2`` without stages."""
    return f"{letter}{layer}" if stage is None else f"{letter}{layer}_{stage}"


def is_edge_kernel(slot: Slot) -> bool:
    """Tell whether a slot is the kernel of a pair, W(i→j)."""
    return slot.role == EDGE_KERNEL and slot.source is not None


def is_kernel(slot: Slot) -> bool:
    """Tell whether a slot is a kernel W(i→j) or V(j) of a block."""
    return slot.role in (EDGE_KERNEL, SPATIAL_KERNEL)


def is_bias(slot: Slot) -> bool:
    """Tell whether a slot is a bias by itself: of a kernel that stages share, or of channels."""
    return _BIAS.search(slot.role) is not None


def is_gate(slot: Slot) -> bool:
    """Tell whether a slot is the number of a gate."""
    return _GATE.fullmatch(slot.role) is not None


def slot_name(slot: Slot) -> str:
    """Return the canonical name of a slot, ``block1.w0_2`` or ``block1.x2.s1.norm``."""
    parts = [str(slot.section)]
    index = "" if slot.index is None else f"_{slot.index}"
    kernel, *behind = slot.role.split(".")
    if kernel in KERNEL_BIAS:
        source = "" if slot.source is None else f"{slot.source}_"
        parts += [f"{kernel}{source}{slot.layer}{index}", *behind]
    else:
        if slot.source is not None and slot.role != GATE:
            parts.append(f"{EDGE_KERNEL}{slot.source}_{slot.layer}")
        elif slot.layer is not None:
            parts.append(f"x{slot.layer}")
        if slot.stage is not None:
            parts.append(f"s{slot.stage}")
        if slot.role == GATE and slot.source is not None:
            parts.append(f"{GATE}{slot.source}")
        elif slot.role:
            # An edge after its kernel has a number among its layer's, which is no part of the name.
            parts.append(slot.role if slot.source is not None else f"{slot.role}{index}")
    return ".".join(parts)


def field_name(slot: Slot, field: Field) -> str:
    """Return the name of one tensor of a slot, ``block1.w0_2.weight``; a bias is ``x2.bias``."""
    name = slot_name(slot)
    return name if is_bias(slot) else f"{name}.{field}"


def tensor_name(tensor: Tensor) -> str:
    """Return the canonical name of a tensor."""
    return field_name(tensor.slot, tensor.field)


def param_name(param: Param) -> str:
    """Return the name of a parameter in printed graphs and messages."""
    return field_name(param.slot, param.field)


def operand_name(operand: ParamSlice) -> str:
    """Return the name of an operand, with its slice unless that is the whole parameter."""
    name = param_name(operand.param)
    return name if operand.is_whole else f"{name}[{operand.start}:{operand.stop}]"
