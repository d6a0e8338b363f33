"""`GET /v1/model`: the model that serves, in words and numbers."""

from __future__ import annotations

import math

from fastapi import APIRouter, Request
from fastapi.responses import Response

from predictive_scoring.timeline import format_instant

from ..bodies import FeatureDocument, ModelDocument, ModelFacts
from ..listing import stored_so_far
from ..state import Serving
from .answering import in_thread, problems, state_of

router = APIRouter()


@router.get(
    "/v1/model",
    summary="The model that serves",
    response_model=ModelDocument,
    responses=problems(),
    tags=["model"],
)
async def model(request: Request) -> Response:
    """Name, version, what it reads, how it was judged, and what its score means."""
    serving = state_of(request).ready()
    stored, until = await in_thread(lambda: stored_so_far(serving.store))
    document = ModelDocument(
        **dict(model_facts(serving)), stored_leads=stored, stored_until=format_instant(until)
    )
    return Response(document.model_dump_json(), media_type="application/json")


def model_facts(serving: Serving) -> ModelFacts:
    """The serving model in words and numbers."""
    scorer = serving.scorer
    scoring, reference = scorer.scoring, scorer.reference
    return ModelFacts(
        name=reference.name,
        version=reference.version,
        bundle=reference.bundle,
        description=scoring.project.description,
        horizon_days=scoring.project.conversion.horizon_days,
        verdict=scorer.manifest["verdict"],
        verdict_reasons=tuple(scorer.manifest["reasons"]),
        reference_odds=math.exp(scoring.grading.reference_log_odds),
        ready_probability=scoring.grading.ready_probability,
        features=tuple(
            FeatureDocument(
                name=feature.name,
                label=feature.label,
                concept=feature.concept,
                group=feature.group,
                kind=feature.kind,
            )
            for feature in scorer.features
        ),
        metrics={key: scoring.metrics[key] for key in ("test", "calibrate", "known_base_rate", "periods")},
    )
