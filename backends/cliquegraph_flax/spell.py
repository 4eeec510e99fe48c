"""Prints operations in JAX, members in Flax NNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from cliquegraph.emit.code import Code, Text, call, listing
from cliquegraph.emit.dims import Dim, items
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
from cliquegraph.emit.view import Apply, BankSlice, ClassView, Kind, ModelView
from cliquegraph.ir import ops

_ANNOTATIONS = {
    Kind.TENSOR: "Array",
    Kind.FEATURE: "Feature",
    Kind.MAPS: "list[Array]",
    Kind.FEATURES: "list[Feature]",
    Kind.KERNEL: "Array",
    Kind.LAYER: "Callable[..., Array]",
}


class FlaxSpeller(Speller):
    """Maps are (batch, height, width, channels); kernels HWIO."""

    tensor = "Array"
    call_method = "__call__"

    def __init__(self, view: ModelView) -> None:
        """Find the classes that draw weights or masks, and whether there are kernel banks."""
        self._random: set[str] = set()
        for each in view.classes:
            if any(self._draws(member.thing) for group in each.groups for member in group.members):
                self._random.add(each.name)
        self._banks = KernelBank in view.things

    def _draws(self, thing: Thing) -> bool:
        if isinstance(thing, Child):
            return thing.class_name in self._random
        kernels = Kernel | DepthwiseKernel | SharedKernel | KernelBank
        drops = Drop | BranchDrop | ColumnDraw | JoinDrop | ColumnJoinDrop
        return isinstance(thing, kernels | Dense | drops)

    def init_inputs(self, view: ClassView) -> Sequence[str]:
        """Print the random streams, for a class that draws from them."""
        return ("*", "rngs: nnx.Rngs") if view.name in self._random else ()

    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        """Print one operation."""
        if isinstance(node.op, ops.Conv) and not node.op.bias:
            number = self.number(node, node.op.stride)
            stride = [f"stride={number}"] if number != "1" else []
            padding = [f"padding={node.op.padding}"] if node.op.padding else []
            kernel = self.kernel(members[0], node.banked)
            code = call("conv", arguments[0], kernel, *stride, *padding)
            return Text(f"{code} + {cast(members[1], arguments[0])}") if members[1:] else code
        if isinstance(node.op, ops.Bias | ops.Gate):
            members = [self.kernel(each, node.banked) for each in members]
        if isinstance(node.op, ops.Zeros):
            return self.zeros(node, node.op, arguments[0])
        if isinstance(node.op, ops.PadChannels):
            behind = f"(0, {self.number(node, node.op.channels)} - {arguments[0]}.shape[-1])"
            return call("jnp.pad", arguments[0], listing("(0, 0)", "(0, 0)", "(0, 0)", behind))
        return spell_op(node.op, arguments, members)

    def kernel(self, member: Code, banked: bool) -> Code:
        """Print the array of a convolution's member."""
        return member if banked else Text(f"{member}[...]")

    def shape(self, channels: int, height: int, width: int) -> str:
        """Print the shape of a batch of maps."""
        return f"(batch, {height}, {width}, {channels})"

    def enter(self, images: str) -> str:
        """Print the cast of images: to the model's type, or promoted with its parameters."""
        return (
            "parameters = jax.tree.leaves(nnx.state(self, nnx.Param))  # promotes as nnx.Conv\n"
            f"{images} = {images}.astype(self.dtype or jnp.result_type({images}, 0.0, *parameters))"
        )

    def bank_slice(self, view: BankSlice) -> Code:
        """Print a slice of a kernel bank's input channels."""
        return Text(f"self.{view.name}[{'...' if view.is_whole else f':, :, {view.bounds}'}]")

    def construct(self, thing: Thing) -> Code:
        """Print the construction of a member."""
        match thing:
            case KernelWithBias(channels, filters, size, stride, padding, fan_out):
                kernel = (FanOutKernel if fan_out else Kernel)(channels, filters, size, 1, 0)
                return self._with_bias(kernel, stride, padding)
            case DepthwiseKernel(channels, size, stride, padding, bias, fan_out):
                kernel = (FanOutKernel if fan_out else Kernel)(1, channels, size, 1, 0)
                return self._with_bias(kernel, stride, padding) if bias else self.construct(kernel)
        if isinstance(thing, FanOutKernel) or not self._banks:
            return construct(thing)
        if isinstance(thing, Kernel | SharedKernel):
            thing = KernelBank((thing.channels,), thing.filters, thing.size)
        return construct(thing)

    def _with_bias(self, kernel: Kernel, stride: Dim, padding: int) -> Code:
        strides = [f"stride={stride}"] if stride != 1 else []
        pads = [f"padding={padding}"] if padding else []
        return call("Conv", self.construct(kernel), *strides, *pads)

    def construct_child(self, child: Child) -> Code:
        """Print the construction of an instance of another class of the file."""
        rngs = ["rngs=rngs"] if self._draws(child) else []
        return call(child.class_name, *child.written, *rngs)

    def annotation(self, kind: Kind) -> str:
        """Print the type of an input."""
        return _ANNOTATIONS[kind]


