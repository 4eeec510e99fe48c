"""Rendering of a network: choice of the scene and the format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cliquegraph.analysis.cost import network_cost
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.draw.compare import alone, compared, explained
from cliquegraph.draw.data import to_json
from cliquegraph.draw.dot import can_lay_out, draw, lay_out, to_dot
from cliquegraph.draw.loop import loop_scene
from cliquegraph.draw.network import network_scene
from cliquegraph.draw.page import Start, page
from cliquegraph.draw.scene import Change, Scene, stacked, titled
from cliquegraph.draw.steps import shown_steps, steps_scene
from cliquegraph.lowering.lower import lower
from cliquegraph.steps.graph import BlockSteps, StepGraph

VIEWS = ("loop", "steps", "network")
FORMATS = ("svg", "png", "pdf", "dot", "json", "html")

Row = tuple[BlockSteps | None, ...]
"""The blocks with one index, one for each network."""


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        view: one of ``VIEWS``.
        block: one block, from 1; None for all.
        stage: one stage of the schedule; None for all.
    """

    view: str = "loop"
    block: int | None = None
    stage: int | None = None


def scene_of(steps: StepGraph, request: Request) -> Scene:
    """Return the scene of a network.

    Raises:
        UsageError: there is no such view, block or stage, or the scene would be too large.
    """
    _require_view(request)
    if request.view == "network":
        return _network_scene(steps)
    name = steps.network.name
    rows = _rows((steps,), request)
    scenes = [_block_scene(block, request, _name(rows, name)) for (block,) in rows if block]
    return _stack(scenes, request, name)


def comparison(left: StepGraph, right: StepGraph, request: Request) -> Scene:
    """Return the scene of a network with its differences from another one marked.

    Blocks are compared one by one, each pair in a shared frame: a circle with the layers of both,
    columns for the steps of both. A block or stage that only one network has is marked as added or
    removed.

    Raises:
        UsageError: there is no such view, or neither network has such a block or stage.
    """
    _require_view(request)
    if request.view == "network":
        return explained(compared(_network_scene(left), _network_scene(right)))
    rows = _rows((left, right), request)
    names = [_name(rows, steps.network.name) for steps in (left, right)]
    scenes = []
    for before, after in rows:
        if before and after:
            pair = before, after
            drawn = [
                _block_scene(block, request, name, pair)
                for block, name in zip(pair, names, strict=True)
            ]
            scenes.append(compared(*drawn))
        elif after:
            scenes.append(alone(_block_scene(after, request, names[1]), Change.ADDED))
        elif before:
            scenes.append(alone(_block_scene(before, request, names[0]), Change.REMOVED))
    title = " → ".join(dict.fromkeys((left.network.name, right.network.name)))
    return explained(_stack(scenes, request, title))


def _require_view(request: Request) -> None:
    if request.view not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)}, not {request.view!r}")
    if request.view == "network" and (request.block, request.stage) != (None, None):
        raise UsageError("--block and --stage are for the views loop and steps")


def _network_scene(steps: StepGraph) -> Scene:
    graph = lower(steps)
    return network_scene(steps, graph, network_cost(graph))


def _stack(scenes: list[Scene], request: Request, title: str) -> Scene:
    return scenes[0] if len(scenes) == 1 else stacked(scenes, request.view, title)


def _name(rows: list[Row], name: str) -> str:
    """The prefix of a block's title: empty for several, which are below the network's name."""
    return f"{name}, " if len(rows) == 1 else ""


def _rows(networks: Sequence[StepGraph], request: Request) -> list[Row]:
    """The blocks to draw, by index; None if a network has no such block."""
    longest = max(networks, key=lambda steps: len(steps.blocks))
    chosen = longest.blocks if request.block is None else (longest.block(request.block),)
    rows = [
        tuple(next((b for b in steps.blocks if b.index == each.index), None) for steps in networks)
        for each in chosen
    ]
    if request.stage is None:
        return rows
    stages = [{step.stage for block in row if block for step in block.steps} for row in rows]
    if request.stage not in set().union(*stages):
        there = ", ".join(map(str, sorted(set().union(*stages))))
        raise UsageError(f"there is no stage {request.stage}; the stages are {there}")
    # Blocks may have fewer stages than others.
    return [row for row, has in zip(rows, stages, strict=True) if request.stage in has]


def render(
    steps: StepGraph, request: Request, suffix: str, other: StepGraph | None = None
) -> bytes:
    """Return a picture of a network, byte-identical every time.

    Args:
        steps: the network.
        request: what to draw of it.
        suffix: one of ``FORMATS``.
        other: a network to compare it with; additions, removals and changes are marked.

    Raises:
        UsageError: there is no such view, block, stage or format, or a library is missing.
    """
    if suffix not in FORMATS:
        kinds = f"a picture is {', '.join(FORMATS)}"
        raise UsageError(
            f"{kinds}, not {suffix!r}"
            if suffix
            else f"{kinds}: set it by the file's suffix or --format"
        )
    if suffix == "html":
        if other is not None:
            raise UsageError("a comparison can't be a page: draw it as svg, png, pdf, dot or json")
        return page(steps, _start(steps, request))
    scene = scene_of(steps, request) if other is None else comparison(steps, other, request)
    if suffix == "json":
        return (json.dumps(to_json(scene), indent=1, ensure_ascii=False) + "\n").encode()
    if suffix == "dot" and not can_lay_out(scene):  # `dot` will compute the positions
        return to_dot(scene, scene.title).encode()
    placed = titled(lay_out(scene))
    return to_dot(placed).encode() if suffix == "dot" else draw(placed, suffix)


def _start(steps: StepGraph, request: Request) -> Start | None:
    """Where a page opens, which has every view, block and stage; None: at its top."""
    _require_view(request)
    if request in (Request(), Request("network")):
        return None
    # The first that has the stage.
    block = next(block for (block,) in _rows((steps,), request) if block is not None)
    stages = [step.stage for step in shown_steps(block)[0]]
    step = stages.index(request.stage) + 1 if request.stage in stages else 0
    return Start(request.view, block.index, step)


def _block_scene(
    block: BlockSteps, request: Request, name: str, pair: Sequence[BlockSteps] = ()
) -> Scene:
    words, stage = block.declared.words, request.stage
    only = "" if stage is None else f", stage {stage}"
    title = f"{name}block {block.index}: {words.kind}, {words.size.removesuffix(' filters')}{only}"
    title += f"\n{words.note}" if words.note else ""
    draw = loop_scene if request.view == "loop" else steps_scene
    return draw(block, stage, title, pair)
