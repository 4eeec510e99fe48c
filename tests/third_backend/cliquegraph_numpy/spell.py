"""NumPy's words for operations and members."""

from __future__ import annotations

from collections.abc import Sequence

from cliquegraph.emit.code import Code, Text, call
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    ChannelAffine,
    ChannelBias,
    Child,
    ColumnDraw,
    ColumnJoinDrop,
    Dense,
    DepthwiseKernel,
    Drop,
    GroupNormalizer,
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
)
from cliquegraph.emit.view import Apply, BankSlice, Kind
from cliquegraph.ir import ops

_ANNOTATIONS = {
    Kind.TENSOR: "Array",
    Kind.FEATURE: "Feature",
    Kind.MAPS: "list[Array]",
    Kind.FEATURES: "list[Feature]",
    Kind.KERNEL: "Array",
    Kind.LAYER: "Any",
}


class NumpySpeller(Speller):
    tensor = "Array"
    call_method = "__call__"

    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        x = arguments[0]
        match node.op:
            case ops.Concat():
                return call("np.concatenate", x, "axis=1")
            case ops.Mean() as op:
                return Text(f"({' + '.join(map(str, arguments))}) / {op.count}")
            case ops.Add():
                return Text(" + ".join(map(str, arguments)))
            case ops.PadChannels() as op:
                behind = f"(0, {self.number(node, op.channels)} - {x}.shape[1])"
                return call("np.pad", x, f"((0, 0), {behind}, (0, 0), (0, 0))")
            case ops.BatchNorm() | ops.GroupNorm() | ops.Moments() | ops.Affine() | ops.Linear():
                return call(str(members[0]), x)
            case ops.Relu():
                return call("np.maximum", x, "0")
            case ops.Sigmoid():
                return Text(f"1 / (1 + np.exp(-{x}))")
            case ops.Dropout() | ops.DropPath(scale="training"):
                return x
            case ops.Keep():
                return Text(f"1 - {members[0]}")
            case ops.DropPath():
                return Text(f"{x} * {arguments[1]}")
            case ops.DrawColumn() as op:
                return Text(f"np.zeros({op.columns})")
            case ops.JoinWeights() as op:
                return Text(f"np.full({op.count}, 1 / {op.count})")
            case ops.WeightedMean():
                *maps, weights = arguments
                return Text(" + ".join(f"{each} * {weights}[{i}]" for i, each in enumerate(maps)))
            case ops.Conv(bias=True):
                return call(str(members[0]), x)
            case ops.Conv() as op:
                function = "depthwise_conv" if op.depthwise else "conv"
                return call(function, x, members[0], self.number(node, op.stride), str(op.padding))
            case ops.Bias():
                return Text(f"{x} + {members[0]}[:, None, None]")
            case ops.Gate():
                return Text(f"{x} / (1 + np.exp(-{members[0]}))")
            case ops.LocalResponse() as op:
                return call("local_response", x, str(op.size), str(op.alpha), str(op.beta))
            case ops.MaxPool() as op:
                sizes = f"{op.kernel}, {op.stride}, {op.padding}, -np.inf"
                return Text(f"windows({x}, {sizes}).max((4, 5))")
            case ops.AvgPool() as op:
                return Text(f"windows({x}, {op.kernel}, {op.stride}, 0, 0.0).mean((4, 5))")
            case ops.GlobalAvgPool():
                return Text(f"{x}.mean((2, 3))")
            case ops.GlobalMean():
                return Text(f"{x}.mean((2, 3), keepdims=True)")
            case ops.Stack():
                return call("np.stack", *arguments)
            case ops.GlobalMaxPool():
                return Text(f"{x}.max((2, 3))")
            case ops.Upsample() as op:
                return Text(f"{x}.repeat({op.factor}, 2).repeat({op.factor}, 3)")
            case ops.Zeros() as op:
                return self.zeros(node, op, x)
            case ops.ScaleChannels():
                return Text(f"{x} * {arguments[1]}[:, :, None, None]")
        raise TypeError(f"the numpy backend does not know {node.op.mnemonic}")

    def kernel(self, member: Code, banked: bool) -> Code:
        return member

    def shape(self, channels: int, height: int, width: int) -> str:
        return f"(batch, {channels}, {height}, {width})"

    def bank_slice(self, view: BankSlice) -> Code:
        return Text(f"self.{view.name}" + ("" if view.is_whole else f"[:, {view.bounds}]"))

    def construct(self, thing: Thing) -> Code:
        match thing:
            case Norm(channels, eps, _):
                return call("BatchNorm", str(channels), str(eps))
            case Normalizer(channels, eps):
                return call("Norm", str(channels), str(eps))
            case Statistics(channels, _):
                return call("Moments", str(channels))
            case ChannelAffine(channels):
                return call("Affine", str(channels))
            case BiasedKernel(channels, filters, size, stride, padding):
                sizes = map(str, (channels, filters, size, stride, padding))
                return call("BiasedConv", *sizes)
            case KernelWithBias(channels, filters, size, stride, padding):
                return call("BiasedConv", *map(str, (channels, filters, size, stride, padding)))
            case DepthwiseKernel(channels, size, stride, padding, bias=True):
                return call("DepthwiseConv", *map(str, (1, channels, size, stride, padding)))
            case DepthwiseKernel(channels, size):
                return Text(f"np.zeros(({channels}, 1, {size}, {size}))")
            case GroupNormalizer(channels, groups, eps):
                return call("GroupNorm", *map(str, (channels, groups, eps)))
            case ChannelBias(channels):
                return Text(f"np.zeros({channels})")
            case ScalarGate():
                return Text("np.zeros(1)")
            case Kernel(channels, filters, size) | SharedKernel(channels, filters, size):
                return Text(f"np.zeros(({filters}, {channels}, {size}, {size}))")
            case KernelBank(sources, filters, size):
                return Text(
                    f"np.zeros(({filters}, {' + '.join(map(str, sources))}, {size}, {size}))"
                )
            case Dense(inputs, outputs):
                return call("Linear", str(inputs), str(outputs))
            case Drop(rate):
                return Text(str(rate))  # for the reader; evaluation keeps everything
            case BranchDrop(rate) | ColumnDraw(rate) | JoinDrop(rate) | ColumnJoinDrop(rate):
                return Text(str(rate))
        raise TypeError(f"the numpy backend has no member {type(thing).__name__}")

    def construct_child(self, child: Child) -> Code:
        return call(child.class_name, *child.written)

    def annotation(self, kind: Kind) -> str:
        return _ANNOTATIONS[kind]
