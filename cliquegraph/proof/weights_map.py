"""Weight maps: files that say which tensors of a hand-written model are the declared ones.

A map is YAML, a line for each canonical tensor, or for a group of them::

    stem.conv.weight: conv1.weight
    block1.x1.s1.norm: bns.0                    # a module: scale, bias, mean and var
    block1.w0_1.weight: "w.0[:, 0:64]"          # a part of a tensor, as Python slices it
    block1.w1_2.weight: "table[3]"              # one of several tensors that are stacked
    block1.w2_3.weight[:, 0:8]: a.weight        # a part of the declared tensor
    classifier.weight: fc.permute(1, 0)         # stored the other way round
    block{b}.w{i}_{j}.weight: "cliques.{b-1}.w.{5*i+j}"   # all at once

What stands at the right is how PyTorch would read the declared tensor, in its canonical shape
(kernels OIHW, linear layers (out, in)), from the model. Names in braces stand for numbers: at the
right they may be added, subtracted and multiplied. A line without braces goes before one with them.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import field_name, is_bias, slot_name, tensor_name
from cliquegraph.ir.types import Field
from cliquegraph.weights.layout import Layout

Index = tuple[int | slice | None, ...]

_MODULE = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}
_PLACE = re.compile(
    r"^(?P<name>[^\[\]()]+?)(\[(?P<index>[^\[\]]*)\])?(\.permute\((?P<axes>.*)\))?$"
)
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_]\w*")


@dataclass(frozen=True)
class Placement:
    """Where a part of a canonical tensor lies in a model.

    Attributes:
        canonical: the tensor.
        part: its part.
        own: the model's tensor.
        index, axes: that part is ``own[index].permute(axes)``.
        line: of the map, 0 if it has none.
    """

    canonical: str
    own: str
    part: Index = ()
    index: Index = ()
    axes: tuple[int, ...] | None = None
    line: int = 0


def of_layout(graph: Graph, layout: Layout) -> list[Placement]:
    """Return the placements in a layout of a lowered graph."""
    found = []
    for param in graph.params:
        own, name = layout.name(param), tensor_name(param.pieces[0].tensor)
        # Axis a of the file is the canonical axis axes[a].
        axes = layout.axes(param)
        turned = tuple(axes.index(axis) for axis in range(len(axes)))
        plain = turned == tuple(range(len(turned)))
        found.append(Placement(name, own, axes=None if plain else turned))
    return found


def read_map(path: Path, graph: Graph) -> list[Placement]:
    """Read a weight map.

    Raises:
        WeightsError: it can't be read, or a line of it means nothing; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WeightsError(f"can't read the weight map {path}: {error}") from None
    return parse_map(text, str(path), graph)


