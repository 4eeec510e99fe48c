"""Random lists of ops, graphs and topologies, for random blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cliquegraph.plugins.kinds import Document, Random

_LOCAL = {"local_response": {"size": 3, "alpha": 0.5, "beta": 0.75}}
_SAME_SIZE: tuple[Any, ...] = (
    "norm",
    "relu",
    "bias",
    "gate",
    _LOCAL,
    {"group_norm": 1},
    {"dropout": 0.1},
    {"max_pool": 3, "stride": 1, "pad": 1},
    {"conv": 3, "depthwise": True},
)
"""Ops that change neither channels nor sizes."""


def draw_edge(rng: Random, *, kernel: bool) -> list[Any]:
    """Return the ops of an edge; with a kernel, which writes the layer's filters."""
    if not kernel:
        return [rng.one(_SAME_SIZE)] if rng.holds(0.5) else []
    before: list[list[Any]] = [[], [], ["norm", "relu"], ["relu"], [rng.one(_SAME_SIZE)]]
    behind: list[list[Any]] = [[], [], ["norm"], ["norm", "relu"], [{"group_norm": 1}, "relu"]]
    ops: list[Any] = [*rng.one(before), _conv(rng), *rng.one(behind)]
    if rng.holds(0.1):
        ops = [{"upsample": 2}, {"avg_pool": 2}, *ops]
    return ops


def draw_layer(rng: Random, *, kernel: bool, reduce: bool, drop: bool) -> list[Any]:
    """Return the ops of a layer.

    Args:
        rng: the random choices.
        kernel: one of them writes the layer's filters.
        reduce: one of them has the block's stride.
        drop: a skip may have drop-path.
    """
    strided = {"reduce": True} if reduce else {}
    ops: list[Any] = [rng.one(_SAME_SIZE) for _ in range(rng.integer(0, 2))]
    if not (kernel or reduce):
        return ops
    if rng.holds(0.5):
        return [*ops, {**_conv(rng), **strided}, *rng.one(([], ["norm"], ["bias", "relu"]))]
    inner = {"conv": 1, **rng.some(filters=rng.one(("x2", 2)))}
    skip: Document = {
        "skip": [inner, "norm", "relu", {**_conv(rng), **strided}, *rng.one(([], ["norm"]))],
        **rng.some(shortcut=rng.one(("projection", "pad"))),
    }
    if drop and rng.holds(0.4):
        skip["drop_path"] = {"last": 0.5, **rng.some(per=rng.one(("batch", "image")))}
    return [*ops, skip, *rng.one(([], ["relu"]))]


def _conv(rng: Random) -> Document:
    return {"conv": rng.one((1, 3)), **rng.some(0.2, bias=True, filters=2)}


def draw_edges(rng: Random, n: int) -> Any:
    """Return a value of ``edges`` for n layers."""
    pairs = [[i, j] for i in range(1, n + 1) for j in range(1, n + 1) if i != j]
    drawn = {"neighbours": 2, "rewire": rng.one((0.0, 0.5, 1.0)), "seed": rng.integer(0, 9)}
    forms: list[Any] = ["complete", "chain", "ring", "none", {"nearest": rng.integer(1, n)}]
    forms += [{"small_world": drawn}, [pair for pair in pairs if rng.holds(0.6)]]
    return rng.one(forms)


def draw_entry(rng: Random, n: int) -> Document:
    """Return a value of ``input`` for n layers."""
    entries: list[Any] = ["all", "first", "sources"]
    entries.append([j for j in range(1, n + 1) if rng.holds(0.7)])
    return {"to": rng.one(entries), **rng.some(stages=rng.one(("first", "all")))}


def without_an_op(block: Document) -> Iterator[Document]:
    """Yield a block with one op less, for each in its lists of ops."""
    for key, value in block.items():
        if isinstance(value, list):
            for place in range(len(value)):
                yield {**block, key: [*value[:place], *value[place + 1 :]]}
            for place, part in enumerate(value):
                if isinstance(part, dict):
                    for smaller in without_an_op(part):
                        yield {**block, key: [*value[:place], smaller, *value[place + 1 :]]}
        elif isinstance(value, dict):
            for smaller in without_an_op(value):
                yield {**block, key: smaller}
