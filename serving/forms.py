"""Forms of our pages: how they are read, and how we know that they are ours."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from .callers import LOCAL, caller_of, keys_of
from .problems import Refused
from .sessions import FIELD

MOST_FIELDS = 100


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of a repeated one the last. Raises Refused."""
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError as refused:
        raise Refused(
            "InvalidBody", "The form cannot be read.", where="body", remedy="Send the form of the page."
        ) from refused


def csrf_token(request: Request) -> str:
    """What a form of the page for this caller carries in the hidden field `csrf`; empty where none is needed."""
    caller = caller_of(request)
    if caller is None or (caller is not LOCAL and not caller.session):
        return ""
    return keys_of(request).sessions.token(caller.session)


def check_csrf(request: Request, form: Mapping[str, str]) -> None:
    """That a form was on one of our pages, made for this caller. Raises Refused.

    Whoever sends a key in a header needs no token: no other site's page could send it."""
    caller = caller_of(request)
    if caller is not None and caller is not LOCAL and not caller.session:
        return
    if caller is None or not keys_of(request).sessions.is_token(caller.session, form.get(FIELD, "")):
        raise Refused(
            "CrossSiteRequest",
            "The form does not carry the token of this session.",
            where="body",
            remedy="Open the page anew, and send the form from there.",
        )
