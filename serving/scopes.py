"""Who may do what: one row for every address of the service.

`admin` may everything. An address without a row (nothing is served there) takes any valid key, so that only
those who hold one learn what exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount
from starlette.types import Scope

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.keys import Scope as KeyScope

EVERY_KEY = frozenset({"crm", "marketer", "analyst"})
PEOPLE: frozenset[KeyScope] = frozenset({"marketer", "analyst"})
PROGRAMS = frozenset({"crm", "analyst"})
WITH_LEADS = frozenset({"crm", "marketer"})
CRM = frozenset({"crm"})
ANALYST = frozenset({"analyst"})
ADMIN: frozenset[str] = frozenset()
"""Nobody but `admin`."""


@dataclass(frozen=True)
class Rule:
    """Scopes of which a key needs one (None: nobody is asked for a key), and what a body has to be.

    `page`: made for people, who are led to the log-in instead of being refused. `unlimited`: however often it is
    asked. `tells`: everybody is answered, and who shows a key is told more."""

    scopes: frozenset[str] | None
    body: Literal["json", "form"] = "json"
    page: bool = False
    unlimited: bool = False
    tells: bool = False


UNKNOWN = Rule(EVERY_KEY)
"""Addresses at which nothing is served, and methods that an address does not take."""

RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/livez"): Rule(None, unlimited=True),
    ("GET", "/readyz"): Rule(None, unlimited=True, tells=True),
    ("GET", "/static"): Rule(None),
    ("GET", "/metrics"): Rule(ANALYST),
    ("GET", "/openapi.json"): Rule(EVERY_KEY),
    ("GET", "/docs"): Rule(EVERY_KEY, page=True),
    ("GET", "/login"): Rule(None, page=True),
    ("POST", "/login"): Rule(None, "form", page=True),
    ("POST", "/logout"): Rule(EVERY_KEY, "form", page=True),
    ("GET", "/"): Rule(PEOPLE, page=True),
    ("GET", "/leads/{lead_id}"): Rule(PEOPLE, page=True),
    ("POST", "/leads/{lead_id}/feedback"): Rule(PEOPLE, "form", page=True),
    ("POST", "/v1/score"): Rule(EVERY_KEY),
    ("GET", "/v1/model"): Rule(EVERY_KEY),
    ("POST", "/v1/events"): Rule(CRM),
    ("POST", "/v1/batch"): Rule(CRM),
    ("GET", "/v1/leads"): Rule(EVERY_KEY),
    ("GET", "/v1/leads/{lead_id}"): Rule(EVERY_KEY),
    ("GET", "/v1/leads/{lead_id}/history"): Rule(EVERY_KEY),
    ("POST", "/v1/leads/{lead_id}/touches"): Rule(WITH_LEADS),
    ("POST", "/v1/leads/{lead_id}/feedback"): Rule(WITH_LEADS),
    ("POST", "/v1/leads/{lead_id}/consents"): Rule(CRM),
    ("POST", "/v1/leads/{lead_id}/outcomes"): Rule(CRM),
    ("DELETE", "/v1/leads/{lead_id}"): Rule(ADMIN),
    ("GET", "/v1/leads/{lead_id}/subject"): Rule(ADMIN),
    ("GET", "/v1/scores"): Rule(PROGRAMS),
    ("POST", "/v1/jobs"): Rule(PROGRAMS),
    ("GET", "/v1/jobs"): Rule(PROGRAMS),
    ("GET", "/v1/jobs/{job_id}"): Rule(PROGRAMS),
    ("DELETE", "/v1/jobs/{job_id}"): Rule(PROGRAMS),
    # Signed by its sender, which is checked where it is read.
    ("POST", "/v1/hooks/{source}"): Rule(None),
}


@dataclass(frozen=True)
class Place:
    """A route of the application: which paths and methods it takes (None: every method), and its template."""

    pattern: re.Pattern[str]
    methods: frozenset[str] | None
    template: str
    route: BaseRoute


def places(routes: Sequence[BaseRoute]) -> tuple[Place, ...]:
    """Every route of an application in the order in which it is tried. Templates come without types: `{lead_id}`."""
    return tuple(_places(routes))


def _places(routes: Sequence[BaseRoute]) -> Iterator[Place]:
    for found in iter_route_contexts(routes):
        route = found.original_route
        if isinstance(route, Mount):
            yield Place(route.path_regex, frozenset({"GET", "HEAD"}), route.path, route)
        else:
            template = re.sub(r":\w+}", "}", str(found.path))
            yield Place(found.path_regex, frozenset(found.methods or ()) or None, template, route)


def placed(found: Sequence[Place], scope: Scope) -> tuple[Rule, BaseRoute | None]:
    """The rule of a request, and the route that will answer it: the first that takes path and method, as the
    application's own router chooses; else the first that takes the path, which then refuses the method."""
    path, method, root = scope["path"], scope["method"], scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        path = path[len(root) :]
    refusing = None
    for place in found:
        if place.pattern.match(path):
            if place.methods is None or method in place.methods:
                kind = "GET" if method == "HEAD" else method
                return RULES.get((kind, place.template), UNKNOWN), place.route
            refusing = refusing or place.route
    return UNKNOWN, refusing
