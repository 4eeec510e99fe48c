"""A hook for MkDocs: links from ``docs/`` to other files of the repository.

On GitHub they lead to the file. On the site they lead to the file in ``repo_url``; while the
repository has no public address, only their text remains.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```)$", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Rewrite the links of a page, but not the code in it."""
    parts = _FENCE.split(markdown)
    parts[::2] = [rewrite_links(text, page.file.src_uri, config.repo_url) for text in parts[::2]]
    return "".join(parts)


def rewrite_links(text: str, page: str, repository: str | None) -> str:
    """Return Markdown without relative links that leave ``docs/``.

    Args:
        text: Markdown without code blocks.
        page: the page's path in ``docs/``.
        repository: the repository's URL, if it has one.
    """

    def rewritten(link: re.Match[str]) -> str:
        target = link["target"]
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if re.match(r"[a-z]+:|#|/", target) or path.startswith("docs/"):
            return link[0]
        if repository is None:
            return link["text"]
        return f"[{link['text']}]({repository.rstrip('/')}/blob/main/{path})"

    return _LINK.sub(rewritten, text)
