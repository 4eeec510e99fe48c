"""Times training of the variants of a network in PyTorch; counts memory and kernels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.bundled.networks import LEVELS, LITERAL, TINY, BundledNetwork
from benchmarks.bundled.rounds import Json, interleave, rated, significant, summarise
from benchmarks.bundled.session import Session, Units, failure
from benchmarks.bundled.torch_steps import (
    CUDA,
    Configuration,
    TrainingStep,
    synchronise,
    timed,
    with_peak,
)
from benchmarks.literal import LiteralCliqueNet, LiteralSpec

NETWORKS = ("cliquenet_s3", "cliquenet_k36_t12")
DENSE = "densenet_k12_t96_bc"
PUBLISHED = ("densenet121", "resnet50")
USUAL = Configuration("bf16", "channels_last")
MOST_REPEATS = 20

Builders = Mapping[str, Callable[[], nn.Module]]


def speed(session: Session) -> Units:
    """Return the training steps of each network and batch."""
    return {
        f"{name}, batch {count}": partial(train, session, name, count)
        for count in session.sizes.batches
        for name in NETWORKS
    }


def kernels(session: Session) -> Units:
    """Return levels whose files have Triton's kernels, with none, some and all of them."""
    count, name = session.sizes.batches[0], NETWORKS[0]
    return {
        f"{name} {level}, batch {count}": partial(train_by_kernels, session, name, level, count)
        for level in LEVELS[1:]
    }


def references(session: Session) -> Units:
    """Return networks for comparison: a dense one, and two published ones."""
    count = session.sizes.batches[0]
    return {
        f"{DENSE}, batch {count}": partial(train, session, DENSE, count),
        f"{', '.join(PUBLISHED)}, batch {count}": partial(train_published, session, count),
    }


def graphs(session: Session) -> Units:
    """Return the CUDA graphs of a network whose time is dominated by launches."""
    count, name = session.sizes.batches[0], NETWORKS[1]
    return {
        f"{name} {variant}, batch {count}": partial(capture, session, name, variant, count)
        for variant in (LITERAL, *LEVELS)
    }


def compiled(session: Session) -> Units:
    """Return models that torch.compile compiles whole; a dry run only traces a small one."""
    count = session.sizes.batches[0]
    names = (TINY,) if session.dry else (NETWORKS[1], NETWORKS[0])
    variants = ("O1",) if session.dry else ("O1", LITERAL, "O2")
    return {
        f"{name} {variant}, batch {count}": partial(compile_whole, session, name, variant, count)
        for name in names
        for variant in variants
    }


# ---- the units -----------------------------------------------------------------------------


def train(session: Session, name: str, count: int) -> None:
    """Time the literal model, if there is one, and every level, eager."""
    network = network_of(session, name)
    variants = (*((LITERAL,) if network.literal else ()), *LEVELS)
    builders = {variant: partial(build, network, variant) for variant in variants}
    time_training(session, builders, network, count)


def train_by_kernels(session: Session, name: str, level: str, count: int) -> None:
    """Time a level by PyTorch's kernels, Triton's around convolutions, and all of Triton's."""
    network = network_of(session, name)
    builders = {
        f"{level}, TRITON = {triton}": partial(build, network, level, triton) for triton in range(3)
    }
    time_training(session, builders, network, count)


def train_published(session: Session, count: int) -> None:
    """Time published networks on the same images, if a package has them."""
    package = next((each for each in ("timm", "torchvision") if find_spec(each)), None)
    if package is None:
        session.line(skipped="neither timm nor torchvision is installed")
        return
    builders = {name: partial(published, package, name) for name in PUBLISHED}
    time_training(session, builders, network_of(session, NETWORKS[0]), count)


def capture(session: Session, name: str, variant: str, count: int) -> None:
    """Time an eager step and its CUDA graph; without CUDA only the eager step."""
    network = network_of(session, name)
    batch = USUAL.batch(network, count)
    step = TrainingStep(build(network, variant), *batch, USUAL, sgd=True, capturable=True)
    runs: dict[str, Callable[[int], float]] = {"eager": step.seconds}
    facts: Json = {"captured": CUDA}
    if CUDA:
        graph, differences = captured(step)
        facts |= differences
        runs["graph"] = partial(seconds_of_replay, graph)
    else:
        step()
    repeats = repeats_of(session, step)
    calls = {how: partial(run, repeats) for how, run in runs.items()}
    summary = summarise(interleave(calls, session.sizes.rounds), baseline="eager")
    session.line(network=name, variant=variant, **facts, runs=rated(summary, count))


def compile_whole(session: Session, name: str, variant: str, count: int) -> None:
    """Time a compiled model and the eager literal one."""
    network = network_of(session, name)
    # A dry run only tests that the model can be traced; code generation would take minutes.
    how = Configuration("bf16", "channels_last", "whole", "eager" if session.dry else "inductor")
    torch.compiler.reset()
    literal = partial(build, network, LITERAL)
    builders = {f"{LITERAL}, eager": literal, variant: partial(build, network, variant)}
    time_training(session, builders, network, count, {variant: how})


