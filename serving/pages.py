"""The marketer's pages, rendered here: they work without scripts and ask no other server for anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from predictive_scoring.errors import UnknownLead
from predictive_scoring.schema import LEAD_CREATED, Lead, Score
from predictive_scoring.timeline import format_instant

from . import wording
from .api import in_worker, model_document, state_of
from .docs import docs_page
from .problems import PROBLEMS, Refused
from .selection import Selection, select
from .state import Serving
from .waterfall import Bar, draw, waterfall

PER_PAGE = 50
MOST_EVENTS = 30

router = APIRouter(default_response_class=HTMLResponse)


def _ticks(text: str) -> Markup:
    """`name` between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 escaped just here


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "percent": wording.percent,
    "day": wording.day,
    "moment": wording.moment,
    "value": wording.value,
    "signed": wording.signed,
    "path": lambda text: quote(text, safe=""),
    "ticks": _ticks,
}
_environment.globals |= {
    "stages": wording.STAGES,
    "stage_meanings": wording.STAGE_MEANINGS,
    "evidence": wording.EVIDENCE,
    "spoken_status": wording.spoken_status,
    "spoken_action_reason": wording.spoken_action_reason,
    "spoken_grade": wording.spoken_grade,
    "spoken_percentile": wording.spoken_percentile,
    "spoken_evidence": wording.spoken_evidence,
}


def render(
    template: str, code: int = 200, headers: Mapping[str, str] | None = None, **facts: Any
) -> HTMLResponse:
    """A page from a template."""
    return HTMLResponse(_environment.get_template(template).render(**facts), code, headers)


def refusal_page(refused: Refused) -> HTMLResponse:
    """A refusal for people."""
    status, title = PROBLEMS[refused.name]
    return render(
        "refusal.html",
        status,
        refused.headers,
        refused=refused,
        title=title,
        status=status,
        # A page that waits for the model looks again by itself; one that failed does not.
        waiting=refused.name == "NotReady" and refused.error is None,
    )


def loaded(request: Request) -> Serving | HTMLResponse:
    """What is served, or the page that says why nothing is yet."""
    try:
        return state_of(request).ready()
    except Refused as refused:
        return refusal_page(refused)


@router.get("/")
async def ranked_leads(request: Request) -> HTMLResponse:
    """Who to work today: the ranked stored leads."""
    serving = loaded(request)
    if isinstance(serving, HTMLResponse):
        return serving
    asked = request.query_params
    # A page reached with odd parameters shows what it can instead of refusing.
    readiness = asked.get("readiness") if asked.get("readiness") in ("ready", "nurture", "unscored") else None
    stage = asked.get("stage") if asked.get("stage") in wording.STAGES else None
    selection = Selection(readiness, stage, asked.get("search", "")[:200])
    found = select(serving.ranked, selection)
    pages = max(1, -(-len(found) // PER_PAGE))
    wanted = asked.get("page", "1")
    page = min(max(int(wanted), 1), pages) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 1
    facts = model_document(serving)

    def address(**changes: str | int | None) -> str:
        kept = {
            "readiness": selection.readiness,
            "stage": selection.stage,
            "search": selection.search,
            **changes,
        }
        query = urlencode({key: value for key, value in kept.items() if value not in (None, "", 1)})
        return f"/?{query}" if query else "/"

    tabs = (
        (None, "All leads", len(serving.ranked)),
        *(
            (key, label, serving.counts.get(key, 0))
            for key, label in (
                ("ready", "Ready for sales"),
                ("nurture", "To nurture"),
                ("unscored", "Without a score"),
            )
        ),
    )
    return render(
        "leads.html",
        serving=serving,
        model=facts,
        selection=selection,
        leads=found[(page - 1) * PER_PAGE : page * PER_PAGE],
        total=len(found),
        first=(page - 1) * PER_PAGE + 1,
        page=page,
        pages=pages,
        tabs=tabs,
        stage_counts=Counter(row.stage for row in serving.ranked),
        address=address,
    )


@router.get("/leads/{lead_id:path}")
async def one_lead(request: Request, lead_id: str) -> HTMLResponse:
    """Why this lead, what changed, what to do next."""
    serving = loaded(request)
    if isinstance(serving, HTMLResponse):
        return serving
    try:
        score = Score.model_validate_json(serving.document(lead_id))
    except UnknownLead:
        return refusal_page(
            Refused(
                "UnknownLead",
                "The project's tables hold no lead with this id.",
                remedy="Check the spelling, or search for a part of the id on the list of leads.",
            )
        )
    from predictive_scoring.insight.explanation import probability_points

    lead = (await in_worker(request, lambda: serving.stored_leads([lead_id])))[lead_id]
    bars: tuple[Bar, ...] = ()
    drawing = narrow = None
    chances: dict[str, float] = {}
    if score.explanation is not None and score.score is not None:
        concepts = {feature.name: feature.concept for feature in serving.scorer.features}
        bars = waterfall(
            score.explanation, score.score, serving.scorer.scoring.grading.reference_log_odds, concepts
        )
        chances = probability_points(score.explanation)
        drawing, narrow = draw(bars), draw(bars, left=138, plot=180)
    rank = next((row.rank for row in serving.ranked if row.lead_id == lead_id), None)
    return render(
        "lead.html",
        serving=serving,
        model=model_document(serving),
        score=score,
        rank=rank,
        bars=bars,
        drawing=drawing,
        narrow=narrow,
        chances=chances,
        attributes=_attributes(serving, lead),
        contact=_contact(serving, lead),
        events=_events(serving, lead),
        most_events=MOST_EVENTS,
        created=format_instant(lead.created),
    )


def _attributes(serving: Serving, lead: Lead) -> list[tuple[str, Any]]:
    """What was known of the lead's attributes at `as_of`."""
    from predictive_scoring.features.definitions import AttributeFeature
    from predictive_scoring.features.online import FeatureReader

    features = [one for one in serving.scorer.scoring.features if isinstance(one, AttributeFeature)]
    values = FeatureReader(features)(lead, serving.as_of)
    return [(feature.label, values[feature.name]) for feature in features]


def _contact(serving: Serving, lead: Lead) -> list[tuple[str, str]]:
    contact = serving.tables.project.contact
    flags = [
        (f"May be contacted by {channel}", lead.attributes.get(name))
        for channel, name in contact.consent.items()
    ]
    spoken = [(label, "Never asked" if flag is None else "Yes" if flag else "No") for label, flag in flags]
    if contact.do_not_contact and lead.attributes.get(contact.do_not_contact):
        spoken.append(("Asked not to be contacted", "Yes"))
    if contact.time_zone:
        spoken.append(("Time zone", str(lead.attributes.get(contact.time_zone) or "Unknown")))
    return spoken


def _events(serving: Serving, lead: Lead) -> list[dict[str, Any]]:
    """What was known at `as_of`, newest first."""
    from predictive_scoring.features.online import history

    declared = serving.tables.project.events
    seen = [event for _, event in history(lead, serving.as_of) if event.event_type != LEAD_CREATED]
    return [
        {
            "at": format_instant(event.occurred),
            "label": declared[event.event_type].label if event.event_type in declared else event.event_type,
            "stage": declared[event.event_type].stage if event.event_type in declared else None,
            "properties": wording.properties(event.properties),
        }
        for event in seen[:MOST_EVENTS]
    ]


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The interface for programs, from its own OpenAPI document."""
    return render("docs.html", **docs_page(json.loads(json.dumps(request.app.openapi()))), problems=PROBLEMS)
