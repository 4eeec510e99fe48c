"""Training steps of torchvision's and timm's models of a network, and of its -O levels.

    python benchmarks/alternatives.py --output

PyTorch, eager: what users would otherwise pick, against what the compiler generates. Candidates,
each in every memory format:

    torchvision, timm                          the model of the package, unchanged
    torchvision-checkpoint, timm-checkpoint    the same, saving less for backward: DenseNets with
                                               memory_efficient=True, ResNets with
                                               torch.utils.checkpoint of every residual unit
    O0, O1, O2                                 the model that is generated at this -O level

All candidates and formats of a network run in turn; ratios are to the first of them. A step is
forward, cross entropy and backward, without an optimizer. `stored` is what autograd saves for
backward, each storage once, without the model's own tensors. Weights are random, and each
candidate has its own; the number of parameters must be the same.

torchvision and timm are not installed with the project. Without --no-deps, pip would replace
PyTorch; torchvision 0.28 is for PyTorch 2.13:

    pip install --no-deps torchvision==0.28.0 timm==1.0.31
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.harness import (
    DTYPES,
    FORMATS,
    Report,
    add_output,
    interleave,
    load_network,
    megabytes,
    positive,
    print_table,
    rated,
    run,
    some_of,
    summarise,
    times,
    words,
)
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.passes.pipeline import LEVELS

if TYPE_CHECKING:
    from torch import nn

    from benchmarks.bundled.torch_steps import TrainingStep

NETWORKS = ["densenet121", "resnet50"]
PACKAGES = ("torchvision", "timm")
CHECKPOINT = "-checkpoint"
GENERATED = {f"O{level}": level for level in LEVELS}
CANDIDATES = [f"{package}{suffix}" for package in PACKAGES for suffix in ("", CHECKPOINT)]
CANDIDATES += GENERATED


# ---- candidates ----------------------------------------------------------------------------


def build(candidate: str, network: NetworkSpec) -> nn.Module:
    """Build the model of a candidate, with random weights."""
    from benchmarks import torch_runs as runs

    if candidate in GENERATED:
        return runs.generated_model(network, GENERATED[candidate])
    package = candidate.removesuffix(CHECKPOINT)
    create, names = {"torchvision": torchvision_models, "timm": timm_models}[package]()
    if network.name not in names:
        raise UsageError(
            f"{package} has no model {network.name!r}; name other --networks, or other "
            f"--candidates: {','.join(GENERATED)}"
        )
    if candidate == package:
        return create(network.name)
    return checkpointed(create, network.name)


def checkpointed(create: Callable[..., nn.Module], name: str) -> nn.Module:
    """Build a model of a package that saves less for backward, by the package's means if any."""
    if name.startswith("densenet"):
        return create(name, memory_efficient=True)
    if not name.startswith("resnet"):
        raise UsageError(f"{CHECKPOINT} is for DenseNets and ResNets, not for {name!r}")
    model: Any = create(name)
    if hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing()
    else:
        checkpoint_units(model)
    return model


def checkpoint_units(model: Any) -> None:
    """Call every residual unit of torchvision's ResNet by torch.utils.checkpoint."""
    from torch.utils.checkpoint import checkpoint

    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        for unit in layer:
            unit.forward = lambda x, forward=unit.forward: checkpoint(
                forward, x, use_reentrant=False
            )


Models = tuple[Callable[..., "nn.Module"], list[str]]


