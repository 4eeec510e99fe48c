"""Training steps in PyTorch: how a model runs, its time, its memory, its kernels."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.bundled.kernels import Kernels, Launch
from benchmarks.bundled.networks import Network

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Configuration:
    """How PyTorch runs a model.

    ``compiled``: ``whole`` compiles the model, ``steps`` calls the model's ``compile_steps`` (a
    model without it is compiled whole). ``compiler``: the backend of
    ``torch.compile``.
    """

    dtype: str = "fp32"
    format: str = "nchw"
    compiled: str = "no"
    compiler: str = "inductor"

    def described(self) -> dict[str, str]:
        """The configuration as part of a result."""
        return {"dtype": self.dtype, "format": self.format, "compiled": self.compiled}

    def __str__(self) -> str:
        how = {"no": "eager", "whole": "compiled", "steps": "steps compiled"}[self.compiled]
        return f"{self.dtype}, {self.format}, {how}"

    def autocast(self) -> torch.autocast:
        """Cast to bfloat16 if requested."""
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.dtype == "bf16")

    def set_precision(self) -> None:
        """Allow or forbid TF32 in the whole process."""
        torch.set_float32_matmul_precision("high" if self.dtype == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = self.dtype == "tf32"

    def prepare(self, model: nn.Module) -> Any:
        """Move a model to the device in the memory format, and compile it."""
        self.set_precision()
        model.to(DEVICE, memory_format=LAYOUTS[self.format])
        if self.compiled == "steps" and hasattr(model, "compile_steps"):
            model.compile_steps(backend=self.compiler)
            return model
        return model if self.compiled == "no" else torch.compile(model, backend=self.compiler)

    def batch(self, network: Network, count: int) -> tuple[Tensor, Tensor]:
        """Draw images and labels."""
        generator = torch.Generator().manual_seed(0)
        image = network.input
        shape = (count, image.channels, image.height, image.width)
        images = torch.randn(shape, generator=generator)
        labels = torch.randint(network.classifier.classes, (count,), generator=generator)
        return images.to(DEVICE, memory_format=LAYOUTS[self.format]), labels.to(DEVICE)


def synchronise() -> None:
    """Wait until the device has finished its work."""
    if CUDA:
        torch.cuda.synchronize()


def timed(call: Callable[[], object], repeats: int = 1) -> float:
    """Return the seconds that a call takes on the device, the mean of ``repeats``."""
    synchronise()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronise()
    return (time.perf_counter() - start) / repeats


def launches(events: Iterable[Any]) -> Iterator[Launch]:
    """Yield what the device executes according to the events of a profile."""
    for event in events:
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation:
            start, end = event.time_range.start * 1e-6, event.time_range.end * 1e-6
            is_kernel = not event.name.startswith(("Memcpy", "Memset"))
            yield Launch(event.name, start, end, is_kernel)


@dataclass
class TrainingStep:
    """Forward, cross entropy, backward, and on request an SGD step, of one model.

    With ``capturable``, that step can be part of a CUDA graph.
    """

    model: Any
    images: Tensor
    labels: Tensor
    configuration: Configuration = field(default_factory=Configuration)
    sgd: bool = False
    capturable: bool = False

    def __post_init__(self) -> None:
        self.model.train()
        self.model = self.configuration.prepare(self.model)
        # So small a rate that the weights, and with them the time, do not change.
        # Only the fused kernel reads a rate on the device; by default, foreach is chosen.
        rate = torch.tensor(1e-6, device=DEVICE) if self.capturable else 1e-6
        self._optimiser = torch.optim.SGD(
            self.model.parameters(),
            rate,
            0.9,
            weight_decay=1e-4,
            nesterov=True,
            fused=self.capturable or None,
        )

    def loss(self) -> Tensor:
        with self.configuration.autocast():
            return F.cross_entropy(self.model(self.images), self.labels)

    def __call__(self) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        self.loss().backward()
        if self.sgd:
            self._optimiser.step()

    def momentum(self) -> list[Tensor]:
        """Return what SGD accumulates, once it has taken a step."""
        return [state["momentum_buffer"] for state in self._optimiser.state.values()]

    def forget(self) -> None:
        """Free the gradients, so that they take no memory from other variants."""
        self._optimiser.zero_grad(set_to_none=True)

    def seconds(self, repeats: int = 1) -> float:
        """Return the time of one step."""
        found = timed(self, repeats)
        self.forget()
        return found

    def stored_bytes(self) -> int:
        """Return the bytes that autograd saves for backward.

        Each storage counts once; parameters and running statistics do not count.
        """
        own = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*self.model.parameters(), *self.model.buffers())
        }
        held: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor
            return tensor.detach()  # the tensor itself would create a reference cycle with its node

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        stored = sum(t.untyped_storage().nbytes() for key, t in held.items() if key not in own)
        held.clear()
        loss.backward()
        self.forget()
        return stored

    def kernels(self) -> Kernels:
        """Return the kernels of one step on a CUDA device."""
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            self()
            synchronise()
        self.forget()
        return Kernels.of(launches(profiler.events()))


def with_peak(make: Callable[[], TrainingStep]) -> tuple[TrainingStep, int | None]:
    """Build a step, warm it up, and return it with the peak of one more on a CUDA device.

    The peak is what the step would reach alone in the process: its model, gradients, optimizer
    and images, without other models on the device.
    """
    if not CUDA:
        return make(), None
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()  # otherwise only the first variant would pay for them
    before = torch.cuda.memory_allocated()
    step = make()
    for _ in range(2):  # compile, choose algorithms, create the optimizer's state
        step()
    step.forget()
    synchronise()
    torch.cuda.reset_peak_memory_stats()
    step()
    synchronise()
    peak = torch.cuda.max_memory_allocated() - before + step.images.untyped_storage().nbytes()
    step.forget()
    return step, peak
