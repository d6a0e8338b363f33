"""The facts of the `/docs` page, read from the OpenAPI document, so that the two cannot differ."""

from __future__ import annotations

import json
from typing import Any

from .bodies import EXAMPLE

_SHOWN = (
    "ScoreRequest",
    "LeadBody",
    "EventBody",
    "TouchBody",
    "ScoreResponse",
    "ItemNote",
    "Score",
    "Problem",
)


def docs_page(document: dict[str, Any]) -> dict[str, Any]:
    """Operations and schemas, ready to print."""
    schemas = document["components"]["schemas"]
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "description": operation.get("description", ""),
            "parameters": [
                {
                    "name": parameter["name"],
                    "where": parameter["in"],
                    "type": spoken_type(parameter.get("schema", {})),
                    "limits": _limits(parameter.get("schema", {})),
                }
                for parameter in operation.get("parameters", ())
            ],
            "statuses": ", ".join(operation["responses"]),
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [
        {
            "name": name,
            "description": schemas[name].get("description", ""),
            "fields": [
                {
                    "name": key,
                    "type": spoken_type(field),
                    "required": key in schemas[name].get("required", ()),
                    "description": " ".join(filter(None, (field.get("description", ""), _limits(field)))),
                }
                for key, field in schemas[name].get("properties", {}).items()
            ],
        }
        for name in _SHOWN
    ]
    return {
        "operations": operations,
        "shapes": shapes,
        "example": json.dumps(EXAMPLE, indent=2),
        "title": document["info"]["title"],
        "version": document["info"]["version"],
    }


def spoken_type(schema: dict[str, Any]) -> str:
    """`text or null`, `list of LeadBody`, `true/false`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(spoken_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {spoken_type(schema['items'])}" if "items" in schema else "pair"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {spoken_type(schema['additionalProperties'])}"
    return {"string": "text", "integer": "whole number", "boolean": "true/false"}.get(kind, str(kind))


_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "maxLength": "at most {} characters",
    "default": "default {}",
}


def _limits(schema: dict[str, Any]) -> str:
    parts = [schema, *schema.get("anyOf", ())]
    found = {key: part[key] for part in parts for key in _LIMITS if part.get(key) not in (None, "")}
    spoken = ", ".join(
        _LIMITS[key].format(f"{found[key]:,}" if isinstance(found[key], int) else found[key])
        for key in _LIMITS
        if key in found and not isinstance(found[key], dict | list)
    )
    return f"({spoken})" if spoken else ""
