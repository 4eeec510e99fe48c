"""Image files, read with Pillow: decoding, resizing, random resized crops."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import Statistics, Treatment
from cliquegraph.data.treatment import normalize
from cliquegraph.diagnostics.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN = 256 / 224
"""Ratio of the resized image's shorter side to the center crop's, as for ImageNet."""
TRIES = 10
"""Attempts at a random crop that fits the image before falling back to its center."""

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_MODES = {1: "L", 3: "RGB"}


def load_image(
    path: Path | str, *, shape: tuple[int, int, int], statistics: Statistics, treatment: Treatment
) -> NDArray[np.float32]:
    """Return one image file preprocessed for evaluation, (1, C, H, W).

    Args:
        path: the file; converted to gray or RGB, depending on the network's input.
        shape: (C, H, W) of the network's input.
        statistics: of the training data.
        treatment: the preprocessing in training.

    Raises:
        UsageError: there is no such file, or the statistics have another number of channels.
        DataError: it is not an image, or it is damaged.
    """
    pixels = read_picture(Path(path), shape, margin_of(treatment))
    statistics.require_channels(shape[0])
    return normalize(pixels[None], statistics)


def margin_of(treatment: Treatment) -> float:
    """Return the margin of test images: ImageNet's if training uses random resized crops."""
    return MARGIN if treatment.augmentation == "resized_crop_flip" else 1.0


def read_picture(
    path: Path,
    shape: tuple[int, int, int],
    margin: float = 1.0,
    draws: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Return an image file in the shape (C, H, W): its center, or a random crop.

    Args:
        path: the file.
        shape: of the result; 1 channel is gray, 3 are RGB.
        margin: of a center crop, see ``MARGIN``; an image of the right size is not changed.
        draws: (tries, 4), the random numbers of a random crop.
    """
    module = pillow()
    mode = mode_of(shape[0])
    if not path.is_file():
        raise UsageError(f"there is no image file {path}")
    try:
        with module.open(path) as opened:
            image = _eight_bits(opened).convert(mode)
            size = shape[1:]
            cropped = (
                center_crop(image, size, margin)
                if draws is None
                else random_crop(image, size, draws)
            )
    except (
        OSError,
        SyntaxError,  # what Pillow raises for a broken PNG
        ValueError,
        EOFError,
        struct.error,
        module.DecompressionBombError,
    ) as error:
        raise DataError(f"{path}: can't read the image: {error}") from error
    return channels_first(cropped)


def _eight_bits(image: Image) -> Image:
    """Convert 16-bit gray to 8 bits: Pillow itself would clip values above 255."""
    if image.mode in ("I", "F"):
        raise ValueError(f"gray of mode {image.mode} has no defined white")
    if not image.mode.startswith("I;16"):
        return image
    narrow: Image = pillow().fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    return narrow


def center_crop(image: Image, size: tuple[int, int], margin: float) -> Image:
    """Resize the shorter side to ``margin`` × (H, W) and crop the center."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = margin * max(height / image.height, width / image.width)
    box_height, box_width = (
        min(image.height, height / scale),
        min(image.width, width / scale),
    )
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    return image.resize((width, height), pillow().Resampling.BILINEAR, box)


def random_crop(image: Image, size: tuple[int, int], draws: NDArray[np.float64]) -> Image:
    """Resize a random crop to (H, W): 8 to 100 % of the area, aspect 3:4 to 4:3 (Inception)."""
    height, width = size
    box = random_box(image.height, image.width, draws)
    return image.resize((width, height), pillow().Resampling.BILINEAR, box)


def random_box(
    height: int, width: int, draws: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the first try that fits, else of the center."""
    for area, ratio, down, right in draws:
        target = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * area)
        low, high = np.log(_RATIO[0]), np.log(_RATIO[1])
        aspect = float(np.exp(low + (high - low) * ratio))
        box_width, box_height = round((target * aspect) ** 0.5), round((target / aspect) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(right * (width - box_width + 1)), int(down * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    box_width = min(width, round(height * _RATIO[1]))
    box_height = min(height, round(width / _RATIO[0]))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def crop_pixels(pixels: NDArray[np.uint8], draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a random crop of each image, (n, C, H, W); draws are (n, tries, 4)."""
    module = pillow()
    mode = mode_of(pixels.shape[1])
    crops = np.empty_like(pixels)
    for index, (image, row) in enumerate(zip(pixels, draws, strict=True)):
        last = np.ascontiguousarray(image[0] if mode == "L" else image.transpose(1, 2, 0))
        picture = module.fromarray(last)
        crops[index] = channels_first(random_crop(picture, (image.shape[1], image.shape[2]), row))
    return crops


def channels_first(image: Image) -> NDArray[np.uint8]:
    """Return an image's pixels, (C, H, W)."""
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def mode_of(channels: int) -> str:
    """Return Pillow's mode for a number of channels."""
    if channels not in _MODES:
        raise UsageError(f"image files have 1 or 3 channels, but the network takes {channels}")
    return _MODES[channels]


def pillow() -> Any:
    """Return Pillow's module ``Image``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("images need Pillow: pip install pillow") from error
    return Image