# ---- how they are measured -----------------------------------------------------------------


def time_training(
    session: Session,
    builders: Builders,
    network: BundledNetwork,
    count: int,
    how: Mapping[str, Configuration] | None = None,
) -> None:
    """Write memory and kernels of each model, then paired times, relative to the first.

    Args:
        session: writes the lines.
        builders: functions that build the models.
        network: the network that determines images and classes.
        count: images in a batch.
        how: for models that do not run eager, in bfloat16 and channels_last.
    """
    images, labels = USUAL.batch(network, count)
    steps: dict[str, TrainingStep] = {}
    facts: dict[str, Json] = {}
    longest = 0.0
    for variant, builder in builders.items():
        if not session.allows(longest):
            session.line(variant=variant, batch=count, skipped="no time left")
            continue
        configuration = how.get(variant, USUAL) if how else USUAL
        start = time.perf_counter()
        try:
            step, peak = with_peak(partial(first_step, builder, images, labels, configuration))
            launched, longest_kernels = launches_of(step)
        except Exception as error:  # noqa: BLE001  # a failure is a result too
            session.line(variant=variant, batch=count, **failure(error))
            continue
        seconds = time.perf_counter() - start
        longest = max(longest, seconds)
        steps[variant] = step
        facts[variant] = {"peak_bytes": peak, **launched}
        session.line(
            variant=variant,
            batch=count,
            **facts[variant],
            **longest_kernels,
            prepared_seconds=significant(seconds, 3),
        )
    if not steps:
        return
    repeats = max(repeats_of(session, step) for step in steps.values())
    calls = {variant: partial(step.seconds, repeats) for variant, step in steps.items()}
    summary = summarise(interleave(calls, session.sizes.rounds), baseline=next(iter(steps)))
    session.line(network=network.name, batch=count, variants=rated(summary, count, facts))


def repeats_of(session: Session, step: TrainingStep) -> int:
    """Return how many steps make a measurement long enough."""
    if not session.sizes.seconds:
        return 1
    return min(MOST_REPEATS, math.ceil(session.sizes.seconds / step.seconds()))


def launches_of(step: TrainingStep) -> tuple[Json, Json]:
    """Return the kernels of a step, and the slowest of them; without CUDA only run it."""
    if not CUDA:
        step()
        return {}, {}
    kernels = step.kernels().described()
    longest = kernels.pop("longest")
    return kernels, {"longest": longest}


def first_step(
    builder: Callable[[], nn.Module], images: Tensor, labels: Tensor, how: Configuration
) -> TrainingStep:
    """Build a model and its training step."""
    return TrainingStep(builder(), images, labels, how)


def captured(step: TrainingStep) -> tuple[torch.cuda.CUDAGraph, Json]:
    """Capture a step; return the graph, and its errors against the eager step."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # one-time choices and allocations must precede the capture
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    changed = [*step.model.parameters(), *step.model.buffers(), *step.momentum()]
    before = [tensor.detach().clone() for tensor in changed]
    replayed = outcome_of(step, graph.replay)  # first: an eager step replaces the gradients
    with torch.no_grad():
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
    expected = outcome_of(step, step)
    errors = [
        significant(((found - right).norm() / right.norm()).item(), 3)
        for found, right in zip(replayed, expected, strict=True)
    ]
    return graph, {"gradients_differ": errors[0], "momentum_differs": errors[1]}


def outcome_of(step: TrainingStep, run: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """Run a step; return all gradients and all momentum, each as one vector."""
    run()
    synchronise()
    gradients = [p.grad for p in step.model.parameters() if p.grad is not None]
    return flat(gradients), flat(step.momentum())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return a copy of tensors as one vector in float64."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).double()


def seconds_of_replay(graph: torch.cuda.CUDAGraph, repeats: int) -> float:
    """Return the time of a replay, the mean of several."""
    return timed(graph.replay, repeats)


def network_of(session: Session, name: str) -> BundledNetwork:
    """Return a network with images of the timed size."""
    torch.backends.cudnn.benchmark = True  # the usual setting for fixed sizes
    return session.bundle.networks[name].shrunk(session.sizes.largest_image)


def build(network: BundledNetwork, variant: str, triton: int | None = None) -> nn.Module:
    """Build a variant with its initial weights; with ``triton`` by these kernels."""
    torch.manual_seed(0)
    if variant == LITERAL:
        assert network.literal is not None  # noqa: S101  # callers ask first
        return LiteralCliqueNet(LiteralSpec.of(network.literal))
    model: nn.Module = network.model_class("torch", variant, triton)()
    return model


def published(package: str, name: str) -> nn.Module:
    """Build a network of timm or torchvision, unchanged."""
    torch.manual_seed(0)
    if package == "timm":
        import timm

        model: nn.Module = timm.create_model(name)
    else:
        import torchvision

        model = torchvision.models.get_model(name)
    return model
