"""Prints operations and members in PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import singledispatch

from cliquegraph.emit.code import INDENT, Bracket, Code, Text, call, layout, listing, string
from cliquegraph.emit.dims import items
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    ChannelBias,
    Child,
    ColumnDraw,
    ColumnJoinDrop,
    Dense,
    DepthwiseKernel,
    Drop,
    FanOutKernel,
    GroupNormalizer,
    ImageBranchDrop,
    JoinDrop,
    Kernel,
    KernelBank,
    KernelWithBias,
    Norm,
    Normalizer,
    ScalarGate,
    SharedKernel,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import (
    Apply,
    BankSlice,
    Body,
    CallChild,
    Expression,
    Feature,
    Kind,
    ModelView,
)
from cliquegraph.ir import ops
from cliquegraph_torch.eager import OVERWRITTEN

_ANNOTATIONS = {
    Kind.TENSOR: "Tensor",
    Kind.FEATURE: "Feature",
    Kind.MAPS: "list[Tensor]",
    Kind.FEATURES: "list[Feature]",
    Kind.KERNEL: "Tensor",
    Kind.LAYER: "nn.Module",
}


class TorchSpeller(Speller):
    """Maps are (batch, channels, height, width); kernels OIHW."""

    tensor = "Tensor"
    call_method = "forward"

    def __init__(
        self, marked: bool = False, *, checks: Collection[str] = (), has_kernels: bool = False
    ) -> None:
        """Remember what the file's helpers demand.

        Args:
            marked: convolutions initialized by their fan-out have a class of their own.
            checks: the helpers that refuse uses which the model does not allow.
            has_kernels: features lie in slabs; helpers of the file take fewer passes over maps.
        """
        self._marked, self._checks, self._has_kernels = marked, checks, has_kernels

    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        """Print one operation."""
        if isinstance(node.op, ops.Relu):
            inner = node.arguments[0]  # a value without other readers is nested
            if self._has_kernels and node.reads_only(ops.BatchNorm):
                assert isinstance(inner, Apply)  # noqa: S101  # what reads_only says
                return call("bn_relu", *map(self.expression, (*inner.arguments, *inner.members)))
            if isinstance(inner, Apply) and isinstance(inner.op, OVERWRITTEN):
                return call("torch.relu_", arguments[0])
        if isinstance(node.op, ops.AvgPool) and node.recomputed:
            return call("avg_pool", arguments[0], str(node.op.kernel), str(node.op.stride))
        if isinstance(node.op, ops.GlobalMean) and self._has_kernels:
            return call("global_mean", arguments[0])
        if isinstance(node.op, ops.PadChannels):
            behind = f"{self.number(node, node.op.channels)} - {arguments[0]}.shape[1]"
            return call("F.pad", arguments[0], f"(0, 0, 0, 0, 0, {behind})")
        if isinstance(node.op, ops.Zeros):
            return self.zeros(node, node.op, arguments[0])
        return spell_op(node.op, arguments, members, node.banked)

    def expression(self, view: Expression) -> Code:
        """Print an expression; a feature has what holds its running moments."""
        if isinstance(view, Feature) and isinstance(view.moments, Apply):
            return call("Feature", view.maps.name, *map(self.expression, view.moments.members))
        return super().expression(view)

    def takes_stride(self, node: Apply) -> bool:
        """Tell whether a convolution's call takes its stride: its member has it."""
        return False

    def kernel(self, member: Code, banked: bool) -> Code:
        """Print the array of a convolution's member."""
        return member if banked else Text(f"kernel_of({member})")

    def shape(self, channels: int, height: int, width: int) -> str:
        """Print the shape of a batch of maps."""
        return f"(batch, {channels}, {height}, {width})"

    def enter(self, images: str) -> str | None:
        """Print the checks of how the model is used."""
        arguments = {"require_branch_norms": "self", "require_supported": f"self, {images}"}
        checks = [f"{name}({arguments[name]})" for name in self._checks]
        return "\n".join(checks) or None

    def returns(self, kinds: Sequence[Kind], *, always_tuple: bool = False) -> str:
        """Print the type of the results; maps are a tuple, as reentrant checkpoints demand."""
        if tuple(kinds) == (Kind.MAPS,) and not always_tuple:
            return "tuple[Tensor, ...]"
        return super().returns(kinds, always_tuple=always_tuple)

    def body(self, body: Body, depth: int, *, always_tuple: bool = False) -> str:
        """Return statements and the return, indented by ``depth`` levels."""
        text = super().body(body, depth, always_tuple=always_tuple)
        if body.kinds != (Kind.MAPS,) or always_tuple:
            return text
        *lines, last = text.split("\n")
        return "\n".join([*lines, last.replace("return ", "return tuple(") + ")"])

    def bank_slice(self, view: BankSlice) -> Code:
        """Print a slice of a kernel bank's input channels."""
        return Text(f"self.{view.name}" + ("" if view.is_whole else f"[:, {view.bounds}]"))

    def construct(self, thing: Thing) -> Code:
        """Print the construction of a member."""
        code = construct(thing)
        if self._marked and starts_by_fan_out(thing) and isinstance(code, Bracket):
            return Bracket("FanOutConv2d(", code.items, code.close)
        return code

    def construct_child(self, child: Child) -> Code:
        """Print the construction of an instance of another class of the file."""
        return call(child.class_name, *child.written)

    def annotation(self, kind: Kind) -> str:
        """Print the type of an input."""
        return _ANNOTATIONS[kind]

    def untyped(self, value: Expression) -> bool:
        """Tell whether a value is the result of a module's call, which is untyped."""
        if isinstance(value, Apply):
            if isinstance(value.op, ops.Bias | ops.Gate):
                return self.untyped(value.arguments[0])
            return bool(value.members) and not (
                value.banked and isinstance(value.op, ops.Conv) and not value.op.bias
            )
        return isinstance(value, CallChild)


