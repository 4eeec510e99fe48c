"""How networks show themselves in a notebook.

Summaries and drawings are made by layers above the classes that they show, which therefore can't
import them; ``notebook`` finds them by name, as plugins are found.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

Html: TypeAlias = "str | None"
"""None: the notebook falls back to ``repr``."""


class Notebook(Protocol):
    """The functions of ``cliquegraph.api.notebook``."""

    def network_html(self, network: Any) -> Html:
        """Return the summary of a network as an HTML table."""

    def steps_svg(self, steps: Any) -> Html:
        """Return the drawing of a step graph; None without the drawing libraries."""


def notebook() -> Notebook:
    """Return the functions that notebooks need."""
    return cast(Notebook, import_module("cliquegraph.api.notebook"))
