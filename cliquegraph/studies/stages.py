"""Feature maps of each stage of a trained block: section 4.3 and Figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.ir.storage import Array, check_tensors
from cliquegraph.plugins.backends import find_backend
from cliquegraph.spec.network import NetworkSpec


@dataclass(frozen=True)
class StageMap:
    """Statistics of a block's feature maps after a stage, and the strongest map.

    Attributes:
        block, stage: from 1.
        layer, channel: of the map with the highest mean, from 1 and from 0.
        mean: of that map.
        overall: mean over all maps after the stage.
        change: ‖Z − Z'‖ / ‖Z'‖ relative to the previous stage; None for the first.
        map: the map itself, (H, W).
    """

    block: int
    stage: int
    layer: int
    channel: int
    mean: float
    overall: float
    change: float | None
    map: Array


def stage_maps(
    network: NetworkSpec, backend: str, tensors: Mapping[str, Array], image: Images
) -> list[StageMap]:
    """Return, for each block and stage, the map with the highest mean activation.

    Args:
        network: the network.
        backend: the backend whose model runs.
        tensors: its canonical tensors, by name.
        image: (1, C, H, W), normalized.

    Raises:
        WeightsError: ``tensors`` do not match the network.
        BackendError: the backend is not installed.
    """
    # At -O0: from -O1 on, unused updates are removed.
    compilation = Compilation(network, level=0)
    check_tensors(compilation.lowered, tensors)
    chosen = find_backend(backend)
    executor = chosen.executor(
        compilation.source(chosen), network.python_class, compilation.graph, "float32"
    )
    executor.load(tensors)
    versions = executor.activations(image.astype(np.float64))
    stage_results = []
    for block in compilation.steps.blocks:
        latest: dict[int, Array] = {}
        previous: dict[int, Array] | None = None
        for stage in range(1, 1 + max(step.stage for step in block.steps)):
            for step in block.steps:
                if step.stage == stage:
                    latest[step.layer] = versions[f"block{block.index}.{step.writes}"][0]
            stage_results.append(_strongest(block.index, stage, latest, previous))
            previous = dict(latest)
    return stage_results


def _strongest(
    block: int, stage: int, maps: Mapping[int, Array], previous: Mapping[int, Array] | None
) -> StageMap:
    means = {layer: each.mean(axis=(1, 2)) for layer, each in maps.items()}
    layer = max(means, key=lambda each: means[each].max())
    channel = int(means[layer].argmax())
    change = None
    if previous is not None:
        distance = sum(float(np.square(maps[i] - previous[i]).sum()) for i in previous)
        length = sum(float(np.square(previous[i]).sum()) for i in previous)
        change = float(np.sqrt(distance / length)) if length else float("nan")
    return StageMap(
        block,
        stage,
        layer,
        channel,
        float(means[layer][channel]),
        float(np.mean(list(means.values()))),
        change,
        maps[layer][channel],
    )
