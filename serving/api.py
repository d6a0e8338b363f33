"""The HTTP interface for programs, `/v1/…` and the machine endpoints, put together; and what pages share with it."""

from fastapi import APIRouter

from .routes import activity, events, hooks, jobs, leads, model, operation, score, scores
from .routes.answering import in_thread, in_worker, in_writer, state_of
from .routes.model import model_facts

__all__ = ["in_thread", "in_worker", "in_writer", "model_facts", "router", "state_of"]

router = APIRouter()
# An id may hold a slash, so `/v1/leads/{lead_id:path}` takes every address below it: `activity` comes first.
for part in (score, events, activity, leads, scores, jobs, model, hooks, operation):
    router.include_router(part.router)
