"""The description for PyPI: the README, without links to files, which would lead nowhere there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_IMAGE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)]*)\)")


class Readme(MetadataHookInterface):
    """Sets ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the README; its links follow ``Source`` of ``project.urls`` once there is one."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, source and f"{source}/blob/v{metadata['version']}"),
        }


def absolute(text: str, base: str | None) -> str:
    """Return a README with absolute links; without a base, with their text alone.

    Args:
        text: Markdown.
        base: the URL of the project's files on the web, if they are there.
    """
    if base is None:
        return _LINK.sub(r"\1", _IMAGE.sub("", text))
    return _LINK.sub(rf"[\1]({base}/\2)", text)
