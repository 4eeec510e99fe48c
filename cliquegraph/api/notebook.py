"""What notebooks show of networks and step graphs; see ``plugins/notebook.py``."""

from __future__ import annotations

from cliquegraph.api.render import render
from cliquegraph.api.summary import summary
from cliquegraph.diagnostics.errors import CliqueGraphError
from cliquegraph.plugins.notebook import Html
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.graph import StepGraph


def network_html(network: NetworkSpec) -> Html:
    """Return the summary of a network as HTML; None for one that can't be lowered."""
    try:
        return summary(network)._repr_html_()
    except CliqueGraphError:
        return None


def steps_svg(steps: StepGraph) -> Html:
    """Return the loops of a step graph as SVG; None if they can't be drawn here."""
    try:
        return render(steps).svg
    except CliqueGraphError:  # a missing library, or a block that is too large
        return None
