"""Pictures of networks, for notebooks and files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.spec.load import Declaration
from cliquegraph.steps.graph import StepGraph
from cliquegraph.steps.unroll import unroll

if TYPE_CHECKING:
    from cliquegraph.draw.render import Request


@dataclass(frozen=True, repr=False)
class Picture:
    """A drawing of a network; a notebook shows it.

    Attributes:
        steps: the network, unrolled.
        request: what is drawn of it.
        other: the network with which it is compared, or None.
    """

    steps: StepGraph
    request: Request
    other: StepGraph | None = None

    def __repr__(self) -> str:
        name, view = self.steps.network.name, self.request.view
        return f"<Picture {view} of {name}; save(path) writes it>"

    @cached_property
    def svg(self) -> str:
        """The picture as SVG.

        Raises:
            UsageError: a drawing library is missing.
        """
        return self.to_bytes("svg").decode()

    def _repr_svg_(self) -> str:
        return self.svg

    def to_bytes(self, form: str) -> bytes:
        """Return the picture in a format: svg, png, pdf, dot, json or html (a whole page).

        Raises:
            UsageError: there is no such format, or a drawing library is missing.
        """
        from cliquegraph.draw.render import render

        return render(self.steps, self.request, form, self.other)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file and return its path.

        Args:
            path: FILE.svg, .png, .pdf, .dot, .json or .html.

        Raises:
            UsageError: there is no such format, a drawing library is missing, or the file can't
                be written.
        """
        from cliquegraph.files import write_bytes

        path = Path(path)
        write_bytes(path, [self.to_bytes(path.suffix.removeprefix(".").lower())])
        return path


def render(
    network: Declaration | StepGraph,
    view: str = "loop",
    *,
    block: int | None = None,
    stage: int | None = None,
    other: Declaration | StepGraph | None = None,
) -> Picture:
    """Draw a network.

    Args:
        network: whatever ``load`` takes: a network, a path, a dictionary; or a step graph.
        view: ``loop`` (Figure 1 of the paper), ``steps`` (Table 1) or ``network`` (Figure 2).
        block: only this block, from 1, of the views loop and steps.
        stage: only this stage, from 1, likewise.
        other: a network to compare with the first; its additions, removals and changes are
            marked.

    Raises:
        SpecError: an invalid network.
        UsageError: there is no such view, block or stage, or the picture would be too large.

    >>> import cliquegraph
    >>> cliquegraph.render("specs/quickstart.yaml", "steps", block=1)
    <Picture steps of quickstart; save(path) writes it>
    """
    from cliquegraph.draw.render import VIEWS, Request, comparison, scene_of

    if view not in VIEWS:
        raise UsageError(f"there is no view {view!r}; choose from {', '.join(VIEWS)}")
    if view == "network" and (block, stage) != (None, None):
        raise UsageError("block and stage are for the views loop and steps")
    request = Request(view, block, stage)
    steps = _steps(network)
    compared = None if other is None else _steps(other)
    # Here, and not when it is drawn, errors are raised where they are made.
    _ = scene_of(steps, request) if compared is None else comparison(steps, compared, request)
    return Picture(steps, request, compared)


def _steps(network: Declaration | StepGraph) -> StepGraph:
    return network if isinstance(network, StepGraph) else unroll(network)
