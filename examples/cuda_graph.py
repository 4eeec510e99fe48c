"""The training step of a generated PyTorch model as a CUDA graph, captured by hand.

    python examples/cuda_graph.py --steps 500

A small network's step is thousands of short kernels, and launching them takes longer than running
them; a graph launches all of them at once. `cliquegraph train --cuda-graph` does the same. The
model is `generated/torch/cliquenet_k36_t12.py`; the images are random. Needs a CUDA device.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`
from generated.torch.cliquenet_k36_t12 import CliqueNetK36T12

BATCH = 64


def milliseconds(call: Callable[[], object], steps: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description="Train by a CUDA graph, and eagerly; time both.")
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args().steps
    if not torch.cuda.is_available():
        sys.exit("CUDA graphs need a CUDA device, and PyTorch finds none")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # all batches have the same shape
    model = CliqueNetK36T12().to("cuda", memory_format=torch.channels_last)
    # The graph reads and writes these addresses: to change a value, copy into the tensor.
    images = torch.zeros(BATCH, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.long, device="cuda")
    rate = torch.tensor(0.1, device="cuda")
    total = torch.zeros((), device="cuda")  # of the losses: reading each would wait for the device
    # Only the fused kernel reads a learning rate on the device; the others call `item`.
    optimizer = torch.optim.SGD(
        model.parameters(), rate, 0.9, weight_decay=1e-4, nesterov=True, fused=True
    )

    def step() -> None:
        optimizer.zero_grad()  # to None: the graph allocates the gradients itself
        with torch.autocast("cuda", torch.bfloat16):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach())

    def load(x: Tensor, y: Tensor) -> None:
        images.copy_(x)
        labels.copy_(y)

    batches = [
        (torch.randn(BATCH, 3, 32, 32, device="cuda"), torch.randint(10, (BATCH,), device="cuda"))
        for _ in range(8)
    ]
    # Eager steps on a side stream: cuDNN chooses its algorithms, the optimizer creates its state.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for batch in batches[:3]:
            load(*batch)
            step()
    torch.cuda.current_stream().wait_stream(side)
    eager = milliseconds(step, 20)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # records the kernels and runs none
        step()
    captured = milliseconds(graph.replay, 20)
    print(f"a step takes {eager:.2f} ms eager, {captured:.2f} ms as a graph")

    total.zero_()
    for number in range(steps):
        load(*batches[number % len(batches)])
        if number == steps // 2:
            rate.fill_(0.01)
        graph.replay()
        if (number + 1) % 100 == 0:
            print(f"step {number + 1}: mean loss {total.item() / 100:.4f}")
            total.zero_()


if __name__ == "__main__":
    main()
