"""NumPy's words for operations and members."""

from __future__ import annotations

from collections.abc import Sequence

from cliquegraph.emit.code import Code, Text, call
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    ChannelAffine,
    Child,
    Dense,
    Drop,
    Kernel,
    KernelBank,
    Norm,
    Normalizer,
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
            case ops.BatchNorm() | ops.Moments() | ops.Affine() | ops.Linear():
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
            case ops.Conv(bias=True):
                return call(str(members[0]), x)
            case ops.Conv() as op:
                return call("conv", x, members[0], self.number(node, op.stride), str(op.padding))
            case ops.MaxPool() as op:
                sizes = f"{op.kernel}, {op.stride}, {op.padding}, -np.inf"
                return Text(f"windows({x}, {sizes}).max((4, 5))")
            case ops.AvgPool() as op:
                return Text(f"windows({x}, {op.kernel}, {op.stride}, 0, 0.0).mean((4, 5))")
            case ops.GlobalAvgPool():
                return Text(f"{x}.mean((2, 3))")
            case ops.ScaleChannels():
                return Text(f"{x} * {arguments[1]}[:, :, None, None]")
        raise TypeError(f"the numpy backend does not know {node.op.mnemonic}")

    def kernel(self, member: Code, banked: bool) -> Code:
        return member

    def shape(self, channels: int, height: int, width: int) -> str:
        return f"(batch, {channels}, {height}, {width})"

    def bank_slice(self, view: BankSlice) -> Code:
        return Text(f"self.{view.name}[:, {view.bounds}]")

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
            case BranchDrop(rate):
                return Text(str(rate))
        raise TypeError(f"the numpy backend has no member {type(thing).__name__}")

    def construct_child(self, child: Child) -> Code:
        return call(child.class_name, *child.written)

    def annotation(self, kind: Kind) -> str:
        return _ANNOTATIONS[kind]
