"""The networks of a bundle: compiled sources, shapes, weights. Needs only NumPy.

``gpu_bundle.py`` writes the files that this module reads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

LEVELS = ("O0", "O1", "O2")
FOLDED = "folded"
LITERAL = "literal"
TINY = "tiny"
"""The network of dry runs, where compilation takes long."""
MANIFEST = "networks.json"

Array = NDArray[np.float64]


class Image(Protocol):
    """The shape of images."""

    @property
    def channels(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...


class Classifier(Protocol):
    """The classifier of a network."""

    @property
    def classes(self) -> int: ...


class Network(Protocol):
    """What drawing a batch needs: the compiler's spec of a network, or a network of a bundle."""

    @property
    def input(self) -> Image: ...

    @property
    def classifier(self) -> Classifier: ...


class BundledImage(NamedTuple):
    channels: int
    height: int
    width: int


class BundledClassifier(NamedTuple):
    classes: int


class Layout:
    """Where a compiled model stores canonical tensors.

    ``entries`` has for each tensor of the model, by its name: ``axis``, along which its pieces are
    concatenated; ``axes``, the canonical axis of each of its axes; ``holdings``, lists of pieces
    ``[tensor, start, stop]``. The first list is the content of the tensor; the others have the same
    values (running statistics that several readers share).
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def to_model(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return the content of each tensor of the model from canonical tensors."""
        found = {}
        for name, entry in self._entries.items():
            axis = entry["axis"]
            parts = [
                np.take(tensors[tensor], range(start, stop), axis)
                for tensor, start, stop in entry["holdings"][0]
            ]
            found[name] = np.transpose(np.concatenate(parts, axis), entry["axes"])
        return found

    def to_canonical(self, stored: Mapping[str, Array]) -> dict[str, Array]:
        """Return the canonical tensors that some of the model's tensors contain."""
        parts: dict[str, list[tuple[int, int, Array]]] = {}
        for name, array in stored.items():
            entry = self._entries[name]
            axis = entry["axis"]
            held = np.transpose(array, np.argsort(entry["axes"]))
            for pieces in entry["holdings"]:
                position = 0
                for tensor, start, stop in pieces:
                    end = position + stop - start
                    part = np.take(held, range(position, end), axis)
                    parts.setdefault(tensor, []).append((start, axis, part))
                    position = end
        return {
            tensor: np.concatenate([part for *_, part in sorted(each, key=_start)], each[0][1])
            for tensor, each in parts.items()
        }


def _start(part: tuple[int, int, Array]) -> int:
    return part[0]


@dataclass(frozen=True, eq=False)
class BundledNetwork:
    """One network of a bundle; its input and classifier are named as in the compiler's spec."""

    name: str
    python_class: str
    input: BundledImage
    classifier: BundledClassifier
    literal: Mapping[str, Any] | None
    folder: Path

    def shrunk(self, largest: int | None) -> BundledNetwork:
        """Return the same network for images of at most ``largest`` pixels a side."""
        if largest is None:
            return self
        channels, height, width = self.input
        return replace(
            self, input=BundledImage(channels, min(height, largest), min(width, largest))
        )

    def model_class(self, framework: str, variant: str, triton: int | None = None) -> Any:
        """Import a variant's source and return its model's class.

        With ``triton``, import it once more, with that value of its constant ``TRITON``.
        """
        name = f"bundled_{framework}_{self.name}_{variant}"
        name = name if triton is None else f"{name}_triton{triton}"
        if name not in sys.modules:
            # torch.compile looks for a function's globals in sys.modules.
            sys.modules[name] = module = _load(self.folder / f"{framework}_{variant}.py", name)
            if triton is not None:
                vars(module)["TRITON"] = triton
        return getattr(sys.modules[name], self.python_class)

    def weights(self, variant: str = LITERAL) -> dict[str, Array]:
        """Return one draw of canonical tensors, float64; of a folded network, folded."""
        name = "folded.npz" if variant == FOLDED else "weights.npz"
        with np.load(self.folder / name) as tensors:
            return {key: tensors[key].astype(np.float64) for key in tensors.files}

    def layout(self, framework: str, variant: str) -> Layout:
        """Return where a variant's model stores the tensors."""
        return Layout(self._layouts[f"{framework}_{variant}"])

    @cached_property
    def _layouts(self) -> dict[str, Any]:
        text = (self.folder / "layouts.json").read_text(encoding="utf-8")
        layouts: dict[str, Any] = json.loads(text)
        return layouts

    def batch(self, count: int) -> tuple[Array, NDArray[np.int64]]:
        """Draw images (batch, channels, height, width) and labels."""
        rng = np.random.default_rng(0)
        images = rng.normal(size=(count, *self.input))
        return images, rng.integers(0, self.classifier.classes, count)


def _load(path: Path, name: str) -> ModuleType:
    found = spec_from_file_location(name, path)
    assert found is not None and found.loader is not None  # noqa: S101  # its name ends in .py
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Bundle:
    """A folder that ``gpu_bundle.py`` wrote."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of the bundle: the commit of the compiler, and the networks."""
        manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest

    @cached_property
    def networks(self) -> dict[str, BundledNetwork]:
        """Its networks by name."""
        return {
            name: BundledNetwork(
                name,
                data["class"],
                BundledImage(*data["input"]),
                BundledClassifier(data["classes"]),
                data["literal"],
                self.folder / "networks" / name,
            )
            for name, data in self.manifest["networks"].items()
        }
