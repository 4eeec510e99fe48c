"""The kernels, compiled for GPUs that are not there: registers without spills, shared memory."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import cliquegraph
from tests.networks import shipped

triton: Any = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402  # Triton may be missing
from triton.compiler import ASTSource  # noqa: E402

SHARED = {80: 99 * 1024, 90: 227 * 1024}
"""Bytes of shared memory of a block: of an A100 163 KiB, of other GPUs of its generation 99."""

OUTPUTS = (12, 40, 96, 128, 160, 192, 256, 320, 384)
"""Of a 1×1 convolution: head and rest in every way."""


WITH_PRODUCT = {"affine_relu_mm_kernel", "backward_kernel"}
ALONE = {
    *("affine_relu_kernel", "backward_kernel", "by_moments_kernel", "copy_kernel", "merge_kernel")
}
"""The kernels that run where a 1×1 convolution is in them, and where PyTorch convolves."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("compiled") / "quickstart.py"
    path.write_text(cliquegraph.compile(shipped("quickstart"), "torch", level=1), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("compiled_quickstart", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Launch(NamedTuple):
    kernel: Any
    arguments: tuple[Any, ...]
    options: dict[str, int]


def launches(file: Any, dtype: str, outputs: int | None) -> list[Launch]:
    """What the functions of the file would launch on a slab of 40-column features."""
    import torch

    found: list[Launch] = []
    constants = file.product_constants

    class Noted:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *args, **options: found.append(Launch(self.kernel, args, options))

    data = torch.zeros(4096, 104, dtype=getattr(torch, dtype))
    affine, windows = (torch.zeros(80), torch.zeros(80)), [(0, 40, 0), (64, 104, 40)]
    y = data.new_zeros(len(data), outputs or 80)
    w = None if outputs is None else data.new_zeros(outputs, 80)
    with pytest.MonkeyPatch.context() as patch:
        for name in WITH_PRODUCT | ALONE:
            patch.setattr(file, name, Noted(getattr(file, name)))
        if dtype == "float32":  # by tensor cores if PyTorch may use TF32, otherwise never
            patch.setattr(file, "product_constants", lambda *args: (*constants(*args)[:3], "tf32"))
        file.affine_relu(data, windows, affine, y, None if w is None else w.t().contiguous())
        file.affine_relu_backward(y, data, data.clone(), windows, affine, True, w)
        if w is None:  # of a feature, and of a normalization by itself
            norm = torch.nn.BatchNorm2d(40)
            file.copy_with_moments(y[:, :40].contiguous(), data[:, :40], torch.zeros(2, 104), norm)
            file.by_moments(data[:, :40], data[:, 40:80], *affine)
            file.affine_relu_backward(y, y, None, [(0, 80, 0)], affine, False)
            file.by_moments(y, y, *affine, affine)
    return found


TYPES = {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32"}


def compiled(launch: Launch, capability: int) -> Any:
    """A kernel, as Triton compiles it at a launch."""
    signature, constants, attributes = {}, {}, {}
    for i, (param, value) in enumerate(zip(launch.kernel.params, launch.arguments, strict=True)):
        if param.is_constexpr:
            signature[param.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, int | float):
            signature[param.name] = "i32" if isinstance(value, int) else "fp32"
        else:
            signature[param.name] = TYPES[str(value.dtype).removeprefix("torch.")]
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=launch.options)


def assembled(kernel: Any, capability: int, folder: Path) -> str:
    """What the assembler of Triton's wheel reports."""
    path = folder / "kernel.ptx"
    path.write_text(kernel.asm["ptx"], encoding="utf-8")
    ptxas = triton.knobs.nvidia.ptxas.path
    architecture = {80: "sm_80", 90: "sm_90a"}[capability]
    command = [ptxas, "-v", f"-arch={architecture}", str(path), "-o", str(folder / "kernel.cubin")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize(
    ("dtype", "outputs"),
    [
        *(("bfloat16", outputs) for outputs in OUTPUTS),
        *(("float16", outputs) for outputs in (None, 160)),
        *(("float32", outputs) for outputs in (None, 40, 96)),  # what ``is_fused`` allows
        ("bfloat16", None),
    ],
)
def test_kernels_compile_without_spills(
    file: Any, tmp_path: Path, dtype: str, outputs: int | None, capability: int
) -> None:
    found = launches(file, dtype, outputs)
    names = {each.kernel.__name__ for each in found}
    assert names == (ALONE if outputs is None else WITH_PRODUCT)
    for launch in found:
        kernel = compiled(launch, capability)
        assert kernel.metadata.shared <= SHARED[capability]
        report = assembled(kernel, capability, tmp_path)
        assert "0 bytes spill stores, 0 bytes spill loads" in report, launch
        (registers,) = re.findall(r"Used (\d+) registers", report)
        threads = 32 * kernel.metadata.num_warps
        assert threads * int(registers) <= 2**16
        ptx = kernel.asm["ptx"]
        assert bool(re.search(r"mma(_async)?\.sync", ptx)) == (outputs is not None)
        # 16 bytes at once, 8 where 12 outputs are written: of 40 columns Triton would know no
        # divisor but 1. Moments are few.
        assert launch.kernel is file.merge_kernel or re.search(
            r"ld\.global\S*\.v4|cp\.async\.c[ag]|ld\.global\S*\.v2", ptx
        )
