"""Pictures of a network: which scene, in which format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from cliquegraph.analysis.cost import network_cost
from cliquegraph.draw.compare import alone, compared, explained, merged
from cliquegraph.draw.dot import draw, laid_out, to_dot
from cliquegraph.draw.loop import loop_scene
from cliquegraph.draw.network import network_scene
from cliquegraph.draw.scene import Change, Scene, stacked, titled
from cliquegraph.draw.steps import steps_scene
from cliquegraph.errors import UsageError
from cliquegraph.lower import lower
from cliquegraph.steps.graph import BlockSteps, Feature, Step, StepGraph

VIEWS = ("loop", "steps", "network")
FORMATS = ("svg", "png", "pdf", "dot", "json", "html")

MAX_USES = 6000
"""Uses of kernels that one picture of steps shows: more is neither drawn fast nor read."""


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        view: one of ``VIEWS``.
        block: one block, from 1; None for all.
        stage: only this stage of the schedule; None for all.
    """

    view: str = "loop"
    block: int | None = None
    stage: int | None = None


def scene_of(steps: StepGraph, request: Request) -> Scene:
    """Return the picture of a network.

    Raises:
        UsageError: there is no such view, block or stage, or it would be too large.
    """
    _require_view(request)
    if request.view == "network":
        return _network_scene(steps)
    name = steps.network.name
    return _stack([_block_scene(each, request, name) for each in _blocks(steps, request)], request)


def comparison(left: StepGraph, right: StepGraph, request: Request) -> Scene:
    """Return the picture of a network with its differences from another one marked.

    Blocks are compared one by one, each pair in one frame: a circle that has the layers of
    both, columns for the steps of both.

    Raises:
        UsageError: as ``scene_of``, for either network.
    """
    _require_view(request)
    if request.view == "network":
        return explained(compared(_network_scene(left), _network_scene(right)))
    before = {block.index: block for block in _blocks(left, request)}
    after = {block.index: block for block in _blocks(right, request)}
    names = left.network.name, right.network.name
    scenes = []
    for index in sorted(before.keys() | after.keys()):
        if index in before and index in after:
            pair = before[index], after[index]
            circle = merged(*(block.order for block in pair))
            columns = merged(
                *([s.writes for s in shown_steps(block, request.stage)[0]] for block in pair)
            )
            one, two = (
                _block_scene(block, request, name, circle, columns)
                for block, name in zip(pair, names, strict=True)
            )
            scenes.append(compared(one, two))
        elif index in after:
            scenes.append(alone(_block_scene(after[index], request, names[1]), Change.ADDED))
        else:
            scenes.append(alone(_block_scene(before[index], request, names[0]), Change.REMOVED))
    return explained(_stack(scenes, request))


def _require_view(request: Request) -> None:
    if request.view not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)}, not {request.view!r}")
    if request.view == "network" and (request.block, request.stage) != (None, None):
        raise UsageError("--block and --stage are for the views loop and steps")


def _network_scene(steps: StepGraph) -> Scene:
    graph = lower(steps)
    return network_scene(steps, graph, network_cost(graph))


def _stack(scenes: list[Scene], request: Request) -> Scene:
    return scenes[0] if len(scenes) == 1 else stacked(scenes, request.view)


def _blocks(steps: StepGraph, request: Request) -> tuple[BlockSteps, ...]:
    """The blocks that are drawn."""
    blocks = steps.blocks if request.block is None else (steps.block(request.block),)
    stages = {step.stage for block in blocks for step in block.steps}
    if request.stage is not None and request.stage not in stages:
        raise UsageError(f"there is no stage {request.stage}; there are {_listed(stages)}")
    if request.stage is not None:  # blocks may have fewer stages than others
        blocks = tuple(b for b in blocks if any(s.stage == request.stage for s in b.steps))
    return blocks


def render(
    steps: StepGraph, request: Request, suffix: str, other: StepGraph | None = None
) -> bytes:
    """Return a picture of a network, the same bytes every time.

    Args:
        steps: the network.
        request: what to draw of it.
        suffix: one of ``FORMATS``.
        other: a network to compare it with: what it has more, less or else is marked.

    Raises:
        UsageError: there is no such view, block, stage or format, or what draws is missing.
    """
    if suffix not in FORMATS:
        kinds = f"a picture is {', '.join(FORMATS)}"
        raise UsageError(
            f"{kinds}, not {suffix!r}" if suffix else f"{kinds}: the file's suffix or --format says"
        )
    if suffix == "html":
        from cliquegraph.draw.page import page

        if other is not None:
            raise UsageError("a comparison is no page: draw it as svg, png, pdf, dot or json")
        if request != Request():
            raise UsageError("a page holds every view, block and stage: leave out the options")
        return page(steps)
    scene = scene_of(steps, request) if other is None else comparison(steps, other, request)
    if suffix == "json":
        return (json.dumps(to_json(scene), indent=1, ensure_ascii=False) + "\n").encode()
    placed = titled(laid_out(scene))
    return to_dot(placed).encode() if suffix == "dot" else draw(placed, suffix)


def to_json(scene: Scene) -> dict[str, object]:
    """Return a scene as data: what there is, and what it is called, without places."""

    def change(what: str | None) -> dict[str, str]:
        return {"change": what} if what else {}

    return {
        "name": scene.name,
        "title": scene.title,
        "nodes": [
            {
                "id": shape.key,
                "kind": shape.look.value,
                "label": shape.label,
                **({"colour": shape.colour} if shape.colour else {}),
                **shape.data,
                **change(shape.change),
            }
            for shape in scene.shapes
        ],
        "edges": [
            {
                "id": arrow.key,
                "kind": arrow.stroke.value,
                "from": arrow.tail,
                "to": arrow.head,
                **({"colour": arrow.colour} if arrow.colour else {}),
                **arrow.data,
                **change(arrow.change),
            }
            for arrow in scene.arrows
        ],
    }


def _block_scene(
    block: BlockSteps,
    request: Request,
    name: str,
    circle: Sequence[int] | None = None,
    columns: Sequence[Feature] | None = None,
) -> Scene:
    spec, stage = block.spec, request.stage
    only = "" if stage is None else f", stage {stage}"
    title = f"{name}, block {block.index}: {spec.kind}, {spec.layers} layers × {spec.filters}{only}"
    if request.view == "loop":
        return loop_scene(block, stage, title, circle)
    shown, note = shown_steps(block, stage)
    return steps_scene(block, shown, title + note, columns)


def shown_steps(block: BlockSteps, stage: int | None = None) -> tuple[list[Step], str]:
    """Return the steps of a stage, and no more than a picture shows.

    The second value says what was left out: whoever looks at the picture must know.
    """
    steps = [step for step in block.steps if stage in (None, step.stage)]
    count = sum(1 for uses in accumulate(len(step.reads) for step in steps) if uses <= MAX_USES)
    note = f"; the first {count} of {len(steps)} steps" if count < len(steps) else ""
    return steps[:count], note


def _listed(stages: set[int]) -> str:
    return ", ".join(map(str, sorted(stages)))
