"""A page with the network, and each block as a loop and as an animation of its steps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from math import prod
from pathlib import Path
from typing import Any

import jinja2

from cliquegraph.analysis.cost import network_cost
from cliquegraph.blocks.phrases import stage_numeral
from cliquegraph.diagnostics.location import printable
from cliquegraph.draw.data import to_json
from cliquegraph.draw.dot import draw, lay_out
from cliquegraph.draw.loop import loop_scene
from cliquegraph.draw.network import network_scene
from cliquegraph.draw.scene import Scene
from cliquegraph.draw.steps import shown_steps, steps_scene
from cliquegraph.draw.strip import LEVEL, strips
from cliquegraph.emit.words import engineering
from cliquegraph.ir.edges import edge_kernels, kernel_shape, spatial_kernels
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.types import MapType, Part, Section
from cliquegraph.lowering.lower import lower
from cliquegraph.passes.pipeline import optimise
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, StepGraph


@dataclass(frozen=True)
class Start:
    """Where a page opens.

    Attributes:
        view: the picture to scroll to, ``loop`` or ``steps``.
        block: the block to show.
        step: the step at which the slider stands, from 1; 0: all.
    """

    view: str
    block: int
    step: int = 0


def page(steps: StepGraph, start: Start | None = None) -> bytes:
    """Return a network as one self-contained HTML file.

    Args:
        steps: the network.
        start: where the page opens; None: at its top, with the first block.

    Raises:
        UsageError: a drawing library is not installed.
    """
    graph = lower(steps)
    cost = network_cost(graph)
    optimised = optimise(graph, LEVEL)
    blocks = [_block(block, graph, optimised, steps) for block in steps.blocks]
    whole = network_scene(steps, graph, cost)
    sections = {
        str(section): {
            "parameters": figures.parameters,
            "macs": figures.macs,
            "line": _line(steps, section),
        }
        for section, figures in cost.sections.items()
    }
    data = {
        "name": steps.network.name,
        "network": to_json(whole),
        "sections": sections,
        "blocks": [block["data"] for block in blocks],
        **({} if start is None else {"start": asdict(start)}),
    }
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("cliquegraph.draw"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return (
        pages.get_template("page.html.jinja")
        .render(
            name=steps.network.name,
            parameters=f"{cost.total.parameters:,}",
            macs=engineering(cost.total.macs),
            network=_svg(whole, f"The network {steps.network.name}"),
            blocks=blocks,
            shown=1 if start is None else start.block,
            data=_embedded(data),
        )
        .encode()
    )


def _block(block: BlockSteps, graph: Graph, optimised: Graph, steps: StepGraph) -> dict[str, Any]:
    shown, note = shown_steps(block)
    slabs = strips(block, optimised)
    loop, unrolled = loop_scene(block), steps_scene(block)
    words, layers = block.declared.words, len(block.declared.layers)
    data = {
        "index": block.index,
        "line": _line(steps, Section(Part.BLOCK, block.index)),
        "rows": [{**step.as_row(), "numeral": stage_numeral(step.stage)} for step in shown],
        "features": _features(block, graph),
        "kernels": _kernels(block, graph),
        "spatial": _spatial(block, graph),
        "loop": to_json(loop),
        "steps": to_json(unrolled),
        "slabs": [slab.as_data() for slab in slabs],
    }
    return {
        "index": block.index,
        "title": f"Block {block.index}: {words.kind}, {words.size}",
        "note": note,
        "count": len(shown),
        "loop": _svg(loop, f"Block {block.index} as a loop of {layers} layers"),
        "steps": _svg(unrolled, f"Block {block.index} as {len(shown)} steps"),
        "slabs": slabs,
        "level": LEVEL,
        "data": data,
    }


def _features(block: BlockSteps, graph: Graph) -> dict[str, str]:
    """The shape of each feature of a block; X0 is the input of its first step."""
    section = Section(Part.BLOCK, block.index)
    nodes = [node for node in graph.nodes if node.origin.section == section]
    written = {
        Feature(block.index, node.origin.layer, node.origin.stage): node.output
        for node in nodes
        if node.origin.layer is not None and node.origin.stage is not None
    }
    shapes = {"X0": nodes[0].inputs[0].type}
    shapes |= {str(step.writes): written[step.writes].type for step in block.steps}
    return {
        name: f"{maps.channels}×{maps.height}×{maps.width}"
        for name, maps in shapes.items()
        if isinstance(maps, MapType)
    }


def _kernels(block: BlockSteps, graph: Graph) -> dict[str, dict[str, object]]:
    """The page's facts about each kernel W(i→j)."""
    shapes = _kernel_shapes(block, graph)
    facts: dict[str, dict[str, object]] = {}
    for edge, stages in block.edges.items():
        shape = shapes[edge]
        facts[str(edge)] = {
            "source": edge.source,
            "target": edge.target,
            **_figures(shape, stages),
            "uses": [str(step.writes) for step in block.steps if edge in step.weights],
        }
    return facts


def _spatial(block: BlockSteps, graph: Graph) -> dict[str, dict[str, object]]:
    """The page's facts about each kernel V(j), by layer; empty without a bottleneck."""
    return {
        str(layer): _figures(tensor.shape, [s.stage for s in block.steps if s.layer == layer])
        for layer, tensor in spatial_kernels(graph).get(block.index, {}).items()
    }


def _figures(shape: Sequence[int], stages: Iterable[int]) -> dict[str, object]:
    """A kernel's shape (OIHW), size, and the stages that use it."""
    return {
        "shape": "×".join(map(str, shape)),
        "parameters": prod(shape),
        "stages": [stage_numeral(stage) for stage in sorted(set(stages))],
    }


def _kernel_shapes(block: BlockSteps, graph: Graph) -> dict[Edge, tuple[int, ...]]:
    """The shape of each kernel W(i→j), OIHW."""
    kernels = edge_kernels(graph).get(block.index, {})  # none if values are read directly
    return {Edge(block.index, *pair): kernel_shape(kernels[pair]) for pair in kernels}


def _line(steps: StepGraph, section: Section) -> str | None:
    """The location of a section in the spec, without the folder, which depends on the machine."""
    keys: dict[Part, tuple[str | int, ...]] = {
        Part.STEM: ("stem",),
        Part.BLOCK: ("blocks", section.index - 1),
        Part.TRANSITION: ("transition",),
        Part.READOUT: ("readout",),
        Part.CLASSIFIER: ("classifier",),
    }
    place = steps.network.locate(*keys[section.part])
    return None if place is None else f"{printable(Path(place.file).name)}:{place.line}"


def _svg(scene: Scene, label: str) -> str:
    """A scene as an SVG element of the page, whose items can be focused one by one.

    Titles are removed, since browsers would show them as tooltips.
    """
    picture = draw(lay_out(scene), "svg").decode()
    inside = re.sub(r"<title>.*?</title>\n|<!--.*?-->\n", "", picture.partition("<svg")[2])
    named = f'role="graphics-document document" aria-label="{escape(label)}"'
    return f"<svg {named}{inside}"


def _embedded(data: object) -> str:
    """JSON escaped so that it can't end its script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
