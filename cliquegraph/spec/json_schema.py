"""The JSON Schema of a spec file, by which editors complete and check it.

It differs from the schema of ``NetworkSpec`` where a file may say less than the model holds:
``block_defaults`` may give a block any of its keys, and ``training`` may be a name alone.
"""

from __future__ import annotations

from typing import Any

from cliquegraph.spec.network import NetworkSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a spec file."""
    schema: dict[str, Any] = _tidy(NetworkSpec.model_json_schema())
    definitions = schema.pop("$defs")
    kinds = schema["properties"]["blocks"]["items"]["discriminator"]["mapping"]
    for reference in kinds.values():
        del definitions[reference.rpartition("/")[2]]["required"]
    block = {"anyOf": [{"$ref": reference} for reference in kinds.values()]}

    properties: dict[str, Any] = {}
    for key, value in schema["properties"].items():
        if key == "blocks":
            properties["block_defaults"] = {**block, "description": "what the blocks share"}
        # What an absent section means is said by the defaults of its keys.
        properties[key] = {k: v for k, v in value.items() if k != "default" or "$ref" not in value}
    properties["blocks"]["items"] = block
    recipes = {"enum": definitions["Training"]["properties"]["recipe"]["enum"]}
    properties["training"]["anyOf"].insert(0, recipes)
    return {
        "$schema": DIALECT,
        "title": "cliquegraph spec",
        "description": "A network for cliquegraph to compile.",
        "type": "object",
        "properties": properties,
        "required": schema["required"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _tidy(node: Any) -> Any:
    """Drop what pydantic adds and a reader does not need: titles made of names, null defaults."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _tidy(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
