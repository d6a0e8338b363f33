"""Pages on which people log in with a key, and out again."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from .admission import address_of, headers_of
from .callers import keys_of
from .forms import check_csrf, read_form
from .pages import refusal_page, render
from .problems import Refused
from .scopes import PEOPLE
from .sessions import local_path, set_cookie

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/login")
async def login_form(request: Request) -> Response:
    """Where a person shows a key."""
    return render("login.html", wanted=local_path(request.query_params.get("next")), complaint="")


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Begin a session, and go where the person wanted to go."""
    try:
        form = await read_form(request)
        wanted = local_path(form.get("next"))
        address = address_of(request.scope, headers_of(request.scope))
        key = await keys_of(request).present(form.get("key", "").strip(), address)
        if key is None:
            return render("login.html", 401, wanted=wanted, complaint="This key is not valid.")
        if not any(key.allows(scope) for scope in PEOPLE):
            complaint = "This key is for programs. The pages need one with the scope marketer or analyst."
            return render("login.html", 403, wanted=wanted, complaint=complaint)
        session = keys_of(request).sessions.begin(key.key_id, int(time.time()))
    except Refused as refused:
        return refusal_page(refused)
    answer = RedirectResponse(wanted, 303)
    set_cookie(answer.headers, session, secure=_is_https(request))
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session in this browser."""
    try:
        check_csrf(request, await read_form(request))
    except Refused as refused:
        return refusal_page(refused)
    answer = RedirectResponse("/login", 303)
    set_cookie(answer.headers, "", secure=_is_https(request))
    return answer


def _is_https(request: Request) -> bool:
    # A proxy's word is enough here: whoever invents it only keeps their own cookie from plain connections.
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
