"""PyTorch's words for operations and members."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import singledispatch
from textwrap import wrap

from cliquegraph.emit.code import INDENT, WIDTH, Bracket, Code, Text, call, layout, listing
from cliquegraph.emit.dims import items
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    Child,
    Dense,
    Drop,
    FanOutKernel,
    ImageBranchDrop,
    Kernel,
    KernelBank,
    Norm,
    Normalizer,
    SharedKernel,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import Apply, BankSlice, CallChild, Expression, Kind, ModelView
from cliquegraph.ir import ops
from cliquegraph_torch.eager import OVERWRITTEN

_ANNOTATIONS = {
    Kind.TENSOR: "Tensor",
    Kind.FEATURE: "Feature",
    Kind.MAPS: "list[Tensor]",
    Kind.FEATURES: "list[Feature]",
    Kind.KERNEL: "Tensor",
}


class TorchSpeller(Speller):
    """Maps are (batch, channels, height, width); kernels OIHW."""

    tensor = "Tensor"
    call_method = "forward"

    def __init__(self, marked: bool = False) -> None:
        """``marked`` where convolutions that start by their fan-out are of a class of their own."""
        self._marked = marked

    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        """Spell one operation."""
        if isinstance(node.op, ops.Relu):
            inner = node.arguments[0]  # what has no other reader is written as an argument
            if isinstance(inner, Apply) and isinstance(inner.op, OVERWRITTEN):
                return call("torch.relu_", arguments[0])
        return spell_op(node.op, arguments, members, node.banked)

    def kernel(self, member: Code, banked: bool) -> Code:
        """Spell the array of a convolution's member."""
        return member if banked else Text(f"{member}.weight")

    def shape(self, channels: int, height: int, width: int) -> str:
        """Spell the shape of a batch of maps."""
        return f"(batch, {channels}, {height}, {width})"

    def bank_slice(self, view: BankSlice) -> Code:
        """Spell a slice of a kernel bank's input channels."""
        return Text(f"self.{view.name}" + ("" if view.is_whole else f"[:, {view.bounds}]"))

    def construct(self, thing: Thing) -> Code:
        """Spell the construction of a member."""
        code = construct(thing)
        if self._marked and isinstance(thing, FanOutKernel) and isinstance(code, Bracket):
            return Bracket("FanOutConv2d(", code.items, code.close)
        return code

    def construct_child(self, child: Child) -> Code:
        """Spell the construction of an instance of another class of the file."""
        return call(child.class_name, *map(str, child.arguments))

    def annotation(self, kind: Kind) -> str:
        """Spell the type of an input."""
        return _ANNOTATIONS[kind]

    def untyped(self, value: Expression) -> bool:
        """Tell whether a value is what a module's call returns, which has no type."""
        if isinstance(value, Apply):
            return bool(value.members) and not value.banked
        return isinstance(value, CallChild)


