"""DOT, Graphviz's language, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|-?(\.[0-9]+|[0-9]+(\.[0-9]*)?)")
_KEYWORDS = {"node", "edge", "graph", "digraph", "subgraph", "strict"}


def quote(text: str) -> str:
    r"""Return a name or a value, in quotes where DOT needs them; nothing in it is HTML.

    >>> print(quote("x1"), quote("-2.5"), quote("<b>"), quote("node"), quote('say "x"'))
    x1 -2.5 "<b>" "node" "say \"x\""
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    escaped = re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', text)
    return f'"{escaped}"'


def escape(text: str) -> str:
    """Return text in which backslashes mean themselves."""
    return text.replace("\\", "\\\\")


def statement(subject: str, attributes: Mapping[str, str]) -> str:
    """Return a line with the attributes of a node, an edge, or all of them."""
    return f"\t{subject} [{assignments(attributes)}]\n"


def assignments(attributes: Mapping[str, str]) -> str:
    """Return attributes in the order of their names, a label first.

    >>> assignments({"color": "red", "label": "a b"})
    'label="a b" color=red'
    """
    names = sorted(attributes, key=lambda name: (name != "label", name))
    return " ".join(f"{quote(name)}={quote(attributes[name])}" for name in names)
