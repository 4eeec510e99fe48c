"""Tests every -O level on the device against -O0 in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.bundled.compare import Comparison, Outcome, compare
from benchmarks.bundled.networks import FOLDED, LEVELS, LITERAL, TINY, Array, BundledNetwork
from benchmarks.bundled.rounds import Json
from benchmarks.bundled.session import Session, Units, failure
from benchmarks.bundled.torch_steps import DEVICE, LAYOUTS
from benchmarks.literal import LiteralCliqueNet, LiteralSpec, load_canonical

NETWORKS = ("quickstart", "cliquenet_k36_t12", "cliquenet_s0_small")
DRY_NETWORKS = (TINY, "cliquenet_s0_small")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precision:
    """The type of a model's tensors, and how it runs; ``scaled``: with a ``GradScaler``."""

    name: str
    dtype: torch.dtype
    autocast: torch.dtype | None = None
    scaled: bool = False

    @property
    def eps(self) -> float:
        """The machine epsilon of the type in which convolutions run."""
        return torch.finfo(self.autocast or self.dtype).eps


FLOAT64 = Precision("float64", torch.float64)
PRECISIONS = (
    FLOAT64,
    Precision("float32", torch.float32),
    Precision("bfloat16 autocast", torch.float32, torch.bfloat16),
    Precision("float16 autocast", torch.float32, torch.float16, scaled=True),
    Precision("bfloat16", torch.bfloat16),
    Precision("float16", torch.float16),
)


@dataclass(frozen=True)
class Run:
    """One way to run a network."""

    precision: Precision
    device: torch.device
    format: str
    training: bool


def correctness(session: Session) -> Units:
    """Return the comparisons, the most decisive first; a dry run uses only one network."""
    # TF32 would hide errors that the float32 run should show.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    names = DRY_NETWORKS if session.dry else NETWORKS
    networks = {
        name: session.bundle.networks[name].shrunk(session.sizes.largest_checked) for name in names
    }
    return {
        f"{precision.name}, {name}": partial(check, session, networks[name], precision)
        for precision in PRECISIONS
        for name in names
        if name == TINY or not session.dry or precision is FLOAT64
    }


def check(session: Session, network: BundledNetwork, precision: Precision) -> None:
    """Compare every variant in both memory formats, in training and in evaluation."""
    for layout in LAYOUTS:
        for training in (True, False):
            run = Run(precision, DEVICE, layout, training)
            variants = compare_variants(network, run, session.sizes.checked)
            verdicts = [row.get("ok", False) for row in variants.values()]
            session.line(
                network=network.name,
                precision=precision.name,
                format=layout,
                mode="training" if training else "evaluation",
                ok=False if False in verdicts else None if None in verdicts else True,
                variants=variants,
            )


def compare_variants(network: BundledNetwork, run: Run, count: int) -> dict[str, Json]:
    """Return the error of each variant against -O0 in float64; that of -O0 is rounding."""
    expected = reference(network, run.training, count)
    rounding: Comparison | None = None
    rows: dict[str, Json] = {}
    for variant in ("O0", LITERAL, *LEVELS[1:], *(() if run.training else (FOLDED,))):
        try:
            outcome, facts = outcome_of(network, variant, run, count)
        except Exception as error:  # noqa: BLE001  # a failure is a result too
            rows[variant] = failure(error)
            continue
        comparison = compare(outcome, expected)
        if variant == "O0":
            rounding = comparison
        ok = rounding and comparison.agrees(rounding, run.precision.eps)
        ok = False if "error" in facts else ok
        rows[variant] = {"ok": ok, **comparison.described(), **facts}
    return rows


@cache
def reference(network: BundledNetwork, training: bool, count: int) -> Outcome:
    """Return the outcome of -O0 in float64 on the CPU, with PyTorch's own normalizations."""
    outcome, _ = outcome_of(network, "O0", Run(FLOAT64, CPU, "nchw", training), count)
    return outcome


