"""Curves over epochs: the learning rate, and error and loss of runs (Figure 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliquegraph.draw.plot import plot
from cliquegraph.training.curves import Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Parts differ in dashes, runs in color and marker, so that color is never the only cue.
_DASHES = {"train": (0, (4, 2)), "validation": (0, (1, 1.5))}
_MARKERS = "os^Dv*Px"

_PAGE = "plot.html.jinja"


def draw_curves(runs: Sequence[Curves], suffix: str) -> bytes:
    """Return error and loss over the epochs, every part of every run.

    Args:
        runs: in the order of the legend.
        suffix: ``svg``, ``png`` or ``html``, a page with the picture and its values.

    Raises:
        UsageError: another suffix, or Matplotlib is not installed.
    """

    def make_figure() -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure = _figure(9.0, 4.2 + 0.12 * len(runs))
        error, loss = figure.subplots(1, 2)
        for number, run in enumerate(runs):
            for part in run.accuracy:
                look: Any = {
                    "color": f"C{number % 10}",
                    "linestyle": _DASHES.get(part, "-"),
                    "marker": _MARKERS[number % len(_MARKERS)],
                    "markersize": 4,
                    "markevery": max(1, len(run.epochs) // 8),
                    "linewidth": 1.2,
                    "label": f"{run.name}, {part}",
                }
                error.plot(run.epochs, [100 * (1 - x) for x in run.accuracy[part]], **look)
                loss.plot(run.epochs, run.loss[part], **look)
        error.set_ylabel("top-1 error, %")
        loss.set_ylabel("cross entropy")
        if any(x > 0 for run in runs for losses in run.loss.values() for x in losses):
            loss.set_yscale("log")
        for axes in (error, loss):
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = error.get_legend_handles_labels()
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure

    head, *rows = _table_of(runs)
    return plot(
        suffix,
        "curves are",
        _PAGE,
        make_figure,
        title="Error and loss",
        head=head,
        rows=rows,
    )


def draw_schedule(title: str, rates: Sequence[float], suffix: str) -> bytes:
    """Return the learning rate of each epoch.

    Raises:
        UsageError: as in ``draw_curves``.
    """

    def make_figure() -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure = _figure(6.0, 3.2)
        axes = figure.subplots()
        axes.step(range(len(rates) + 1), [*rates, rates[-1]], where="post", linewidth=1.5)
        axes.set_title(title, parse_math=False)
        axes.set_xlabel("epoch")
        axes.set_ylabel("learning rate")
        axes.set_yscale("log")
        axes.set_xlim(0, len(rates))
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure

    rows = [[str(epoch), f"{rate:.6g}"] for epoch, rate in enumerate(rates)]
    head = ["epoch", "learning rate"]
    return plot(suffix, "a schedule is", _PAGE, make_figure, title=title, head=head, rows=rows)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _table_of(runs: Sequence[Curves]) -> list[list[str]]:
    rows = [["run", "part", "epoch", "loss", "top-1"]]
    for run in runs:
        for part, accuracies in run.accuracy.items():
            for epoch, loss, accuracy in zip(run.epochs, run.loss[part], accuracies, strict=True):
                rows.append([run.name, part, str(epoch), f"{loss:.6g}", f"{accuracy:.2%}"])
    return rows
