"""Random specs: valid, small, and together covering every key of the language.

Spec i of seed S depends only on (S, i) and the installed kinds, so that any one can be drawn
again.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from cliquegraph.analysis.cost import network_cost
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.lowering.lower import lower
from cliquegraph.plugins.kinds import Document, Fuzzing, default_kind, kinds
from cliquegraph.spec.figure import Figure
from cliquegraph.spec.load import loads
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.unroll import unroll

# Small enough to compile in seconds, large enough to expose errors in a schedule.
_MAX_STEPS = 20
_MAX_MACS = 300_000
_MAX_TRIES = 1_000  # a compiler that rejects this many shapes has a bug

_RATES = (0.0, 0.1, 0.5)
_SHARES = (0.3, 0.5, 0.75, 1.0)


def draw_spec(seed: int, index: int) -> Document:
    """Return spec ``index`` of ``seed``.

    >>> draw_spec(0, 3) == draw_spec(0, 3)
    True
    """
    rng = _Random(np.random.default_rng([seed, index]))
    for _ in range(_MAX_TRIES):
        document = _document(rng, index)
        try:
            steps = unroll(read_document(document))
            if sum(len(block.steps) for block in steps.blocks) > _MAX_STEPS:
                continue
            total = network_cost(lower(steps)).total
        except SpecError as error:
            if all(each.code is Code.SIZE for each in error.diagnostics):
                continue  # an invalid shape, such as a map pooled to nothing
            break
        except Exception:  # noqa: BLE001  # a bug in the compiler, which is what fuzzing looks for
            break
        if total.macs <= _MAX_MACS:
            computed = {key: getattr(total, key) for key in ("parameters", "macs", "flops")}
            over_time = _over_time(rng, document) if rng.holds(0.2) else None
            return over_time or document | rng.some(expect=_expect(rng, computed))
    return document


def read_document(document: Document) -> NetworkSpec:
    """Return the network that a spec declares; JSON is a subset of the language.

    Raises:
        SpecError: it declares none.
    """
    return loads(json.dumps(document))


class _Random:
    """Random choices as plain Python values."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, inclusive."""
        return int(self._generator.integers(low, high + 1))

    def one(self, options: Sequence[Any]) -> Any:
        """Return one of several options."""
        return options[self.integer(0, len(options) - 1)]

    def holds(self, chance: float) -> bool:
        """Return True with this probability."""
        return self.share() < chance

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._generator.random())

    def order(self, n: int) -> list[int]:
        """Return a permutation of 1 to n."""
        return [int(i) + 1 for i in self._generator.permutation(n)]

    def some(self, chance: float = 0.4, /, **keys: Any) -> Document:
        """Return each key with this probability; present keys may have their default values."""
        return {key: value for key, value in keys.items() if self.holds(chance)}


def _document(rng: _Random, index: int) -> Document:
    blocks = [_block(rng) for _ in range(rng.one((1, 1, 1, 2, 2, 3)))]
    return {
        "cliquegraph": 1,
        "name": f"drawn_{index}",
        **rng.some(class_name=rng.one(("A", "Drawn", "Net2Net", "CliqueNetS3"))),
        "input": {
            "channels": rng.integer(1, 3),
            "height": rng.integer(2, 9),
            "width": rng.integer(2, 9),
        },
        "stem": _stem(rng),
        **_blocks(rng, blocks),
        # A transition has no effect with a single block, but may be declared.
        **rng.some(0.8 if len(blocks) > 1 else 0.1, transition=_transitions(rng, len(blocks) - 1)),
        **rng.some(0.7, readout=_readout(rng)),
        "classifier": {"classes": rng.integer(1, 5)},
        **rng.some(training=_training(rng)),
    }


def _stem(rng: _Random) -> str | Document:
    if rng.holds(0.15):
        return "none"
    if rng.holds(0.2):
        return {"ops": _ops(rng)}
    pool = {
        "kind": rng.one(("max", "avg")),
        "kernel": rng.integer(1, 3),
        "stride": rng.integer(1, 2),
    }
    return {
        "filters": rng.integer(1, 4),
        **rng.some(
            kernel=rng.one((1, 3, 5)),
            stride=rng.integer(1, 2),
            norm=rng.holds(0.7),
            init=rng.one(("fan_in", "fan_out")),
            pool=rng.one((None, pool, pool)),
        ),
    }


def _drawable() -> dict[str, Fuzzing]:
    return {name: kind.fuzzing for name, kind in kinds().items() if kind.fuzzing is not None}


def _block(rng: _Random) -> Document:
    """A block of a random kind, chosen by weight."""
    ways = list(_drawable().values())
    bounds = list(accumulate(way.weight for way in ways))
    return ways[bisect(bounds, rng.share() * bounds[-1])].draw(rng)


