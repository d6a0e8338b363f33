"""The OpenAPI 3.1 document: FastAPI's, plus what is read by hand, minus what we do not answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .bodies import ScoreRequest
from .problems import MEDIA_TYPE, Problem
from .routes.activity import ConsentRequest, FeedbackRequest, OutcomeRequest, TouchRequest
from .routes.jobs import JobRequest
from .segment_body import EventsRequest

_REFERENCE = "#/components/schemas/{model}"
_READ_BY_HAND = (
    ScoreRequest,
    EventsRequest,
    TouchRequest,
    FeedbackRequest,
    ConsentRequest,
    OutcomeRequest,
    JobRequest,
    Problem,
)
"""FastAPI does not know these: bodies are read by hand, so that an error tells what to do."""


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
        for model in _READ_BY_HAND:
            schema = model.model_json_schema(ref_template=_REFERENCE)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        problem = {"schema": {"$ref": _REFERENCE.format(model="Problem")}}
        for path in document["paths"].values():
            for operation in path.values():
                for status, answer in operation["responses"].items():
                    if status >= "400":
                        answer["content"] = {MEDIA_TYPE: problem}
        app.openapi_schema = document
    return app.openapi_schema
