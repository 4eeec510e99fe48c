"""The JSON Schema of a spec file, for completion and checks in editors.

It differs from the schema of ``NetworkSpec`` where a file may contain less than the model:
``block_defaults`` may supply any key of a block, and ``training`` may be just a name.
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
            properties["block_defaults"] = {**block, "description": "keys that the blocks share"}
        # The defaults of its keys already describe an absent section.
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
    """Drop pydantic's redundant additions: titles derived from names, null defaults."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _tidy(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
