"""Image files by way of Pillow: decoding, resizing, random resized crops."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import Statistics, Treatment
from cliquegraph.data.treatment import normalised
from cliquegraph.diagnostics.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN = 256 / 224
"""The shorter side of an image before its centre is cropped, over that of the crop (ImageNet)."""
TRIES = 10
"""How often a random crop may be too large for an image before its centre is taken."""

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_MODES = {1: "L", 3: "RGB"}


def load_image(
    path: Path | str, *, shape: tuple[int, int, int], statistics: Statistics, treatment: Treatment
) -> NDArray[np.float32]:
    """Return one image file as a network sees it when tested, (1, C, H, W).

    Args:
        path: the file; colours become grey, or grey colours, as the network takes them.
        shape: (C, H, W) of the network's input.
        statistics: of the data set that the network was trained on.
        treatment: with which it was trained.

    Raises:
        UsageError: there is no such file, or the statistics are of other channels.
        DataError: it is no image, or a broken one.
    """
    pixels = read_picture(Path(path), shape, margin_of(treatment))
    statistics.require_channels(shape[0])
    return normalised(pixels[None], statistics)


def margin_of(treatment: Treatment) -> float:
    """Return the margin of test images: that of ImageNet where training takes random parts."""
    return MARGIN if treatment.augmentation == "resized_crop_flip" else 1.0


def read_picture(
    path: Path,
    shape: tuple[int, int, int],
    margin: float = 1.0,
    draws: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Return an image file in the shape (C, H, W): its centre, or a random part of it.

    Args:
        path: the file.
        shape: of what is returned; one channel is grey, three are red, green and blue.
        margin: of a centre crop, of the shorter side; an image of the right size is left alone.
        draws: (tries, 4), of a random part.
    """
    module = pillow()
    mode = mode_of(shape[0])
    if not path.is_file():
        raise UsageError(f"there is no image {path}")
    try:
        with module.open(path) as opened:
            image = _eight_bits(opened).convert(mode)
            size = shape[1:]
            found = centre(image, size, margin) if draws is None else part(image, size, draws)
    except (
        OSError,
        SyntaxError,  # what Pillow raises for a broken PNG
        ValueError,
        EOFError,
        struct.error,
        module.DecompressionBombError,
    ) as error:
        raise DataError(f"{path}: no image that can be read: {error}") from error
    return channels_first(found)


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits in 8: Pillow itself would cut off what is above 255."""
    if image.mode in ("I", "F"):
        raise ValueError(f"grey of mode {image.mode}, whose white is not known")
    if not image.mode.startswith("I;16"):
        return image
    narrow: Image = pillow().fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    return narrow


def centre(image: Image, size: tuple[int, int], margin: float) -> Image:
    """Resize the shorter side to ``margin`` × (H, W) and crop the centre."""
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


def part(image: Image, size: tuple[int, int], draws: NDArray[np.float64]) -> Image:
    """Resize a random part to (H, W): 8 to 100 % of the area, 3:4 to 4:3 (Inception)."""
    height, width = size
    box = random_box(image.height, image.width, draws)
    return image.resize((width, height), pillow().Resampling.BILINEAR, box)


def random_box(
    height: int, width: int, draws: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the first try that fits, else of the centre."""
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
    """Return a random part of each image, (n, C, H, W); draws are (n, tries, 4)."""
    module = pillow()
    mode = mode_of(pixels.shape[1])
    found = np.empty_like(pixels)
    for index, (image, row) in enumerate(zip(pixels, draws, strict=True)):
        last = np.ascontiguousarray(image[0] if mode == "L" else image.transpose(1, 2, 0))
        picture = module.fromarray(last)
        found[index] = channels_first(part(picture, (image.shape[1], image.shape[2]), row))
    return found


def channels_first(image: Image) -> NDArray[np.uint8]:
    """Return an image's pixels, (C, H, W)."""
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def mode_of(channels: int) -> str:
    """Return Pillow's mode for a number of channels."""
    if channels not in _MODES:
        raise UsageError(f"image files have 1 or 3 channels, the network takes {channels}")
    return _MODES[channels]


def pillow() -> Any:
    """Return Pillow's module ``Image``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("images need Pillow: pip install 'cliquegraph[data]'") from error
    return Image