def outcome_of(network: BundledNetwork, variant: str, run: Run, count: int) -> tuple[Outcome, Json]:
    """Run a variant forward and, unless it is folded, backward, with the bundle's weights.

    If the backward pass fails, return the results of the forward pass and the error.
    """
    model = model_of(network, variant, run).train(run.training)
    images, labels = (torch.from_numpy(array).to(run.device) for array in network.batch(count))
    images = images.to(run.precision.dtype, memory_format=LAYOUTS[run.format])
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []

    def loss_of() -> Tensor:
        cast = run.precision.autocast
        with torch.autocast(run.device.type, cast or torch.bfloat16, enabled=cast is not None):
            logits = model(images)
        seen.append((logits.detach(), {k: v.clone() for k, v in model.named_buffers()}))
        wide = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(logits.to(wide), labels)

    if variant == FOLDED:
        with torch.no_grad():
            loss = loss_of()
        return Outcome(to_numpy(seen[0][0]), loss.item()), {}
    facts: Json = {}
    loss = loss_of()
    try:
        if run.precision.scaled:
            facts = scaled_backward(loss, loss_of, model, run)
        else:
            loss.backward()
    except Exception as error:  # noqa: BLE001  # a failure is a result too
        facts = failure(error)
    # Each forward pass updates the running statistics: compare those after the first.
    logits, buffers = seen[0]
    gradients = {
        k: p.grad
        for k, p in model.named_parameters()
        if p.grad is not None and "error" not in facts
    }
    canonical = partial(to_canonical, network, variant, model)
    return Outcome(to_numpy(logits), loss.item(), canonical(gradients), canonical(buffers)), facts


def scaled_backward(
    loss: Tensor, loss_of: Callable[[], Tensor], model: nn.Module, run: Run
) -> Json:
    """Compute gradients with a ``GradScaler``, which halves its scale until they are finite."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    scaler = torch.amp.GradScaler(run.device.type)
    for _ in range(24):
        scale = scaler.get_scale()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            break
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        loss = loss_of()
    return {"scale": scale}


def model_of(network: BundledNetwork, variant: str, run: Run) -> nn.Module:
    """Build a variant with the bundle's weights, in the types and on the device of a run."""
    return deepcopy(loaded(network, variant)).to(
        run.device, run.precision.dtype, memory_format=LAYOUTS[run.format]
    )


@cache
def loaded(network: BundledNetwork, variant: str) -> nn.Module:
    """Build a variant in float64 on the CPU.

    Raises:
        KeyError: its tensors do not match the bundle's layout.
    """
    if variant == LITERAL:
        assert network.literal is not None  # noqa: S101  # the literal model covers those with weights
        literal = LiteralCliqueNet(LiteralSpec.of(network.literal)).double()
        load_canonical(literal, network.weights())
        return literal
    model: nn.Module = network.model_class("torch", variant)().double()
    stored = network.layout("torch", variant).to_model(network.weights(variant))
    state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in stored.items()}
    odd = model.load_state_dict(state, strict=False)
    missing = [name for name in odd.missing_keys if not is_counter(name)]
    if missing or odd.unexpected_keys:
        raise KeyError(f"missing {missing}, unexpected {odd.unexpected_keys}")
    return model


def to_canonical(
    network: BundledNetwork, variant: str, model: Any, tensors: dict[str, Tensor]
) -> dict[str, Array]:
    """Return the canonical tensors of parameters' gradients, or of buffers, by their names."""
    arrays = {name: to_numpy(each) for name, each in tensors.items() if not is_counter(name)}
    if variant != LITERAL:
        return network.layout("torch", variant).to_canonical(arrays)
    names = {id(tensor): name for name, tensor in model.canonical()}
    owners = (*model.named_parameters(), *model.named_buffers())
    return {names[id(each)]: arrays[name] for name, each in owners if name in arrays}


def is_counter(name: str) -> bool:
    """Whether it is the counter of BatchNorm2d, which nothing uses."""
    return name.endswith("num_batches_tracked")


def to_numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return array
