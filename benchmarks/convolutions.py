"""A lower bound of a training step: the network's convolutions alone, forward and backward.

    python benchmarks/convolutions.py --output

Every convolution of the op graph runs separately on random tensors of its shapes: first all
forward passes, then all backward passes in reverse order, as in a step. The training steps of the
literal model and of every -O level run in the same rounds. A compiler can save only the time that
a step takes beyond its convolutions. PyTorch only: in JAX a convolution outside of its program is
another program.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import torch_runs as runs
from benchmarks.harness import (
    Json,
    Report,
    add_configurations,
    default_batch,
    interleave,
    load_network,
    parser,
    print_table,
    rated,
    run,
    significant,
    summarise,
    times,
)
from cliquegraph import Compilation, NetworkSpec
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Conv
from cliquegraph.ir.types import Field, MapType

FORWARD, BACKWARD, BOTH = "convolutions forward", "convolutions backward", "convolutions"


class Convolution(NamedTuple):
    """One convolution with separate tensors, so that none is in the cache, as in a step."""

    x: Tensor
    w: Tensor
    gradient: Tensor
    stride: int
    padding: int
    needs_input_gradient: bool

    def forward(self) -> Tensor:
        return F.conv2d(self.x, self.w, stride=self.stride, padding=self.padding)

    def backward(self) -> tuple[Tensor | None, ...]:
        gradients: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            self.gradient,
            self.x,
            self.w,
            None,  # bias
            [self.stride] * 2,
            [self.padding] * 2,
            [1, 1],  # dilation
            False,  # transposed
            [0, 0],
            1,  # groups
            [self.needs_input_gradient, True, False],
        )
        return gradients


def convolutions(network: NetworkSpec, how: runs.Configuration, count: int) -> list[Convolution]:
    """Return every convolution of a network, as lowered: no level adds or removes any."""
    graph = Compilation(network).lowered
    found = [(node, node.op) for node in graph if isinstance(node.op, Conv)]
    return [_convolution(graph, node, op, how, count) for node, op in found]


def _convolution(
    graph: Graph, node: Node, op: Conv, how: runs.Configuration, count: int
) -> Convolution:
    def draw(shape: tuple[int, ...]) -> Tensor:
        dtype = torch.bfloat16 if how.dtype == "bf16" else torch.float32
        drawn = torch.randn(shape, device=runs.DEVICE, dtype=dtype)
        return drawn.to(memory_format=runs.LAYOUTS[how.format])

    def maps(value: Value) -> tuple[int, ...]:
        assert isinstance(value.type, MapType)  # noqa: S101  # the only type of a convolution
        return (count, value.type.channels, value.type.height, value.type.width)

    (source,) = node.inputs
    return Convolution(
        draw(maps(source)),
        draw(op.param_shapes(node.input_types)[Field.WEIGHT]),
        draw(maps(node.output)),
        op.stride,
        op.padding,
        source is not graph.input,
    )


def forward_all(sequence: list[Convolution]) -> None:
    for each in sequence:
        each.forward()


def backward_all(sequence: list[Convolution]) -> None:
    for each in reversed(sequence):
        each.backward()


def measure(
    network: NetworkSpec, how: runs.Configuration, arguments: argparse.Namespace, repeats: int
) -> Json:
    """Time convolutions and steps in the same rounds."""
    torch.compiler.reset()
    how.set_precision()
    count = arguments.batch or default_batch(network, runs.CUDA)
    sequence = convolutions(network, how, count)
    calls = {
        FORWARD: partial(runs.timed, partial(forward_all, sequence), repeats),
        BACKWARD: partial(runs.timed, partial(backward_all, sequence), repeats),
    }
    images, labels = how.batch(network, count)
    for variant, build in runs.builders(network, arguments.levels).items():
        calls[variant] = partial(runs.TrainingStep(build(), images, labels, how).seconds, repeats)
    timed = interleave(calls, arguments.rounds)
    pairs = zip(timed[FORWARD], timed[BACKWARD], strict=True)
    samples = {BOTH: [forward + backward for forward, backward in pairs], **timed}
    shares = {
        variant: {"share_of_convolutions": share(samples[BOTH], seconds)}
        for variant, seconds in samples.items()
    }
    return {
        "network": network.name,
        **how.described(),
        "batch": count,
        "convolutions": len(sequence),
        "variants": rated(summarise(samples, baseline=runs.LITERAL), count, shares),
    }


def share(parts: list[float], wholes: list[float]) -> float:
    """Return the median share of the parts over the rounds."""
    ratios = [part / whole for part, whole in zip(parts, wholes, strict=True)]
    return significant(statistics.median(ratios))


def main() -> None:
    found = parser(__doc__, rounds=11)
    add_configurations(found, "no", "whole", "steps")
    arguments = found.parse_args()
    if arguments.backend != "torch":
        raise UsageError("convolutions alone are measured with --backend torch only")
    configurations = runs.configurations(arguments)
    repeats = arguments.repeats or (5 if runs.CUDA else 1)
    report = Report(arguments, f"convolutions_torch_{runs.DEVICE.type}", repeats=repeats)
    for name in arguments.networks:
        network = load_network(name)
        for how in configurations:
            result = measure(network, how, arguments, repeats)
            rows = {
                variant: {**times(row), "convolutions": f"{row['share_of_convolutions']:.0%}"}
                for variant, row in result["variants"].items()
            }
            for part in (FORWARD, BACKWARD):
                del rows[part]["convolutions"]
            print_table(f"{name}, {how}, training, batch {result['batch']}", rows)
            report.add(result)


if __name__ == "__main__":
    run(main)
