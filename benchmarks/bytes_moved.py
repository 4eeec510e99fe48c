"""The bytes that a training step moves: what PyTorch's operators read and write.

    python benchmarks/bytes_moved.py --networks cliquenet_s3 --output

Each tensor that an operator reads and each that it writes counts once for the operator, forward and
backward; one that it reads and changes in place counts twice; views count nothing, and what a view
expands counts once. Models are channels_last, in float32: the literal one (literal.py) and every -O
level, by PyTorch's operators as they run on a CPU, and (A, B) with Triton's kernels, which are
replaced by operators that compute the same, and counted as what the kernels read and write. What a
cache holds between two operators is counted all the same, so this is about devices whose cache no
map fits. Tensors have no values: nothing is computed, and any batch fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import torch_runs as runs
from benchmarks.counted_kernels import DESIGNS, CountedKernels
from benchmarks.harness import (
    Report,
    default_batch,
    load_network,
    megabytes,
    parser,
    print_table,
    run,
)
from cliquegraph import NetworkSpec

_OVERWRITE = ("copy_.", "fill_.", "zero_.", "bernoulli_.")
"""Operators that change a tensor in place and do not read it."""

_WITHOUT_ELEMENTS = ("view", "empty", "device")
"""Parts of the names of operators that neither read nor write elements."""


class BytesMoved(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's is untyped
    """Adds up the bytes that operators read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        self.total = 0
        self._counts = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing meanwhile."""
        self._counts = False
        try:
            yield
        finally:
            self._counts = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Execute an operator and count what it reads and what it writes."""
        results = func(*args, **(kwargs or {}))
        name = func.__name__
        writes = not func.is_view and not any(each in name for each in _WITHOUT_ELEMENTS)
        if writes and self._counts:
            written = {each.name for each in func._schema.arguments if each.is_out}
            read = [*args, *(each for key, each in (kwargs or {}).items() if key not in written)]
            if name.startswith(("new_zeros", "zeros", "ones")):
                read = []
            if name.startswith(_OVERWRITE):
                read = read[1:]
            for tensors in (read, results):
                found = {
                    id(each): each for each in tree_leaves(tensors) if isinstance(each, Tensor)
                }
                self.total += sum(map(_bytes, found.values()))
        return results


def _bytes(tensor: Tensor) -> int:
    """The bytes of a tensor's elements; what is expanded, as a mean's gradient, counts once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.itemsize * prod(size if stride else min(size, 1) for size, stride in sizes)


def bytes_moved(network: NetworkSpec, batch: int, levels: Sequence[int]) -> dict[str, int]:
    """Count a training step of the literal model and each level, without the optimizer's."""
    found = {}
    for variant, build in runs.builders(network, levels).items():
        for design in ("", *DESIGNS):
            model = build().to(memory_format=torch.channels_last)
            has_kernels = "affine_relu" in type(model).forward.__globals__
            if design and not has_kernels:
                continue
            name = f"{variant} {design}".rstrip()
            found[name] = moved_in_a_step(model, network, batch, DESIGNS.get(design, 0))
    return found


def moved_in_a_step(model: nn.Module, network: NetworkSpec, batch: int, design: int = 0) -> int:
    """Count a training step of a model, by PyTorch's operators or with Triton's kernels."""
    size = network.input.channels, network.input.height, network.input.width
    moved = BytesMoved()
    kernels = CountedKernels(moved.paused)
    if design:
        kernels.replace(model, design)
    names = type(model).forward.__globals__
    if "is_derivable" in names:  # as on a CPU, in float32, of the values that scales begin with
        names["is_derivable"] = lambda scale, data: True
    with FakeTensorMode() as fake:
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, each in tensors.items():
                    tensors[name] = None if each is None else fake.from_tensor(each)
        images = torch.randn(batch, *size).contiguous(memory_format=torch.channels_last)
        with moved:
            model(images).sum().backward()
    return moved.total + kernels.total


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__ or "", rounds=1).parse_args()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    report = Report(arguments, "bytes_moved_torch")
    for name in arguments.networks:
        network = load_network(name)
        batch = arguments.batch or default_batch(network, accelerator=False)
        found = bytes_moved(network, batch, arguments.levels)
        rows = {
            variant: {
                "MB per image": megabytes(total / batch),
                f"/ {runs.LITERAL}": f"{total / found[runs.LITERAL]:.3f}",
            }
            for variant, total in found.items()
        }
        print_table(f"{name}, training, batch {batch}", rows)
        per_image = {variant: round(total / batch) for variant, total in found.items()}
        report.add({"network": name, "batch": batch, "bytes_moved_per_image": per_image})


if __name__ == "__main__":
    run(main)
