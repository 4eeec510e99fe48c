"""Docstrings and comments in generated code, in the paper's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

from cliquegraph.ir import ops
from cliquegraph.ir.names import EDGE_KERNEL, KERNEL_BIAS, SPATIAL_KERNEL, is_bias, is_gate
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.types import MapType, Slot, TensorType
from cliquegraph.steps.graph import BlockSteps, Step


def engineering(number: int) -> str:
    """Return a number with three decimals and its unit.

    >>> engineering(4073929600)
    '4.074G'
    """
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3f}{unit}"
    return str(number)


@singledispatch
def describe(op: ops.Op) -> str:
    """Return the name of an op in a sentence."""
    return op.mnemonic.replace("_", " ")


@describe.register
def _(op: ops.Concat) -> str:
    return "concatenation"


@describe.register
def _(op: ops.Stack) -> str:
    return "stack of all stages"


@describe.register
def _(op: ops.Add) -> str:
    return "addition"


@describe.register
def _(op: ops.Mean) -> str:
    return "mean"


@describe.register
def _(op: ops.PadChannels) -> str:
    return "padding with maps of zeros"


@describe.register(ops.BatchNorm)
@describe.register(ops.Normalize)
@describe.register(ops.Affine)
def _(op: ops.Op) -> str:
    return "BN"


@describe.register
def _(op: ops.GroupNorm) -> str:
    return f"GN of {op.groups} group{'s' * (op.groups > 1)}"


@describe.register
def _(op: ops.LocalResponse) -> str:
    return f"local response normalization over {op.size} channel{'s' * (op.size > 1)}"


@describe.register
def _(op: ops.DropPath) -> str:
    return "drop-path"


@describe.register
def _(op: ops.DrawColumn) -> str:
    return "draw of a column"


@describe.register
def _(op: ops.JoinWeights) -> str:
    return "weights of operands"


@describe.register
def _(op: ops.WeightedMean) -> str:
    return "mean with drop-path"


@describe.register
def _(op: ops.Relu) -> str:
    return "ReLU"


@describe.register
def _(op: ops.Conv) -> str:
    stride = f" of stride {op.stride}" if op.stride > 1 else ""
    depthwise = "depthwise " if op.depthwise else ""
    return f"{op.kernel}×{op.kernel} {depthwise}convolution{stride}"


@describe.register
def _(op: ops.Linear) -> str:
    return "fully connected layer"


@describe.register
def _(op: ops.MaxPool) -> str:
    return f"{op.kernel}×{op.kernel} max pool of stride {op.stride}"


@describe.register
def _(op: ops.AvgPool) -> str:
    stride = f" of stride {op.stride}" if op.stride != op.kernel else ""
    return f"{op.kernel}×{op.kernel} average pool{stride}"


@describe.register
def _(op: ops.GlobalAvgPool) -> str:
    return "global average pool"


@describe.register
def _(op: ops.GlobalMean) -> str:
    return "mean of each map"


@describe.register
def _(op: ops.GlobalMaxPool) -> str:
    return "global max pool"


@describe.register
def _(op: ops.Upsample) -> str:
    return f"upsampling by {op.factor}"


@describe.register
def _(op: ops.ScaleChannels) -> str:
    return "filter-wise multiplication"


def sequence(nodes: Sequence[Node], *, strided: bool = False) -> str:
    """Return the ops of a section as a list, with branches separated by semicolons.

    With ``strided``, the strides of convolutions are arguments, and are not printed.
    """
    text = ""
    unnamed = ops.Input | ops.Keep | ops.JoinWeights
    nodes = [node for node in nodes if not isinstance(node.op, unnamed)]
    for before, node in zip((None, *nodes), nodes, strict=False):
        joins = before is None or before.output in node.inputs
        joins = joins and not (isinstance(node.op, ops.Add) and "; " in text)  # of two branches
        op = replace(node.op, stride=1) if strided and isinstance(node.op, ops.Conv) else node.op
        text += f"{', ' if joins else '; '}{describe(op)}"
    return text[2:]


def shape(value: TensorType) -> str:
    """Return a shape in words that fit any layout, ``64 maps of 56×56``."""
    if isinstance(value, MapType):
        maps = "1 map" if value.channels == 1 else f"{value.channels} maps"
        return f"{maps} of {value.height}×{value.width}"
    return f"{value.channels} elements"


IN_STAGES = "in every stage"
IDLE = "not called: unused, but retained for their weights"


def step_line(block: BlockSteps, step: Step) -> str:
    """Return a step as its row of Table 1, ``stage 2: X3 X4 X5 X1 -> X2``."""
    bottom = " ".join(f"X{feature.layer}" for feature, _ in block.table_order(step)) or "zeros"
    stage = f"stage {step.stage}: " if block.declared.words.staged else ""
    return f"{stage}{bottom} -> X{step.layer}"


_MEMBERS = {
    EDGE_KERNEL: "wj: the kernels W(i→j) of layer j concatenated along input channels, X0 first",
    SPATIAL_KERNEL: "vj: the kernel V(j) of layer j",
}


def shared_comment(slot: Slot) -> str:
    """Return the comment on the tensors or layers of one role in a block that stages share."""
    if slot.role == EDGE_KERNEL and slot.source is not None:
        return "wi_to_j: the kernel W(i→j)"
    if (comment := _MEMBERS.get(slot.role)) is not None:
        if slot.index is None:
            return comment
        if slot.role == SPATIAL_KERNEL:
            return f"{slot.role}j_p: kernel p of layer j"
        return f"{slot.role}j_p: of several, {comment.partition(': ')[2]}"
    place = "i_to_j" if slot.source is not None else "j"
    kernel, *bias = slot.role.split(".")
    if kernel in KERNEL_BIAS and bias:
        return f"{kernel}{place}_bias: the bias of that kernel"
    what = "gate" if is_gate(slot) else "bias" if is_bias(slot) else "normalization"
    if slot.source is not None:
        return f"{EDGE_KERNEL}{place}_{slot.role}: the {what} of that edge, in every stage"
    return f"{slot.role}_{place}: the {what} of layer j, in every stage"
