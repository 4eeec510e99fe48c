"""Blocks declared by hand, in a network of one block."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliquegraph.blocks.model import Block, Layer, Output, Schedule, Words
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.operations import Meaning
from tests.function import EXACT
from tests.networks import network

WORDS = Words("graph", "A graph", (), "Layer", "One layer", staged=False)


def assert_close(one: Array, other: Array) -> None:
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= EXACT * max(1.0, np.abs(other).max())


def meaning_of(
    block: Block,
    shapes: Mapping[str, tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    size: int = 6,
    **keys: Any,
) -> tuple[Meaning, dict[str, Tensor]]:
    """A network of one block, X0 of 4 maps, with random tensors."""
    monkeypatch.setattr(
        sys.modules["cliquegraph.semantics.declaration"], "blocks_of", lambda specs: (block,)
    )
    spec = network({"layers": 1, "filters": 1, "stages": 1}, readout={"blocks": "last"})
    rng = np.random.default_rng(0)
    widths = [block.layer(j).filters for j in block.feature.layers]
    widths += [4] * block.feature.with_input
    width = widths[0] if block.feature.combine == "mean" else sum(widths)
    every = {
        **shapes,
        "stem.conv.weight": (4, 2, 3, 3),
        "classifier.weight": (5, width),
        "classifier.bias": (5,),
        **norm("readout1.norm", width),
    }
    tensors = {name: rng.uniform(0.5, 1.5, shape) for name, shape in every.items()}
    images = rng.normal(size=(3, 2, size, size))
    meaning = evaluate(spec, tensors, images, **keys)
    assert meaning.tensors == tensors.keys()
    return meaning, {name: torch.from_numpy(array) for name, array in tensors.items()}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{field}": (width,) for field in ("scale", "bias", "mean", "var")}


def normalized(x: Tensor, tensors: dict[str, Tensor], name: str, training: bool = False) -> Tensor:
    read = [tensors[f"{name}.{field}"].clone() for field in ("mean", "var", "scale", "bias")]
    return F.batch_norm(x, *read, training=training)


def chain(*layers: Layer, last: int, stride: int = 1) -> Block:
    order = tuple(range(1, len(layers) + 1))
    output = Output((last,), 1)
    return Block(layers, Schedule(order, (len(order),)), output, output, WORDS, stride=stride)
