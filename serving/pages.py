"""The marketer's pages, rendered here: they work without scripts and ask no other server for anything."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from predictive_scoring.errors import PredictiveScoringError, UnknownLead
from predictive_scoring.schema import LEAD_CREATED, Lead
from predictive_scoring.timeline import format_instant, parse_instant

from . import wording
from .api import in_thread, in_worker, in_writer, model_facts, state_of
from .docs import docs_page
from .forms import check_csrf, csrf_token, read_form
from .listing import Listing, list_leads
from .problems import PROBLEMS, Refused, refusal_of
from .routes.answering import actor_of
from .selection import ReadinessFilter, Selection
from .sessions import form_token
from .state import Serving
from .waterfall import Bar, draw, waterfall

PER_PAGE = 50
MOST_EVENTS = 30
MOST_NOTE = 2000
VERDICTS: tuple[Literal["good", "bad"], ...] = ("good", "bad")

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
    "form_token": form_token,
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
    readiness: ReadinessFilter | None = next(
        (one for one in get_args(ReadinessFilter) if one == asked.get("readiness")), None
    )
    stage = asked.get("stage") if asked.get("stage") in wording.STAGES else None
    selection = Selection(readiness, stage, asked.get("search", "")[:200])
    wanted = asked.get("page", "1")
    number = max(int(wanted), 1) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 1
    project = serving.scorer.scoring.project

    def page_of(number: int) -> Listing:
        return list_leads(serving.store, project, selection, PER_PAGE, (number - 1) * PER_PAGE)

    found = await in_thread(lambda: page_of(number))
    pages = max(1, -(-found.page.total // PER_PAGE))
    if number > pages:
        number = pages
        found = await in_thread(lambda: page_of(pages))

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
        (None, "All leads", sum(found.readiness_counts.values())),
        *(
            (key, label, found.readiness_counts.get(key, 0))
            for key, label in (
                ("ready", "Ready for sales"),
                ("nurture", "To nurture"),
                ("unscored", "Without a score"),
            )
        ),
    )
    return render(
        "leads.html",
        as_of=found.page.as_of,
        model=model_facts(serving),
        selection=selection,
        leads=found.page.leads,
        total=found.page.total,
        first=found.page.offset + 1,
        page=number,
        pages=pages,
        tabs=tabs,
        stage_counts=found.stage_counts,
        known=found.known,
        waiting=found.waiting,
        address=address,
    )


@router.get("/leads/{lead_id:path}")
async def one_lead(request: Request, lead_id: str) -> HTMLResponse:
    """Why this lead, what changed, what to do next."""
    serving = loaded(request)
    if isinstance(serving, HTMLResponse):
        return serving
    from predictive_scoring.insight.explanation import probability_points
    from predictive_scoring.live.stored import LeadInView, lead_in_view

    def view() -> LeadInView:
        return lead_in_view(serving.store, serving.scorer, lead_id)

    try:
        seen = await in_worker(request, view)
    except UnknownLead:
        return refusal_page(
            Refused(
                "UnknownLead",
                "No stored lead has this id.",
                remedy="Check the spelling, or search for a part of the id on the list of leads.",
            )
        )
    score, lead = seen.score, seen.lead
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
    as_of = parse_instant(score.as_of)
    return render(
        "lead.html",
        serving=serving,
        model=model_facts(serving),
        score=score,
        rank=seen.rank,
        bars=bars,
        drawing=drawing,
        narrow=narrow,
        chances=chances,
        attributes=_attributes(serving, lead, as_of),
        contact=_contact(serving, lead),
        events=_events(serving, lead, as_of),
        most_events=MOST_EVENTS,
        created=format_instant(lead.created),
        feedback=seen.feedback,
        feedback_at="" if seen.feedback is None else format_instant(seen.feedback.occurred),
        csrf=csrf_token(request),
    )


@router.post("/leads/{lead_id:path}/feedback")
async def say_what_it_was(request: Request, lead_id: str) -> Response:
    """A person says on the page whether it is a good lead."""
    from predictive_scoring.keeping.store.activity import Feedback, record

    try:
        form = await read_form(request)
        check_csrf(request, form)
        verdict = next((one for one in VERDICTS if one == form.get("verdict")), None)
        note = form.get("note", "").strip()[:MOST_NOTE]
        if verdict is None:
            raise Refused(
                "InvalidBody",
                "The form says neither good nor bad.",
                where="verdict",
                remedy="Use the buttons of the page.",
            )
        now = int(time.time())
        said = Feedback(secrets.token_hex(16), lead_id, verdict, now, actor_of(request), note or None)
        store = state_of(request).open()
        await in_writer(request, lambda: store.write(lambda tx: record(tx, [said], now)))
    except Refused as refused:
        return refusal_page(refused)
    except PredictiveScoringError as refused:
        return refusal_page(refusal_of(refused))
    return RedirectResponse(f"/leads/{quote(lead_id, safe='')}#feedback", 303)


def _attributes(serving: Serving, lead: Lead, as_of: int) -> list[tuple[str, Any]]:
    """What was known of the lead's attributes at `as_of` (epoch seconds)."""
    from predictive_scoring.features.definitions import AttributeFeature
    from predictive_scoring.features.online import FeatureReader

    features = [one for one in serving.scorer.scoring.features if isinstance(one, AttributeFeature)]
    values = FeatureReader(features)(lead, as_of)
    return [(feature.label, values[feature.name]) for feature in features]


def _contact(serving: Serving, lead: Lead) -> list[tuple[str, str]]:
    contact = serving.scorer.scoring.project.contact
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


def _events(serving: Serving, lead: Lead, as_of: int) -> list[dict[str, Any]]:
    """What was known at `as_of` (epoch seconds), newest first."""
    from predictive_scoring.features.online import history

    declared = serving.scorer.scoring.project.events
    seen = [event for _, event in history(lead, as_of) if event.event_type != LEAD_CREATED]
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
