"""Names in generated code. Every backend spells the same member and the same value alike."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable

from cliquegraph.ir.names import OWN_KERNEL, shared_by_stages
from cliquegraph.ir.types import Param, Slot


def member_name(slot: Slot) -> str:
    """Return the name of what a slot's tensors belong to, within its class.

    ``w2`` and ``v2`` are the kernels of layer 2; ``norm`` stands in the class of its step, as does
    ``conv2``, the second kernel of a layer that is updated once.
    """
    if not slot.role:
        return str(slot.section)
    if slot.role == OWN_KERNEL:
        return f"conv{slot.index}"
    if shared_by_stages(slot):
        name = f"{slot.role}{slot.layer}"
        return name if slot.index is None else f"{name}_{slot.index}"
    name = slot.role.replace(".", "_")
    if slot.source is not None:  # of an edge, behind its kernel
        name = f"edge_{name}"
    return name if slot.index is None else f"{name}_{slot.index}"


def kernel_name(slot: Slot) -> str:
    """Return what a kernel that stages share is called where an update is handed it."""
    return slot.role if slot.index is None else f"{slot.role}_{slot.index}"


def step_name(slot: Slot) -> str | None:
    """Return the name of the step that a slot's tensors belong to alone, within its block.

    ``update2_1`` writes X2 of stage 1. A dense layer, which has one stage, is ``layer2``.
    """
    if slot.layer is None or shared_by_stages(slot):
        return None
    return update_name(slot.layer, slot.stage)


def update_name(layer: int, stage: int | None) -> str:
    """Return the name of an update within its block; a block of one stage has layers."""
    return f"layer{layer}" if stage is None else f"update{layer}_{stage}"


def member_path(param: Param) -> tuple[str, ...]:
    """Return the way from the network to what a parameter belongs to.

    ``block1``, ``update2_1``, ``norm`` or ``block1``, ``w2``: a kernel that stages share is a
    parameter itself; to any other, the framework adds its own name for the field.
    """
    slot = param.slot
    path = (str(slot.section) if slot.role else None, step_name(slot), member_name(slot))
    return tuple(name for name in path if name is not None)


class Namespace:
    """Hands out names that are unique, no keyword and no builtin."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._used = set(reserved)

    def unique(self, wanted: str) -> str:
        """Return ``wanted``, or the first of ``wanted2``, ``wanted3``, ... that is free."""
        name, count = wanted, 1
        while name in self._used or keyword.iskeyword(name) or hasattr(builtins, name):
            count += 1
            name = f"{wanted}{count}"
        self._used.add(name)
        return name
