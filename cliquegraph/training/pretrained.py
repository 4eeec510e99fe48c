"""Weights of a file as the start of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.training.job import Initial
from cliquegraph.weights.adapt import adapted_weights, file_sizes

BACKBONE = "backbone"
"""The name of all parts but the classifier."""


def pretrained(network: NetworkSpec, path: Path, *, new_head: bool = False) -> tuple[Initial, str]:
    """Return a file's weights for a network, and a line on what was fitted.

    The classifier starts at random where its number of classes differs; the first kernel is fitted
    to images of other channels.

    Args:
        network: the network to train.
        path: weights in any format.
        new_head: start the classifier at random in any case.

    Raises:
        WeightsError: the weights differ from the network's in anything else.
    """
    sizes = file_sizes(network, path)
    classes, channels = network.classifier.classes, network.input.channels
    skips = new_head or sizes.classes not in (None, classes)
    tensors = adapted_weights(network, path, head="skip" if skips else "load", channels="adapt")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [f"starts from {path}"]
    if skips:
        parts.append(f"with a new classifier of {classes} classes (the file has {sizes.classes})")
    if sizes.channels not in (None, channels):
        parts.append(f"with the first kernel fitted from {sizes.channels} channels to {channels}")
    return Initial(str(path), digest, tensors), ", ".join(parts)


def frozen_parts(compilation: Compilation, names: Iterable[str]) -> tuple[str, ...]:
    """Return the parts that stay as they are; ``backbone`` is all but the classifier.

    Raises:
        UsageError: the network has no such part.
    """
    parts: list[str] = []
    for name in names:
        known = [*compilation.parts, BACKBONE]
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                f"{compilation.network.name} has no part {name!r} to freeze; {meant}choose from "
                f"{', '.join(known)}"
            )
        parts += compilation.parts[:-1] if name == BACKBONE else [name]
    return tuple(dict.fromkeys(parts))