@singledispatch
def spell_op(op: ops.Op, x: Sequence[Code], members: Sequence[Code]) -> Code:
    """Print an op on its arguments; each op registers its own function."""
    raise TypeError(f"the flax backend does not know {op.mnemonic}")


@spell_op.register
def _(op: ops.Concat, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("jnp.concatenate", x[0], "axis=-1")


@spell_op.register
def _(op: ops.Add, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return Text(" + ".join(map(str, x)))


@spell_op.register
def _(op: ops.Mean, x: Sequence[Code], members: Sequence[Code]) -> Code:
    total = " + ".join(map(str, x))
    return Text(f"({total}) / {op.count}" if len(x) > 1 else f"{total} / {op.count}")


@spell_op.register(ops.BatchNorm)
@spell_op.register(ops.GroupNorm)
@spell_op.register(ops.Moments)
@spell_op.register(ops.Affine)
@spell_op.register(ops.Conv)
@spell_op.register(ops.Dropout)
@spell_op.register(ops.Keep)
@spell_op.register(ops.JoinWeights)
@spell_op.register(ops.Linear)
def _(op: ops.Op, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call(str(members[0]), *x)


@spell_op.register
def _(op: ops.DrawColumn, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call(str(members[0]))


@spell_op.register
def _(op: ops.DropPath, x: Sequence[Code], members: Sequence[Code]) -> Code:
    if op.scale == "evaluation":
        return Text(f"{x[0]} * {x[1]}")
    return Text(f"{x[0]} * ({x[1]} / {members[0]}.survival)")


@spell_op.register
def _(op: ops.WeightedMean, x: Sequence[Code], members: Sequence[Code]) -> Code:
    *maps, weights = x
    return Text(" + ".join(f"{each} * {weights}[{i}]" for i, each in enumerate(maps)))


@spell_op.register
def _(op: ops.Stack, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("jnp.stack", x[0])


@spell_op.register
def _(op: ops.Relu, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("nnx.relu", x[0])


@spell_op.register
def _(op: ops.Sigmoid, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("nnx.sigmoid", x[0])


def cast(array: Code, x: Code) -> Text:
    """Print an array, cast to the type of maps."""
    return Text(f"{array}.astype({x}.dtype)")


@spell_op.register
def _(op: ops.Bias, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return Text(f"{x[0]} + {cast(members[0], x[0])}")


@spell_op.register
def _(op: ops.Gate, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return Text(f"{x[0]} * {cast(call('nnx.sigmoid', members[0]), x[0])}")


@spell_op.register
def _(op: ops.LocalResponse, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("local_response_norm", x[0], str(op.size), str(op.alpha), str(op.beta))


@spell_op.register
def _(op: ops.Upsample, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return Text(f"{x[0]}.repeat({op.factor}, axis=1).repeat({op.factor}, axis=2)")


@spell_op.register
def _(op: ops.GlobalMaxPool, x: Sequence[Code], members: Sequence[Code]) -> Code:
    # As a pool: the gradient of a maximum compares maps, which XLA may compute again and round in
    # another way, with it.
    return Text(f"max_pool({x[0]}, {x[0]}.shape[1:3])[:, 0, 0]")


@spell_op.register
def _(op: ops.MaxPool, x: Sequence[Code], members: Sequence[Code]) -> Code:
    border = f"({op.padding}, {op.padding})"
    padding = [f"padding=({border}, {border})"] if op.padding else []
    return call("max_pool", x[0], *_window(op), *padding)


@spell_op.register
def _(op: ops.AvgPool, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("avg_pool", x[0], *_window(op))


def _window(op: ops.MaxPool | ops.AvgPool) -> tuple[str, str]:
    return f"({op.kernel}, {op.kernel})", f"strides=({op.stride}, {op.stride})"


@spell_op.register
def _(op: ops.GlobalAvgPool, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("jnp.mean", x[0], "axis=(1, 2)")


@spell_op.register
def _(op: ops.GlobalMean, x: Sequence[Code], members: Sequence[Code]) -> Code:
    return call("jnp.mean", x[0], "axis=(1, 2)", "keepdims=True")


@spell_op.register
def _(op: ops.ScaleChannels, x: Sequence[Code], members: Sequence[Code]) -> Code:
    # The preceding linear layers compute in the type of the parameters.
    return Text(f"{x[0]} * {x[1]}[:, None, None, :].astype({x[0]}.dtype)")


@singledispatch
def construct(thing: Thing) -> Code:
    """Print the construction of a member; each type of member registers its own function."""
    raise TypeError(f"the flax backend has no member {type(thing).__name__}")


@construct.register
def _(thing: Norm) -> Code:
    return _norm("BatchNorm", thing)


@construct.register
def _(thing: ZeroNorm) -> Code:
    return _norm("zero_norm", thing)


@construct.register
def _(thing: BranchNorm) -> Code:
    return _norm("BranchNorm", thing)


@construct.register
def _(thing: ZeroBranchNorm) -> Code:
    return _norm("zero_branch_norm", thing)


def _norm(function: str, thing: Norm) -> Code:
    # The generated class has our defaults; other values are arguments.
    eps = [f"eps={thing.eps}"] if thing.eps != ops.BatchNorm.eps else []
    momentum = [f"momentum={thing.momentum}"] if thing.momentum != ops.BatchNorm.momentum else []
    return call(function, str(thing.channels), *eps, *momentum)


@construct.register(Kernel)
@construct.register(FanOutKernel)
@construct.register(SharedKernel)
def _(thing: Kernel | SharedKernel) -> Code:
    sizes = (str(thing.channels), str(thing.filters), str(thing.size))
    function = "fan_out_kernel" if isinstance(thing, FanOutKernel) else "he_kernel"
    return call(function, *sizes, "rngs=rngs")


@construct.register
def _(thing: BiasedKernel) -> Code:
    stride = [f"stride={thing.stride}"] if thing.stride != 1 else []
    padding = [f"padding={thing.padding}"] if thing.padding else []
    sizes = (str(thing.channels), str(thing.filters), str(thing.size))
    return call("BiasedConv", *sizes, *stride, *padding)


@construct.register
def _(thing: GroupNormalizer) -> Code:
    eps = [f"eps={thing.eps}"] if thing.eps != ops.GroupNorm.eps else []
    return call("GroupNorm", str(thing.groups), str(thing.channels), *eps)


@construct.register
def _(thing: ChannelBias) -> Code:
    return call("nnx.Param", call("jnp.zeros", str(thing.channels)))


@construct.register
def _(thing: ScalarGate) -> Code:
    return call("nnx.Param", call("jnp.zeros", "1"))


@construct.register
def _(thing: Normalizer) -> Code:
    eps = [f"eps={thing.eps}"] if thing.eps != ops.Normalize.eps else []
    return call("Norm", str(thing.channels), *eps)


@construct.register
def _(thing: Statistics) -> Code:
    default = thing.momentum == ops.Moments.momentum
    momentum = [] if default else [f"{thing.momentum}"]
    return call("Moments", str(thing.channels), *momentum)


@construct.register
def _(thing: ChannelAffine) -> Code:
    return call("ChannelAffine", str(thing.channels))


@construct.register
def _(thing: KernelBank) -> Code:
    sources = listing(*items(thing.sources))
    return call("kernel_bank", sources, str(thing.filters), str(thing.size), "rngs=rngs")


@construct.register
def _(thing: Dense) -> Code:
    sizes = (str(thing.inputs), str(thing.outputs))
    return call("nnx.Linear", *sizes, "kernel_init=xavier_uniform()", "rngs=rngs")


@construct.register
def _(thing: Drop) -> Code:
    return call("nnx.Dropout", str(thing.rate), "rngs=rngs")


@construct.register
def _(thing: BranchDrop) -> Code:
    return call("DropPath", str(thing.rate), "rngs=rngs")


@construct.register
def _(thing: ImageBranchDrop) -> Code:
    return call("ImageDropPath", str(thing.rate), "rngs=rngs")


@construct.register
def _(thing: ColumnDraw) -> Code:
    return call("DrawColumn", str(thing.rate), str(thing.columns), "rngs=rngs")


@construct.register
def _(thing: JoinDrop) -> Code:
    return call("JoinWeights", str(thing.rate), str(thing.count), "rngs=rngs")


@construct.register
def _(thing: ColumnJoinDrop) -> Code:
    return call("ColumnJoinWeights", str(thing.rate), str(thing.columns), "rngs=rngs")
