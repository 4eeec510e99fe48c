"""Feature maps of each stage next to the image: Figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cliquegraph.data import Images
from cliquegraph.draw.plot import plot
from cliquegraph.ir.storage import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cliquegraph.studies.stages import StageMap

_SIDE = 1.9  # side of a map, in inches


def draw_features(title: str, image: Images, maps: Sequence[StageMap], suffix: str) -> bytes:
    """Return a picture: a row for each block, the image, then a column for each stage.

    Args:
        title: the title of the picture.
        image: (C, H, W), 1 or 3 channels, in any range.
        maps: for every block and stage.
        suffix: ``svg``, ``png`` or ``html``, a page with the picture and its values.

    Raises:
        UsageError: another suffix, or Matplotlib is not installed.
    """
    rows = [
        [
            str(each.block),
            str(each.stage),
            f"X{each.layer}, channel {each.channel}",
            f"{each.mean:.4g}",
            f"{each.overall:.4g}",
            "" if each.change is None else f"{each.change:.4g}",
        ]
        for each in maps
    ]
    return plot(
        suffix,
        "feature maps are",
        "plot.html.jinja",
        lambda: _figure(title, image, maps),
        title=title,
        head=["block", "stage", "strongest map", "its mean", "mean of all", "change"],
        rows=rows,
    )


def _figure(title: str, image: Images, maps: Sequence[StageMap]) -> Figure:
    from matplotlib.figure import Figure

    blocks = sorted({each.block for each in maps})
    stages = max(each.stage for each in maps)
    size = (_SIDE * (stages + 1), _SIDE * len(blocks) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots(len(blocks), stages + 1, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for row, block in zip(axes, blocks, strict=True):
        _show(row[0], _shown(image), f"block {block}: the image")
        for each in maps:
            if each.block == block:
                name = f"stage {each.stage}: X{each.layer}, {each.channel}"
                _show(row[each.stage], each.map, name)
    return figure


def _show(place: Any, values: Array | Images, title: str) -> None:
    place.imshow(values, cmap="gray" if title.endswith("image") else "viridis")
    place.set_title(title, parse_math=False, fontsize=8)


def _shown(image: Images) -> Images:
    """Scale an image to [0, 1], as (H, W) or (H, W, 3)."""
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low if high > low else 1.0)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)
