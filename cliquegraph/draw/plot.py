"""Matplotlib plots, as a picture or as a page with the picture and its values."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.draw.needs import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = ("svg", "png", "html")

_STYLE: Any = {"svg.hashsalt": "cliquegraph", "svg.fonttype": "path"}


def plot(
    suffix: str,
    kind: str,
    template: str,
    make_figure: Callable[[], Figure],
    *,
    font_size: float = 8,
    **page: Any,
) -> bytes:
    """Return a plot.

    Args:
        suffix: ``svg``, ``png`` or ``html``.
        kind: a description of the picture for messages, such as "a heat map is".
        template: the template of the page.
        make_figure: creates the figure, in our style.
        font_size: in points.
        page: the template's variables besides ``picture``, an SVG.

    Raises:
        UsageError: another suffix, or Matplotlib is not installed.
    """
    if suffix not in SUFFIXES:
        raise UsageError(f"{kind} .{', .'.join(SUFFIXES)}, not {suffix!r}")
    mpl = need("matplotlib")
    with mpl.rc_context({**_STYLE, "font.size": font_size}):
        figure = make_figure()
        if suffix == "png":
            return _save(figure, format="png", dpi=150)
        # No date, so that equal values give equal bytes.
        picture = _save(figure, format="svg", metadata={"Date": None})
    return picture if suffix == "svg" else _page(template, picture.decode(), page).encode()


def _save(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight", **options)
    return buffer.getvalue()


def _page(template: str, picture: str, page: dict[str, Any]) -> str:
    import jinja2

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("cliquegraph.draw"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        keep_trailing_newline=True,
    )
    # Without the XML declaration.
    return pages.get_template(template).render(picture=picture[picture.index("<svg") :], **page)
