"""Where generated files use Triton's kernels: on CUDA alone, and never in PyTorch's way."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import cliquegraph
from cliquegraph.emit.execute import load_source
from tests.networks import shipped

SOURCE = cliquegraph.compile(shipped("quickstart"), "torch", level=1)


class OnCuda:
    """What the choice reads of a tensor on a GPU."""

    is_cuda, device = True, torch.device("cuda", 0)

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        self.dtype, self.itemsize = dtype, dtype.itemsize


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A generated module that runs, as far as it knows, with PyTorch for CUDA on an H100."""
    module: Any = load_source(SOURCE, "quickstart")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    if module.triton is None:  # on a system without it
        module.triton = SimpleNamespace(knobs=SimpleNamespace(runtime=SimpleNamespace(interpret=0)))
        module.affine_relu_kernel = object()
    module.compiles = lambda device: True
    return module


def kernel(outputs: int = 40, size: int = 1) -> torch.Tensor:
    return torch.empty(outputs, 8, size, size)


def test_kernels_serve_on_cuda(file: Any) -> None:
    assert file.on_triton(OnCuda())
    assert not file.on_triton(torch.empty(1))
    assert file.is_fused(OnCuda(), [(0, 8, 0)], kernel())


def test_they_can_be_switched_off(file: Any) -> None:
    file.TRITON = 1
    assert file.on_triton(OnCuda()) and not file.is_fused(OnCuda(), [(0, 8, 0)], kernel())
    file.TRITON = 0
    assert not file.on_triton(OnCuda())


def test_kernels_multiply_where_tensor_cores_do(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [(0, 8, 0)]
    assert file.is_fused(OnCuda(torch.float16), one, kernel())
    assert not file.is_fused(OnCuda(torch.float64), one, kernel())
    assert not file.is_fused(OnCuda(torch.float32), one, kernel())
    monkeypatch.setattr(file.torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=True))
    assert file.is_fused(OnCuda(torch.float32), one, kernel())


def test_kernels_multiply_by_what_they_have_room_for(file: Any) -> None:
    one = [(0, 8, 0)]
    assert file.is_fused(OnCuda(), one, kernel(384))
    assert not file.is_fused(OnCuda(), one, kernel(385))
    assert not file.is_fused(OnCuda(), one, kernel(size=3))
    assert not file.is_fused(OnCuda(), one, None)
    assert file.is_fused(OnCuda(), [(0, 4, 0), (8, 12, 4)], kernel())
    assert not file.is_fused(OnCuda(), [(0, 4, 0), (8, 10, 4), (12, 14, 6)], kernel())


def test_modes_see_pytorchs_operators(file: Any) -> None:
    with FlopCounterMode(display=False):
        assert not file.on_triton(OnCuda())  # it would not count what a kernel multiplies
    assert file.on_triton(OnCuda())


def test_older_gpus_and_rocm_run_pytorchs_kernels(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert not file.on_triton(OnCuda())
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not file.on_triton(OnCuda())


def test_a_triton_that_can_not_compile_is_reported_once() -> None:
    module = load_source(SOURCE, "quickstart")

    def fail(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    vars(module)["affine_relu"] = fail
    device = torch.device("cpu")
    with pytest.warns(UserWarning, match="does not run here, .*: Failed to find C compiler"):
        assert not vars(module)["compiles"](device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not vars(module)["compiles"](device)


def test_a_file_runs_without_triton(tmp_path: Path) -> None:
    (tmp_path / "quickstart.py").write_text(SOURCE, encoding="utf-8")
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import quickstart, torch\n"
        "assert quickstart.affine_relu_kernel is None\n"
        "quickstart.Quickstart()(torch.randn(2, 1, 8, 8)).sum().backward()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_of_a_module_in_memory_have_their_source() -> None:
    assert load_source(SOURCE, "quickstart").affine_relu_kernel is not None
    # Of source that was merely executed Triton finds none; PyTorch's kernels run.
    namespace: dict[str, Any] = {"__name__": "executed"}
    exec(SOURCE, namespace)  # noqa: S102
    assert namespace["affine_relu_kernel"] is None
    assert not namespace["on_triton"](OnCuda())