@singledispatch
def spell_op(op: ops.Op, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    """Spell an op over its arguments; each op registers its own spelling."""
    raise TypeError(f"the torch backend does not know {op.mnemonic}")


@spell_op.register
def _(op: ops.Concat, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.cat", x[0], "1")


@spell_op.register
def _(op: ops.Add, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(" + ".join(map(str, x)))


@spell_op.register
def _(op: ops.PadChannels, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("F.pad", x[0], f"(0, 0, 0, 0, 0, {op.channels} - {x[0]}.shape[1])")


@spell_op.register(ops.BatchNorm)
@spell_op.register(ops.Keep)
@spell_op.register(ops.Moments)
@spell_op.register(ops.Affine)
@spell_op.register(ops.Dropout)
@spell_op.register(ops.Linear)
def _(op: ops.Op, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call(str(members[0]), *x)


@spell_op.register
def _(op: ops.DropPath, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    if op.scale == "evaluation":
        return Text(f"{x[0]} * {x[1]}")
    return Text(f"{x[0]} * ({x[1]} / {members[0]}.survival)")


@spell_op.register
def _(op: ops.Relu, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.relu", x[0])


@spell_op.register
def _(op: ops.Sigmoid, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.sigmoid", x[0])


@spell_op.register
def _(op: ops.Conv, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    if not banked:
        return call(str(members[0]), x[0])
    padding = [f"padding={op.padding}"] if op.padding else []
    return call("F.conv2d", x[0], members[0], *padding)


@spell_op.register
def _(op: ops.MaxPool, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    padding = [f"padding={op.padding}"] if op.padding else []
    return call("F.max_pool2d", x[0], str(op.kernel), f"stride={op.stride}", *padding)


@spell_op.register
def _(op: ops.AvgPool, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("F.avg_pool2d", x[0], str(op.kernel), f"stride={op.stride}")


@spell_op.register
def _(op: ops.GlobalAvgPool, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]}.mean((2, 3))")


@spell_op.register
def _(op: ops.ScaleChannels, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]} * {x[1]}[:, :, None, None]")


def he_lines(things: Collection[object]) -> str:
    """Spell the initialization of a convolution."""
    indent = INDENT * 2
    fan_out = ', mode="fan_out"' if FanOutKernel in things else ""
    if {Kernel, FanOutKernel} <= set(things):
        mode = '"fan_out" if isinstance(module, FanOutConv2d) else "fan_in"'
        return (
            f"{indent}mode: Literal['fan_in', 'fan_out'] = {mode}\n"
            f'{indent}nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")'
        ).replace("'", '"')
    return f'{indent}nn.init.kaiming_normal_(module.weight{fan_out}, nonlinearity="relu")'


def alike_steps(view: ModelView) -> str:
    """Spell the loops over blocks and over their steps that are alike."""
    blocks: dict[tuple[str, ...], list[str]] = {}
    for block, names in view.alike.items():
        blocks.setdefault(names, []).append(f"self.{block}")
    lines = []
    for names, of in blocks.items():
        for row in wrap(" ".join(names), WIDTH - len('        alike = ""')):
            lines.append(f'{INDENT * 2}alike = "{row}"')
            if len(of) > 1:
                lines += layout(listing(*of), prefix="for block in ", suffix=":", depth=2)
            block, depth = ("block", 3) if len(of) > 1 else (of[0], 2)
            compiled = f'{block}.get_submodule(name).compile(**{{"dynamic": False, **options}})'
            lines.append(f"{INDENT * depth}for name in alike.split():")
            lines.append(f"{INDENT * (depth + 1)}{compiled}")
    return "\n".join(lines)


@singledispatch
def construct(thing: Thing) -> Code:
    """Spell the construction of a member; each kind of member registers its own."""
    raise TypeError(f"the torch backend has no member {type(thing).__name__}")


@construct.register
def _(thing: Norm) -> Code:
    return _norm("nn.BatchNorm2d", thing)


@construct.register
def _(thing: ZeroNorm) -> Code:
    return _norm("zero_norm", thing)


@construct.register
def _(thing: BranchNorm) -> Code:
    return _norm("BranchNorm2d", thing)


@construct.register
def _(thing: ZeroBranchNorm) -> Code:
    return _norm("zero_branch_norm", thing)


def _norm(function: str, thing: Norm) -> Code:
    # PyTorch's defaults are ours; anything else is an argument.
    eps = [f"eps={thing.eps}"] if thing.eps != ops.BatchNorm.eps else []
    momentum = [f"momentum={thing.momentum}"] if thing.momentum != ops.BatchNorm.momentum else []
    return call(function, str(thing.channels), *eps, *momentum)


@construct.register(Kernel)
@construct.register(FanOutKernel)
@construct.register(BiasedKernel)
def _(thing: Kernel | BiasedKernel) -> Code:
    stride = [f"stride={thing.stride}"] if thing.stride > 1 else []
    padding = [f"padding={thing.padding}"] if thing.padding else []
    sizes = (str(thing.channels), str(thing.filters), str(thing.size))
    bias = [] if isinstance(thing, BiasedKernel) else ["bias=False"]
    return call("nn.Conv2d", *sizes, *stride, *padding, *bias)


@construct.register
def _(thing: Normalizer) -> Code:
    eps = [f"eps={thing.eps}"] if thing.eps != ops.Normalize.eps else []
    return call("Norm", str(thing.channels), *eps)


@construct.register
def _(thing: Statistics) -> Code:
    default = thing.momentum == ops.Moments.momentum
    return call("Moments", str(thing.channels), *([] if default else [f"{thing.momentum}"]))


@construct.register
def _(thing: ChannelAffine) -> Code:
    return call("ChannelAffine", str(thing.channels))


@construct.register
def _(thing: SharedKernel) -> Code:
    return call("kernel_bank", listing(str(thing.channels)), str(thing.filters), str(thing.size))


@construct.register
def _(thing: KernelBank) -> Code:
    sources = listing(*items(thing.sources))
    return call("kernel_bank", sources, str(thing.filters), str(thing.size))


@construct.register
def _(thing: Dense) -> Code:
    return call("nn.Linear", str(thing.inputs), str(thing.outputs))


@construct.register
def _(thing: Drop) -> Code:
    return call("nn.Dropout", str(thing.rate))


@construct.register
def _(thing: BranchDrop) -> Code:
    return call("DropPath", str(thing.rate))


@construct.register
def _(thing: ImageBranchDrop) -> Code:
    return call("ImageDropPath", str(thing.rate))
