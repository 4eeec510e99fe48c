"""Pictures of a network: which scene, in which format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate

from cliquegraph.analysis.cost import network_cost
from cliquegraph.draw.compare import compared
from cliquegraph.draw.dot import draw, laid_out, to_dot
from cliquegraph.draw.loop import loop_scene
from cliquegraph.draw.network import network_scene
from cliquegraph.draw.scene import Scene, stacked, titled
from cliquegraph.draw.steps import steps_scene
from cliquegraph.errors import UsageError
from cliquegraph.lower import lower
from cliquegraph.steps.graph import BlockSteps, Step, StepGraph

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
    if request.view not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)}, not {request.view!r}")
    if request.view == "network":
        if request.block is not None or request.stage is not None:
            raise UsageError("--block and --stage are for the views loop and steps")
        graph = lower(steps)
        return network_scene(steps, graph, network_cost(graph))
    blocks = steps.blocks if request.block is None else (steps.block(request.block),)
    stages = {step.stage for block in blocks for step in block.steps}
    if request.stage is not None and request.stage not in stages:
        raise UsageError(f"there is no stage {request.stage}; there are {_listed(stages)}")
    if request.stage is not None:  # blocks may have fewer stages than others
        blocks = tuple(b for b in blocks if any(s.stage == request.stage for s in b.steps))
    name = steps.network.name
    scenes = [_block_scene(block, request, name) for block in blocks]
    return scenes[0] if len(scenes) == 1 else stacked(scenes, request.view)


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
        raise UsageError(f"a picture is {', '.join(FORMATS)}, not {suffix!r}")
    if suffix == "html":
        from cliquegraph.draw.page import page

        if other is not None:
            raise UsageError("a comparison is no page: draw it as svg, png, pdf, dot or json")
        if request != Request():
            raise UsageError("a page holds every view, block and stage: leave out the options")
        return page(steps)
    scene = scene_of(steps, request)
    if other is not None:
        scene = compared(scene, scene_of(other, request))
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


def _block_scene(block: BlockSteps, request: Request, name: str) -> Scene:
    spec, stage = block.spec, request.stage
    only = "" if stage is None else f", stage {stage}"
    title = f"{name}, block {block.index}: {spec.kind}, {spec.layers} layers × {spec.filters}{only}"
    if request.view == "loop":
        return loop_scene(block, stage, title)
    shown, note = shown_steps(block, stage)
    return steps_scene(block, shown, title + note)


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
