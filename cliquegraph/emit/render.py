"""The Jinja environment of every backend: templates substitute, Python decides."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Return the environment for the ``templates`` folder of a backend's package."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=False,  # noqa: S701  # Python source, not HTML; what enters it is checked
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