def torchvision_models() -> Models:
    """torchvision's function that creates a model, and the names of its models.

    Where PyTorch has another build than torchvision, such as one for CPUs only, its compiled
    operators do not load, and its import ends with an error about the first of those that it
    describes in Python. No classifier calls them: declaring them suffices.
    """
    import torch

    while True:
        try:
            package = import_package("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            torch.library.define(missing[1], "() -> ()")
        else:
            return package.models.get_model, package.models.list_models()


def timm_models() -> Models:
    """timm's function that creates a model, and the names of its models."""
    torchvision_models()  # which timm imports
    package = import_package("timm")
    return package.create_model, package.list_models()


def import_package(name: str) -> Any:
    """Import torchvision or timm."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name} can't be imported, there is no module {error.name!r}. Install it by `pip "
            "install --no-deps torchvision==0.28.0 timm==1.0.31` (0.28 is for PyTorch 2.13; "
            "without --no-deps, pip would replace PyTorch), or name --candidates without it: "
            f"{','.join(GENERATED)}"
        ) from None


# ---- measurements --------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks import torch_runs as runs

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True  # the usual setting for fixed sizes
    dtypes = arguments.dtypes or (["fp32", "bf16"] if runs.CUDA else ["fp32"])
    repeats = arguments.repeats or (5 if runs.CUDA else 1)
    report = Report(arguments, f"alternatives_torch_{runs.DEVICE.type}", repeats=repeats)
    for name in arguments.networks:
        network = load_network(name)
        for count in arguments.batches or ([64] if runs.CUDA else [4, 16]):
            for dtype in dtypes:
                steps, found = {}, {}
                for candidate in arguments.candidates:
                    for layout in arguments.formats:
                        how = runs.Configuration(dtype, layout)
                        images, labels = how.batch(network, count)
                        step, peak = runs.with_peak(
                            partial(train, candidate, network, images, labels, how)
                        )
                        variant = f"{candidate} {layout}"
                        size = round(step.stored_bytes() / count)
                        steps[variant] = step
                        found[variant] = {"stored_bytes_per_image": size, "peak_bytes": peak}
                parameters = same_parameters({each: step.model for each, step in steps.items()})
                samples = interleave(
                    {variant: lambda s=step: s.seconds(repeats) for variant, step in steps.items()},
                    arguments.rounds,
                )
                variants = rated(summarise(samples, next(iter(steps))), count, found)
                rows = {
                    variant: {
                        **times(row),
                        "stored MB/image": megabytes(row["stored_bytes_per_image"]),
                        **({"peak MB": megabytes(row["peak_bytes"])} if runs.CUDA else {}),
                    }
                    for variant, row in variants.items()
                }
                print_table(f"{name}, {dtype}, training, batch {count}", rows)
                report.add(
                    {
                        "network": name,
                        "dtype": dtype,
                        "batch": count,
                        "parameters": parameters,
                        "variants": variants,
                    }
                )


def train(candidate: str, network: NetworkSpec, *arguments: Any) -> TrainingStep:
    """Build a candidate's training step."""
    from benchmarks import torch_runs as runs

    return runs.TrainingStep(build(candidate, network), *arguments)


def same_parameters(models: dict[str, nn.Module]) -> int:
    """The number of parameters of each model; an error if they differ."""
    counts = {
        variant: sum(parameter.numel() for parameter in model.parameters())
        for variant, model in models.items()
    }
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{variant} {count}" for variant, count in counts.items())
        raise UsageError(f"the candidates are not the same network; their parameters: {listed}")
    return next(iter(counts.values()))


# ---- arguments -----------------------------------------------------------------------------


def at_least_one(parse: Callable[[str], list[Any]]) -> Callable[[str], list[Any]]:
    """Return a parser that refuses an empty list."""

    def parsed(text: str) -> list[Any]:
        if not (chosen := parse(text)):
            raise argparse.ArgumentTypeError(f"{text!r} names none")
        return chosen

    return parsed


def main() -> None:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--networks", type=words, default=NETWORKS, help="names of specs/, separated by commas")
    add(
        "--candidates",
        type=at_least_one(some_of(*CANDIDATES)),
        default=CANDIDATES,
        help=f"of {', '.join(CANDIDATES)}; ratios are to the first",
    )
    add(
        "--formats",
        type=at_least_one(some_of(*FORMATS)),
        default=["channels_last", "nchw"],
        help=f"of {', '.join(FORMATS)}; ratios are to the first",
    )
    add(
        "--batches",
        type=lambda text: [positive(word) for word in words(text)],
        help="images, separated by commas; default: 4,16; GPU: 64",
    )
    add("--rounds", type=positive, default=11, help="how often each variant is timed, in turn")
    add("--repeats", type=positive, help="calls per measurement; default: 1; GPU: 5")
    add("--threads", type=positive, help="PyTorch's threads on the CPU")
    add(
        "--dtypes",
        type=some_of(*DTYPES),
        help=f"of {', '.join(DTYPES)}; default: fp32; GPU: and bf16",
    )
    add_output(found)
    measure(found.parse_args())


if __name__ == "__main__":
    run(main)