@singledispatch
def spell_op(op: ops.Op, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    """Print an op on its arguments; each op registers its own function."""
    raise TypeError(f"the torch backend does not know {op.mnemonic}")


@spell_op.register
def _(op: ops.Concat, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.cat", x[0], "1")


@spell_op.register
def _(op: ops.Add, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(" + ".join(map(str, x)))


@spell_op.register
def _(op: ops.Mean, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    total = " + ".join(map(str, x))
    return Text(f"({total}) / {op.count}" if len(x) > 1 else f"{total} / {op.count}")


@spell_op.register(ops.BatchNorm)
@spell_op.register(ops.GroupNorm)
@spell_op.register(ops.Keep)
@spell_op.register(ops.DrawColumn)
@spell_op.register(ops.JoinWeights)
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
def _(op: ops.WeightedMean, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    *maps, weights = x
    return Text(" + ".join(f"{each} * {weights}[{i}]" for i, each in enumerate(maps)))


@spell_op.register
def _(op: ops.Stack, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.stack", x[0])


@spell_op.register
def _(op: ops.Relu, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.relu", x[0])


@spell_op.register
def _(op: ops.Sigmoid, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("torch.sigmoid", x[0])


@spell_op.register
def _(op: ops.Conv, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    if not banked or op.bias:
        return call(str(members[0]), x[0])
    stride = [f"stride={op.stride}"] if op.stride > 1 else []
    padding = [f"padding={op.padding}"] if op.padding else []
    groups = [f"groups={x[0]}.shape[1]"] if op.depthwise else []
    return call("F.conv2d", x[0], *members, *stride, *padding, *groups)


@spell_op.register
def _(op: ops.Bias, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]} + {members[0]}[:, None, None]")


@spell_op.register
def _(op: ops.Gate, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]} * torch.sigmoid({members[0]})")


@spell_op.register
def _(op: ops.LocalResponse, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("F.local_response_norm", x[0], str(op.size), f"{op.alpha}", f"{op.beta}")


@spell_op.register
def _(op: ops.Upsample, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return call("F.interpolate", x[0], f"scale_factor={op.factor}")


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
def _(op: ops.GlobalMean, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]}.mean((2, 3), keepdim=True)")


@spell_op.register
def _(op: ops.GlobalMaxPool, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    # As a pool, whose backward pass does not compare maps with their maximum.
    return Text(f"F.max_pool2d({x[0]}, {x[0]}.shape[2:]).flatten(1)")


@spell_op.register
def _(op: ops.ScaleChannels, x: Sequence[Code], members: Sequence[Code], banked: bool) -> Code:
    return Text(f"{x[0]} * {x[1]}[:, :, None, None]")


def starts_by_fan_out(thing: Thing) -> bool:
    """Tell whether a member is a convolution initialized by its fan-out."""
    with_flag = isinstance(thing, KernelWithBias | DepthwiseKernel) and thing.fan_out
    return isinstance(thing, FanOutKernel) or with_flag


def he_lines(things: Collection[Thing]) -> str:
    """Print the initialization of a convolution."""
    starts = convolution_starts(things)
    mode = 'mode="fan_out", ' if True in starts else ""
    lines = []
    if len(starts) > 1:
        lines.append('mode: Literal["fan_in", "fan_out"] = "fan_in"')
        lines.append(f'if isinstance(module, FanOutConv2d):\n{INDENT * 3}mode = "fan_out"')
        mode = "mode=mode, "
    lines.append(f'nn.init.kaiming_normal_(module.weight, {mode}nonlinearity="relu")')
    if any(isinstance(thing, KernelWithBias) or getattr(thing, "bias", False) for thing in things):
        lines.append(f"if module.bias is not None:\n{INDENT * 3}nn.init.zeros_(module.bias)")
    return "\n".join(f"{INDENT * 2}{line}" for line in lines)


def convolution_starts(things: Collection[Thing]) -> set[bool]:
    """Return whether convolutions start by their fan-out, for all that there are."""
    convolutions = (thing for thing in things if isinstance(thing, Kernel | DepthwiseKernel))
    return {starts_by_fan_out(thing) for thing in convolutions}


def alike_steps(view: ModelView) -> str:
    """Print the loops over blocks and over their equal updates."""
    members = {each.name: {m.name for g in each.groups for m in g.members} for each in view.classes}
    loops: list[tuple[dict[str, None], list[str]]] = []
    for block, names in view.alike.items():
        for together, blocks in loops:
            # One loop serves all blocks in which the same names, if present, are equal updates.
            joined = {*together, *names}
            if all(
                joined & members[view.children[each]] == set(view.alike[each])
                for each in (*blocks, block)
            ):
                together.update(dict.fromkeys(names))
                blocks.append(block)
                break
        else:
            loops.append((dict.fromkeys(names), [block]))
    return "\n".join(line for names, blocks in loops for line in _compile_loop([*names], blocks))


def _compile_loop(names: Sequence[str], blocks: Sequence[str]) -> Iterator[str]:
    yield from string(" ".join(names), prefix="alike = ", depth=2)
    block, depth = f"self.{blocks[0]}", 2
    if len(blocks) > 1:
        listed = listing(*(f"self.{each}" for each in blocks))
        yield from layout(listed, prefix="for block in ", suffix=":", depth=2)
        block, depth = "block", 3
    yield f"{INDENT * depth}for name, step in {block}.named_children():"
    yield f"{INDENT * (depth + 1)}if name in alike.split():"
    yield f'{INDENT * (depth + 2)}step.compile(**{{"dynamic": False, **options}})'


@singledispatch
def construct(thing: Thing) -> Code:
    """Print the construction of a member; each type of member registers its own function."""
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
    # Our defaults are PyTorch's; other values are arguments.
    eps = [f"eps={thing.eps}"] if thing.eps != ops.BatchNorm.eps else []
    momentum = [f"momentum={thing.momentum}"] if thing.momentum != ops.BatchNorm.momentum else []
    return call(function, str(thing.channels), *eps, *momentum)


@construct.register(Kernel)
@construct.register(FanOutKernel)
@construct.register(KernelWithBias)
@construct.register(BiasedKernel)
def _(thing: Kernel | BiasedKernel) -> Code:
    stride = [f"stride={thing.stride}"] if thing.stride != 1 else []
    padding = [f"padding={thing.padding}"] if thing.padding else []
    sizes = (str(thing.channels), str(thing.filters), str(thing.size))
    bias = [] if isinstance(thing, BiasedKernel | KernelWithBias) else ["bias=False"]
    return call("nn.Conv2d", *sizes, *stride, *padding, *bias)


@construct.register
def _(thing: DepthwiseKernel) -> Code:
    stride = [f"stride={thing.stride}"] if thing.stride != 1 else []
    padding = [f"padding={thing.padding}"] if thing.padding else []
    channels, bias = str(thing.channels), [] if thing.bias else ["bias=False"]
    sizes = (channels, channels, str(thing.size))
    return call("nn.Conv2d", *sizes, *stride, *padding, f"groups={channels}", *bias)


@construct.register
def _(thing: GroupNormalizer) -> Code:
    eps = [f"eps={thing.eps}"] if thing.eps != ops.GroupNorm.eps else []
    return call("nn.GroupNorm", str(thing.groups), str(thing.channels), *eps)


@construct.register
def _(thing: ChannelBias) -> Code:
    return call("nn.Parameter", call("torch.zeros", str(thing.channels)))


@construct.register
def _(thing: ScalarGate) -> Code:
    return call("nn.Parameter", call("torch.zeros", "1"))


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


@construct.register
def _(thing: ColumnDraw) -> Code:
    return call("DrawColumn", str(thing.rate), str(thing.columns))


@construct.register
def _(thing: JoinDrop) -> Code:
    return call("JoinWeights", str(thing.rate), str(thing.count))


@construct.register
def _(thing: ColumnJoinDrop) -> Code:
    return call("ColumnJoinWeights", str(thing.rate), str(thing.columns))