def parse_map(text: str, name: str, graph: Graph) -> list[Placement]:
    """Return the placements that a map's text says.

    Raises:
        WeightsError: a line of it means nothing.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = YAML(typ="rt").load(io.StringIO(text))
    except (YAMLError, ValueError) as error:
        raise WeightsError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not document:
        raise WeightsError(
            f"{name} is no weight map: it must be a mapping, `stem.conv.weight: conv1.weight`"
        )
    rows: Any = getattr(document, "lc")  # noqa: B009  # of what ruamel.yaml reads with its lines
    lines = [_Line(str(key), value, rows.key(key)[0] + 1, name) for key, value in document.items()]
    return _placements(lines, _Names(graph))


class _Names:
    """The canonical names that a map may use: of tensors, and of their groups."""

    def __init__(self, graph: Graph) -> None:
        self.tensors = [tensor_name(tensor) for tensor in graph.tensors]
        self.groups: dict[str, list[tuple[str, str]]] = {}
        for tensor in graph.tensors:
            if not is_bias(tensor.slot):
                of = (field_name(tensor.slot, tensor.field), _MODULE[tensor.field])
                self.groups.setdefault(slot_name(tensor.slot), []).append(of)

    def __iter__(self) -> Iterator[str]:
        yield from self.tensors
        yield from self.groups


@dataclass(frozen=True)
class _Line:
    """A line of a map."""

    key: str
    value: Any
    number: int
    file: str

    def error(self, problem: str) -> WeightsError:
        return WeightsError(f"{self.file}, line {self.number}: {problem}")

    @property
    def is_pattern(self) -> bool:
        return "{" in self.key

    def placements(self, names: _Names) -> Iterator[tuple[str, Placement]]:
        """Yield what the line places, with the name that it matched."""
        if not isinstance(self.value, str):
            raise self.error(
                f"{self.key} is {self.value!r}; expected a name of the model's, `conv1.weight`"
            )
        left = self._cut(self.key)
        if left["axes"]:
            raise self.error("permute stands at the right, after the model's name")
        part = self._index(left["index"])
        matched = False
        for name, numbers in self._matches(left["name"].strip(), names):
            matched = True
            right = self._cut(self._filled(self.value, numbers))
            own, index = right["name"].strip(), self._index(right["index"])
            axes = self._axes(right["axes"])
            if name in names.groups and name not in names.tensors:
                if part or index or axes:
                    raise self.error(f"{name} is a group of tensors: slice each by its own name")
                for tensor, of_module in names.groups[name]:
                    yield name, Placement(tensor, f"{own}.{of_module}", line=self.number)
            else:
                yield name, Placement(name, own, part, index, axes, self.number)
        if not matched:
            close = get_close_matches(left["name"], names, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise self.error(f"the network has no tensor {left['name']}{hint}")

    def _matches(self, key: str, names: _Names) -> Iterator[tuple[str, dict[str, int]]]:
        if not self.is_pattern:
            if key in names.tensors or key in names.groups:
                yield key, {}
            return
        pieces = _VARIABLE.split(key)
        pattern, seen = "", set()
        for at, piece in enumerate(pieces):
            if at % 2 == 0:
                pattern += re.escape(piece)
            elif not _NAME.fullmatch(piece):
                raise self.error(f"{{{piece}}}: at the left, braces hold a name, such as {{b}}")
            else:
                pattern += f"(?P={piece})" if piece in seen else rf"(?P<{piece}>\d+)"
                seen.add(piece)
        for name in names:
            if found := re.fullmatch(pattern, name):
                yield name, {key: int(text) for key, text in found.groupdict().items()}

    def _filled(self, text: str, numbers: Mapping[str, int]) -> str:
        return _VARIABLE.sub(lambda found: str(self._number(found[1], numbers)), text)

    def _number(self, text: str, numbers: Mapping[str, int]) -> int:
        try:
            return _computed(ast.parse(text.strip(), mode="eval").body, numbers)
        except (SyntaxError, ValueError):
            known = ", ".join(numbers) or "none"
            raise self.error(
                f"{{{text}}} is no number: braces hold sums and products of whole numbers and of "
                f"the names at the left ({known})"
            ) from None

    def _cut(self, text: str) -> dict[str, str]:
        found = _PLACE.match(text.strip())
        if found is None:
            raise self.error(f"{text!r}: expected a name, name[slices] or name.permute(axes)")
        return {key: each or "" for key, each in found.groupdict().items()}

    def _index(self, text: str) -> Index:
        if not text:
            return ()
        index = tuple(_one_index(each.strip()) for each in text.split(","))
        if any(each is Ellipsis for each in index):
            raise self.error(f"[{text}]: expected slices, numbers or None: [:, 0:64]")
        return index  # type: ignore[return-value]  # no ellipsis is left

    def _axes(self, text: str) -> tuple[int, ...] | None:
        if not text:
            return None
        try:
            return tuple(int(each) for each in text.split(",") if each.strip())
        except ValueError:
            raise self.error(f"permute({text}): expected axes, permute(1, 0)") from None


def _one_index(text: str) -> object:
    """A slice, a number or None; an ellipsis for anything else."""
    if text == "None":
        return None
    try:
        if ":" not in text:
            return int(text)
        ends = [int(each) if each.strip() else None for each in text.split(":")]
    except ValueError:
        return Ellipsis
    return slice(*ends) if len(ends) <= 3 else Ellipsis


def _computed(node: ast.expr, numbers: Mapping[str, int]) -> int:
    """The value of sums, differences and products of whole numbers and names.

    Raises:
        ValueError: it is anything else.
    """
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name) if name in numbers:
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _computed(left, numbers), _computed(right, numbers)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
    raise ValueError


def _placements(lines: list[_Line], names: _Names) -> list[Placement]:
    """What all lines place; a line without braces goes before one with them."""
    chosen: dict[str, tuple[_Line, list[Placement]]] = {}
    for line in sorted(lines, key=lambda each: each.is_pattern):
        for _, placement in line.placements(names):
            owner, placed = chosen.setdefault(placement.canonical, (line, []))
            if owner is line or (placement.part and placed[0].part and not line.is_pattern):
                placed.append(placement)
            elif owner.is_pattern == line.is_pattern:
                raise line.error(
                    f"{placement.canonical} is placed by line {owner.number} already; remove one"
                )
    return [each for _, placed in chosen.values() for each in placed]
