"""A hook for MkDocs: writes the command line and the keys of specs into their pages.

A page has ``<!-- generated: NAME -->`` where the text belongs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from cliquegraph.cli import app

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "specs" / "cliquegraph.schema.json"

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_COMMANDS = re.compile(
    r"^\*\*Commands\*\*:\n\n(\* .*\n)+\n?", re.MULTILINE
)  # the table of contents
_EXAMPLE = re.compile(r"^(cliquegraph .+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page."""
    return _MARKER.sub(lambda marker: GENERATORS[marker[1]](), markdown)


def command_line() -> str:
    """Return the help of every command, as Markdown."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="cliquegraph")
    text = get_docs_for_click(obj=command, ctx=context, name="cliquegraph")
    _title, body = text.split("\n", 1)
    return _EXAMPLE.sub(r"```sh\n\1\n```", _COMMANDS.sub("", body))


def spec_keys() -> str:
    """Return a table of keys for each section of the JSON Schema."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    sections = {"Top level": schema, **schema["$defs"]}
    return "\n".join(line for name, each in sections.items() for line in _section(name, each))


def _section(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {_title(name)} {{ #{_anchor(name)} }}\n"
    if "description" in schema:
        yield f"{_cell(schema['description'])}\n"
    if "properties" not in schema:
        yield f"{_type(schema)}\n"
        return
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    required = schema.get("required", ())
    for key, each in schema["properties"].items():
        default = "required" if key in required else _default(each)
        yield f"| `{key}` | {_type(each)} | {default} | {_cell(each.get('description', ''))} |"
    yield ""


def _type(schema: dict[str, Any]) -> str:
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            types = [_type(each) for each in schema[choice] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(types))
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{_title(name)}](#{_anchor(name)})"
    if "const" in schema:
        return _value(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_value, schema["enum"]))
    match schema.get("type"):
        case "array":
            items = schema.get("items") or {}
            entries = schema.get("prefixItems", ())
            inner = ", ".join(map(_type, entries)) or (_type(items) if items else "")
            return f"list of {inner}" if inner else "list"
        case "object":
            values = schema.get("additionalProperties")
            return f"mapping to {_type(values)}" if isinstance(values, dict) else "mapping"
        case "string":
            return f"string `{_code(schema['pattern'])}`" if "pattern" in schema else "string"
        case "integer" | "number" as kind:
            odd = "odd " if schema.get("not") == {"multipleOf": 2} else ""
            return f"{odd}{kind}{_bounds(schema)}"
        case kind:
            return str(kind or "any value")


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f", {', '.join(bounds)}" if bounds else ""


def _default(schema: dict[str, Any]) -> str:
    return _value(schema["default"]) if schema.get("default") is not None else ""


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{_code(text)}`"


def _code(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _title(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return words[0] + words[1:].lower()


def _anchor(name: str) -> str:
    return _title(name).lower().replace(" ", "-")


GENERATORS: dict[str, Callable[[], str]] = {"commands": command_line, "keys": spec_keys}
