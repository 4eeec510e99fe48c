"""The specs that come with cliquegraph, found by name: ``cliquenet_s3``, ``quickstart``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.spec.network import NAME_PATTERN

PAPER = "https://arxiv.org/abs/1802.10419"
"""CliqueNet, the paper that comments of specs call *the paper*."""
SCHEMA = "cliquegraph.schema.json"
"""The JSON Schema beside the specs, which the first line of each names for editors."""

_PACKAGE = Path(__file__).resolve().parents[1]
_URL = re.compile(r",?\s*(https?://[^\s,)]+)")
_OURS = "Not a network of"
_NAME = re.compile(r"^(?P<key>name: *)(?P<value>\S+)(?P<space> *)(?P<comment>.*)$", re.MULTILINE)
_CLASS = re.compile(_NAME.pattern.replace("name:", "class_name:", 1), re.MULTILINE)
_MODELINE = "# yaml-language-server:"


@dataclass(frozen=True)
class Shipped:
    """A shipped spec.

    Attributes:
        name: its name, also that of the network.
        path: its file.
    """

    name: str
    path: Path

    @property
    def text(self) -> str:
        """The text of its file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def description(self) -> str:
        """The first sentence of the comment at its top, without URLs."""
        sentence = _URL.sub("", _first_sentence(self._comment))
        return f"{sentence}; not a network of a paper" if _OURS in self._comment else sentence

    @property
    def source(self) -> str | None:
        """The URL of the publication that the comment names; None if it names none."""
        if found := _URL.search(self._comment):
            return found[1]
        return PAPER if "the paper" in self._comment else None

    @property
    def _comment(self) -> str:
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            if not line.startswith(_MODELINE):
                lines.append(line.removeprefix("#").strip())
        return " ".join(lines)


def shipped_folder() -> Path:
    """Return the folder of the shipped specs: of a checkout, else inside the installed package."""
    checkout = _PACKAGE.parent
    inside = (checkout / "pyproject.toml").is_file()
    return checkout / "specs" if inside else _PACKAGE / "specs"


@cache
def shipped() -> dict[str, Shipped]:
    """Return the shipped specs by name, in alphabetical order."""
    paths = sorted(shipped_folder().glob("*.yaml"))
    return {path.stem: Shipped(path.stem, path) for path in paths}


def find_shipped(name: str) -> Shipped:
    """Return a shipped spec by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in shipped():
        close = get_close_matches(name, shipped(), n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(
            f"no shipped spec is called {name!r}: {meant}`cliquegraph specs` lists all"
        )
    return shipped()[name]


def renamed(text: str, stem: str) -> str:
    """Return the text of a spec with the name of its network, and the class, made from a file's.

    Everything else stays, comments too.

    >>> renamed("name: quickstart  # in quickstart.py\\nclass_name: Quickstart\\n", "my-net")
    'name: my_net      # in my_net.py\\nclass_name: MyNet\\n'

    Raises:
        UsageError: no name can be made from it.
    """
    name = re.sub(r"\W+", "_", stem.lower(), flags=re.ASCII).strip("_")
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"{stem!r} can't name a network: choose a file name that starts with a letter"
        )
    python_class = "".join(part.capitalize() for part in name.split("_"))
    text = _NAME.sub(partial(_with_value, name), text, count=1)
    return _CLASS.sub(partial(_with_value, python_class), text, count=1)


def _with_value(value: str, line: re.Match[str]) -> str:
    """The line of a key with another value; its comment stays in its column if there is room."""
    old, comment = line["value"], line["comment"].replace(line["value"], value)
    space = " " * max(len(old) + len(line["space"]) - len(value), 2) if comment else ""
    return f"{line['key']}{value}{space}{comment}"


def hint_for(path: str) -> str | None:
    """Return how to name the shipped spec that a missing file may stand for, if there is one."""
    place = Path(path)
    if place.stem in shipped() and place.name != place.stem:
        return f"{place.stem} is shipped with cliquegraph: name it without folder and suffix"
    if place.name != path or place.suffix:
        return None
    close = get_close_matches(path, shipped(), n=1)
    return f"did you mean the shipped spec {close[0]!r}?" if close else None


def _first_sentence(text: str) -> str:
    """The text up to the first period outside parentheses that ends a sentence."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "." and not depth and text[index + 1 : index + 2] in ("", " "):
            return text[:index]
    return text
