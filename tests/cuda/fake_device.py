"""Runs a generated model on fake CUDA tensors, in a process of its own.

    python tests/cuda/fake_device.py LIBRARY < sources.json > report.json

Tensors have a device, a type and strides, and no elements. Asked are what shapes alone can tell:
whether every operator takes such tensors on CUDA, which memory format maps have, and which
operators write maps in a wider type than autocast or the model's own asks for. LIBRARY is
fake_device.cpp, built; it makes the process answer as one with a GPU, so the tests run it apart.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

ctypes.CDLL(sys.argv[1])

import torch  # noqa: E402  # the library registers its guard first
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

torch.cuda._lazy_init = lambda: None
torch.cuda.amp.common.amp_definitely_not_available = lambda: False

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
WHOLE = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
CAST = {f"autocast {name}": getattr(torch, name) for name in ("bfloat16", "float16")}

LIBRARY = torch.library.Library("aten", "IMPL", "Meta")


def update_stats(x: Any, mean: Any, var: Any, momentum: float) -> tuple[Any, Any]:
    """PyTorch has no meta kernel of this operator; CUDA's result has the accumulate type."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape[1], dtype=dtype), x.new_empty(x.shape[1], dtype=dtype)


LIBRARY.impl("batch_norm_update_stats", update_stats)


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """``torch.autocast("cuda")``, which would ask for a device."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


class Maps(TorchDispatchMode):
    """Notes every operator that writes maps out of the memory format or wider than asked.

    Attributes:
        called: every operator that ran.
        strayed: operators that wrote maps in another memory format than channels_last.
        widened: elements that operators wrote in a wider type, by operator.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._width = dtype.itemsize
        self.called: set[str] = set()
        self.strayed: set[str] = set()
        self.widened: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.called.add(str(func).removeprefix("aten."))
        for each in result if isinstance(result, tuple | list) else (result,):
            if not isinstance(each, torch.Tensor) or func.is_view:  # which writes nothing
                continue
            if each.dim() == 4 and len(each) == BATCH:
                self._note_format(str(func), each)
            columns = each.dim() == 2 and len(each) % (4 * BATCH) == 0  # of a slab
            if columns or (each.dim() == 4 and len(each) == BATCH and each.shape[2] > 1):
                self._note_width(str(func), each)
        return result

    def _note_format(self, name: str, maps: torch.Tensor) -> None:
        channels, height = maps.shape[1:3]
        if height == 1:
            return  # one element for each map is in every format at once
        whole = maps.untyped_storage().nbytes() == maps.numel() * maps.itemsize
        last = maps.is_contiguous(memory_format=torch.channels_last)
        if whole and channels > 1 and not last:
            self.strayed.add(name)

    def _note_width(self, name: str, maps: torch.Tensor) -> None:
        if maps.is_floating_point() and maps.itemsize > self._width:
            self.widened[name] = self.widened.get(name, 0) + maps.numel()


BATCH = 7
"""Images; no kernel of the tests has as many filters, so that this tells maps from kernels."""


def build(create: type[torch.nn.Module], dtype: torch.dtype, layout: str) -> torch.nn.Module:
    """A model on the fake device; ``Module.to`` can't swap fake parameters."""
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda"):
            model = create()
    finally:
        torch.set_default_dtype(torch.float32)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 4:
                kernel = parameter.detach().contiguous(memory_format=FORMATS[layout])
                setattr(module, name, torch.nn.Parameter(kernel))
    return model


def run(
    create: type[torch.nn.Module], shape: list[int], how: str, layout: str, training: bool
) -> dict[str, Any]:
    """What is noted of a forward and a backward pass."""
    dtype = CAST.get(how) or WHOLE[how]
    kept = torch.float32 if how in CAST else dtype
    with FakeTensorMode(allow_non_fake_inputs=False):
        model = build(create, kept, layout).train(training)
        x = torch.empty(BATCH, *shape, device="cuda", dtype=kept)
        x = x.contiguous(memory_format=FORMATS[layout])
        with Maps(dtype) as maps:
            with autocast(dtype) if how in CAST else nullcontext():
                logits = model(x)
            logits.sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and parameter.grad.dtype != parameter.dtype:
                raise TypeError(f"the gradient of {name} is of {parameter.grad.dtype}")
    return {
        "called": sorted(maps.called),
        "strayed": sorted(maps.strayed),
        "widened": maps.widened,
    }


def main() -> None:
    reports = []
    for given in json.load(sys.stdin):
        module: dict[str, Any] = {"__name__": "generated"}
        exec(compile(given["source"], given["name"], "exec"), module)  # noqa: S102  # the backend's
        for how in (*WHOLE, *CAST):
            for layout in FORMATS:
                for training in (False, True):
                    row = {"name": given["name"], "how": how, "layout": layout}
                    row["training"] = training
                    try:
                        row |= run(module[given["class"]], given["shape"], how, layout, training)
                    except Exception as error:  # noqa: BLE001  # which one is the report
                        row["error"] = f"{type(error).__name__}: {error}"
                    reports.append(row)
    json.dump(reports, sys.stdout)
    sys.stdout.flush()
    # Leave without the interpreter's own end: autograd has a thread for the device that is none,
    # which at times aborts the process there.
    os._exit(0)


if __name__ == "__main__":
    main()
