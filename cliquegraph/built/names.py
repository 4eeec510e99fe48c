"""Names of generated modules, from which they can be compiled again."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from typing import Any

from cliquegraph.spec.dump import explicit_keys
from cliquegraph.spec.load import load
from cliquegraph.spec.network import NetworkSpec

PACKAGE = "cliquegraph.built"

_MOST = 1 << 20  # bytes of a decompressed name; a spec has at most 2¹⁸ characters
_COMMON = (
    b'"kind":"residual","graph","recurrent","dense","fractal","unit":"bottleneck",'
    b'"bottleneck":true,"edges":"direction":"combine":"add","ops":["norm","relu",{"conv":'
    b'{"kernel":1,"stride":2},"pool":"max","kernel":7,"stride":2,"padding":"initial":"zero",'
    b'"updates":"order":"stages":"all","norms":"shared","drop_path":"dropout":0.5,"growth"'
    b'"compression":0.5},"attention":true,"block_defaults":{"filters":64,"layers":4},'
    b'{"filters":12,"layers":5}],"transition":{"readout":{"blocks":"last"},'
    b'"classifier":{"classes":1000},"classifier":{"classes":100},"classifier":{"classes":10},'
    b'"training":{"recipe":"imagenet"},"training":{"recipe":"cifar"},'
    b'"expect":{"flops":"parameters":{"spec":{"cliquegraph":1,"name":"cliquenet_",'
    b'"class_name":"CliqueNet","input":{"channels":3,"height":224,"width":224},'
    b'"input":{"channels":3,"height":32,"width":32},"stem":{"filters":64,"kernel":7,"stride":2,'
    b'"pool":{"kernel":3,"stride":2}},"blocks":[{"backend":"flax","level":0,"inference":false}'
)
"""Text that the compression starts from, which makes names 3 times shorter.

Never change it: the names in pickles could not be read any more.
"""

_RAW = -zlib.MAX_WBITS  # without a header

_ESCAPES = (("+", "_p"), ("/", "_s"))  # names are identifiers; "_" is not in the base64 alphabet


@dataclass(frozen=True)
class Recipe:
    """All that a generated module is compiled from.

    Attributes:
        network: the network.
        backend: the name of a backend.
        level: the -O level; 0 with ``inference``.
        inference: whether the network is folded for evaluation.
    """

    network: NetworkSpec
    backend: str
    level: int
    inference: bool

    @property
    def title(self) -> str:
        """The network, the backend and the level, for people."""
        option = "inference" if self.inference else f"O{self.level}"
        return f"{self.network.name}_{self.backend}_{option}"

    @property
    def module(self) -> str:
        """The full name of the module."""
        return f"{PACKAGE}.{self.title}__{_encode(self)}"


def recipe_of(module: str) -> Recipe | None:
    """Return the recipe in a module's name; None if it holds none.

    Raises:
        SpecError: it holds one for an invalid network, as of another version of cliquegraph.
    """
    package, _, name = module.rpartition(".")
    if package != PACKAGE or "__" not in name:
        return None
    try:
        data = _decode(name.rpartition("__")[2])
        spec, backend = data["spec"], str(data["backend"])
        level, inference = int(data["level"]), bool(data["inference"])
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error, zlib.error):
        return None
    return Recipe(load(spec), backend, level, inference)


def _encode(recipe: Recipe) -> str:
    data = {
        "spec": explicit_keys(recipe.network),
        "backend": recipe.backend,
        "level": recipe.level,
        "inference": recipe.inference,
    }
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=_COMMON)
    packed = packer.compress(json.dumps(data, separators=(",", ":")).encode())
    text = base64.b64encode(packed + packer.flush()).decode().rstrip("=")
    for sign, escape in _ESCAPES:
        text = text.replace(sign, escape)
    return text


def _decode(text: str) -> dict[str, Any]:
    for sign, escape in _ESCAPES:
        text = text.replace(escape, sign)
    packed = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    unpacker = zlib.decompressobj(_RAW, zdict=_COMMON)
    content = unpacker.decompress(packed, _MOST)
    if not unpacker.eof:
        raise ValueError("not a complete name")
    data: dict[str, Any] = json.loads(content)
    return data