def _blocks(rng: _Random, blocks: list[Document]) -> Document:
    """The blocks, sometimes with defaults: for all kinds, or for a named one."""
    if rng.holds(0.7):
        return {"blocks": blocks}
    named = [{"kind": default_kind(), **each} for each in blocks]
    ways = _drawable()
    kind = rng.one((None, *dict.fromkeys(each["kind"] for each in named)))
    alike = [each for each in named if each["kind"] == kind]
    if kind is None:
        drawn = {"filters": rng.integer(1, 3), **rng.some(dropout=rng.one(_RATES))}
        fields = [kinds()[each["kind"]].spec.model_fields for each in named]
        keys = {key: drawn[key] for key in drawn if all(key in each for each in fields)}
        return {"block_defaults": keys, "blocks": [_without(rng, each, keys) for each in blocks]}
    # Schedule keys are shared together, since one alone may contradict other blocks' keys.
    joint = ways[kind].schedule
    schedule = joint if rng.holds(0.5) else ()
    model = rng.one(alike)
    keys = {key: model[key] for key in model if key not in joint and rng.holds(0.6)}
    keys |= {key: model[key] for key in schedule if key in model} | {"kind": kind}
    shared = [
        _without(rng, each, keys, schedule) if each["kind"] == kind else each for each in named
    ]
    return {"block_defaults": keys, "blocks": shared}


def _without(
    rng: _Random, block: Document, keys: Document, inherited: Sequence[str] = ()
) -> Document:
    """The block without inherited keys; it overrides some of the other defaults."""
    return {
        key: value
        for key, value in block.items()
        if key not in inherited and (key not in keys or rng.holds(0.3))
    }


def _ops(rng: _Random) -> list[Any]:
    """Ops outside blocks, where each convolution names its filters."""
    conv = {
        "conv": rng.one((1, 3)),
        "filters": rng.integer(1, 4),
        **rng.some(stride=rng.integer(1, 2), bias=rng.holds(0.7)),
    }
    pool = {"max_pool": rng.integer(1, 2), **rng.some(stride=rng.integer(1, 2))}
    others: list[Any] = ["norm", "relu", "bias", {"group_norm": 1}, {"dropout": 0.1}, pool]
    others.append({"avg_pool": rng.integer(1, 2)})
    return [*rng.some(conv=conv).values(), *(rng.one(others) for _ in range(rng.integer(0, 3)))]


def _transitions(rng: _Random, between: int) -> str | Document | list[str | Document]:
    if rng.holds(0.2):
        return [_transition(rng) for _ in range(between)]
    return _transition(rng)


def _transition(rng: _Random) -> str | Document:
    if rng.holds(0.3):
        return "none"
    if rng.holds(0.2):
        return {"ops": _ops(rng)}
    return rng.some(
        attention=rng.holds(0.7),
        compression=rng.one(_SHARES),
        pool=rng.one(("avg", "max")),
        dropout=rng.one(_RATES),
    )


def _readout(rng: _Random) -> Document:
    if rng.holds(0.15):
        return {"ops": _ops(rng), **rng.some(pool=rng.one(("avg", "max")))}
    norm = rng.holds(0.7)  # compression requires it
    return rng.some(
        blocks=rng.one(("all", "last")),
        dropout=rng.one(_RATES),
        norm=norm,
        pool=rng.one(("avg", "max")),
        **({"compression": rng.one((None, *_SHARES))} if norm else {}),
    )


def _over_time(rng: _Random, document: Document) -> Document | None:
    """The network with a readout over time, if its last block has several stages."""
    readout = {**document.get("readout", {}), "blocks": "last", "stages": "all"}
    readout |= rng.some(norms=rng.one(("per_stage", "shared")))
    changed = {**document, "readout": readout}
    try:
        stages = len(unroll(read_document(changed)).blocks[-1].readings)
    except SpecError:
        return None
    weights = [1, *(rng.one((0, 0.5, 1)) for _ in range(stages - 1))]
    training = {"recipe": "cifar", "stage_weights": weights}
    return changed | rng.some(training=training)


def _training(rng: _Random) -> str | Document:
    recipe: str = rng.one(("cifar", "svhn", "imagenet"))
    if rng.holds(0.3):
        return recipe
    return {
        "recipe": recipe,
        **rng.some(
            epochs=rng.integer(1, 300),
            batch_size=rng.integer(2, 256),
            learning_rate=rng.one((0.01, 0.1)),
            momentum=rng.one((0.0, 0.9)),
            weight_decay=rng.one((0.0, 1e-4)),
            milestones=rng.one(([], [0.5], [0.25, 0.75])),
            decay=rng.one((0.1, 1.0)),
            normalisation=rng.one(("standard", "unit", "imagenet")),
            augmentation=rng.one(("none", "pad_crop_flip", "resized_crop_flip")),
        ),
    }


def _expect(rng: _Random, computed: dict[str, int]) -> Document:
    """Matching figures, exact or rounded as in a paper."""
    printed = {key: Figure("0.01k").show(figure) for key, figure in computed.items()}
    return rng.some(**{key: rng.one((computed[key], printed[key])) for key in computed})
