"""The OpenAPI 3.1 document: FastAPI's, plus what is read by hand, minus what we do not answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .bodies import EXAMPLE, ScoreRequest
from .problems import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/{model}"


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of `app`; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            description=app.description,
            routes=app.routes,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        # Refusals are problems; FastAPI's own form of them is never sent.
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        # The body of /v1/score is read by hand (per-lead errors), so FastAPI does not know its form.
        for model in (ScoreRequest, Problem):
            schema = model.model_json_schema(ref_template=_REFERENCE)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        problem = {"schema": {"$ref": _REFERENCE.format(model="Problem")}}
        for path in document["paths"].values():
            for operation in path.values():
                for status, answer in operation["responses"].items():
                    if status >= "400":
                        answer["content"] = {MEDIA_TYPE: problem}
        document["paths"]["/v1/score"]["post"]["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REFERENCE.format(model="ScoreRequest")},
                    "examples": {
                        "history in the body": {"value": EXAMPLE},
                        "a stored lead": {"value": {"leads": [{"lead_id": "L-00001"}]}},
                    },
                }
            },
        }
        app.openapi_schema = document
    return app.openapi_schema
