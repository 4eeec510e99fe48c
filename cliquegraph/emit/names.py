"""Names in generated code; those of members and values are the same in every backend."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable

from cliquegraph.ir.names import EDGE_KERNEL, KERNEL_BIAS, is_bias, is_gate, is_kernel
from cliquegraph.ir.types import Param, Part, Slot


def member_name(slot: Slot) -> str:
    """Return the name of the member that has a slot's tensors, within its class.

    ``w2`` and ``v2`` are the kernels of layer 2; ``norm`` belongs to the class of its update, as
    does ``conv2``, the second kernel of a layer that is updated once.
    """
    if not slot.role:
        return str(slot.section)
    if is_kernel(slot) and not slot.shared:
        return f"conv{slot.index or 1}"
    name = slot.role.replace(".", "_")
    if slot.shared and slot.section.part is Part.READOUT:
        return f"{slot.section}_{name}"
    if slot.shared:
        return _shared_name(slot, name)
    number = "" if slot.index is None else str(slot.index)
    if slot.source is not None:  # on an edge, after its kernel
        return f"edge{number}_{name}"
    return f"{name}_{number}" if number else name


def _shared_name(slot: Slot, name: str) -> str:
    """The name of what stages share: ``w2``, ``v2_1``; of an edge ``w0_to_2``, ``w0_to_2_norm``."""
    kernel, *behind = slot.role.split(".")
    own = kernel in KERNEL_BIAS  # a kernel, or its bias
    place = str(slot.layer) if slot.source is None else f"{slot.source}_to_{slot.layer}"
    if slot.index is not None and (own or slot.source is None):
        place = f"{place}_{slot.index}"
    if own:
        return "_".join((f"{kernel}{place}", *behind))
    return f"{name}_{place}" if slot.source is None else f"{EDGE_KERNEL}{place}_{name}"


def is_bare(slot: Slot) -> bool:
    """Tell whether a slot's only tensor is an array by itself, not in a module of its own."""
    of_stages = is_kernel(slot) or slot.section.part is Part.READOUT
    return (slot.shared and of_stages) or is_bias(slot) or is_gate(slot)


def argument_names(slots: Iterable[Slot]) -> dict[Slot, str]:
    """Return the names of what an update is given, tensors and layers that its stages share."""
    names: dict[Slot, str] = {}
    for slot in dict.fromkeys(slots):
        taken, number = set(names.values()), 1
        name = base = slot.role.replace(".", "_")
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        names[slot] = name
    return names


def step_name(slot: Slot) -> str | None:
    """Return the name of the only update that a slot's tensors belong to, within its block.

    ``update2_1`` writes X2 of stage 1. A dense layer, which has one stage, is ``layer2``.
    """
    if slot.layer is None or slot.shared:
        return None
    return update_name(slot.layer, slot.stage)


def update_name(layer: int, stage: int | None) -> str:
    """Return the name of an update within its block; without stages, that of a layer."""
    return f"layer{layer}" if stage is None else f"update{layer}_{stage}"


def section_name(slot: Slot) -> str | None:
    """Return the name of the network's member that has a slot's tensors; None: the network itself.

    ``readout1_2`` has the normalizations of stage 2. What readouts over time share is the
    network's, if each stage has normalizations.
    """
    is_readout = slot.section.part is Part.READOUT
    if not slot.role or (is_readout and slot.shared):
        return None
    has_stage = is_readout and slot.stage is not None
    return f"{slot.section}_{slot.stage}" if has_stage else str(slot.section)


def member_path(param: Param) -> tuple[str, ...]:
    """Return the path from the network to the member that has a parameter.

    ``block1``, ``update2_1``, ``norm`` or ``block1``, ``w2``: a kernel that stages share is a
    parameter itself; to other paths, the framework appends its name of the field.
    """
    slot = param.slot
    path = (section_name(slot), step_name(slot), member_name(slot))
    return tuple(name for name in path if name is not None)


class Namespace:
    """Returns unique names that are neither keywords nor builtins."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._used = set(reserved)

    def unique(self, base: str) -> str:
        """Return ``base``, or the first of ``base2``, ``base3``, ... that is free."""
        name, count = base, 1
        while name in self._used or keyword.iskeyword(name) or hasattr(builtins, name):
            count += 1
            name = f"{base}{count}"
        self._used.add(name)
        return name
