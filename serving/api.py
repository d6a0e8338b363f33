"""The HTTP interface for programs, `/v1/…` and the machine endpoints, put together; and what pages share with it."""

from starlette.routing import BaseRoute

from .routes import activity, events, hooks, jobs, leads, model, operation, score, scores
from .routes.answering import in_thread, in_worker, in_writer, state_of
from .routes.model import model_facts

__all__ = ["in_thread", "in_worker", "in_writer", "model_facts", "routes", "state_of"]

_PARTS = (score, events, activity, leads, scores, jobs, model, hooks, operation)
routes: list[BaseRoute] = [route for part in _PARTS for route in part.router.routes]
"""Every address, in the order in which they are tried. An id may hold a slash, so `/v1/leads/{lead_id:path}` takes
every address below it: `activity` comes first. One list, because included routers are searched twice at each level."""
