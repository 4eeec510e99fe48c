"""Canonical names of tensors, as in the exchange format.

They depend only on the declared network, not on a backend or an -O level.
"""

from __future__ import annotations

from cliquegraph.ir.types import Field, Param, ParamSlice, Slot, Tensor

EDGE_KERNEL = "w"  # W(i→j), one for each ordered pair that is read
SPATIAL_KERNEL = "v"  # V(j), the k→k convolution of a bottleneck, one for each layer
OWN_KERNEL = "own_v"  # V(j, p) of a layer that is updated once, so that no stages share it


def value_hint(letter: str, layer: int, stage: int | None) -> str:
    """Return the name of a layer's value: ``x2_1`` in stage 1, ``x2`` without stages."""
    return f"{letter}{layer}" if stage is None else f"{letter}{layer}_{stage}"


def shared_by_stages(slot: Slot) -> bool:
    """Tell whether a slot is a kernel of a clique's layer, which all stages share."""
    return slot.role in (EDGE_KERNEL, SPATIAL_KERNEL)


def is_edge_kernel(slot: Slot) -> bool:
    """Tell whether a slot is the kernel of a pair, W(i→j)."""
    return slot.role == EDGE_KERNEL and slot.source is not None


def slot_name(slot: Slot) -> str:
    """Return the canonical name of a slot, ``block1.w0_2`` or ``block1.x2.s1.norm``."""
    parts = [str(slot.section)]
    if is_edge_kernel(slot):
        index = "" if slot.index is None else f"_{slot.index}"
        parts.append(f"{slot.role}{slot.source}_{slot.layer}{index}")
    elif shared_by_stages(slot) or slot.role == OWN_KERNEL:
        role = SPATIAL_KERNEL if slot.role == OWN_KERNEL else slot.role
        parts.append(f"{role}{slot.layer}" + ("" if slot.index is None else f"_{slot.index}"))
    else:
        if slot.source is not None:  # on an edge, after its kernel
            parts.append(f"{EDGE_KERNEL}{slot.source}_{slot.layer}")
        elif slot.layer is not None:
            parts.append(f"x{slot.layer}")
        if slot.stage is not None:
            parts.append(f"s{slot.stage}")
        if slot.role:
            is_whole = slot.index is None or slot.source is not None
            parts.append(slot.role if is_whole else f"{slot.role}_{slot.index}")
    return ".".join(parts)


def field_name(slot: Slot, field: Field) -> str:
    """Return the name of one tensor of a slot, ``block1.w0_2.weight``."""
    return f"{slot_name(slot)}.{field}"


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
