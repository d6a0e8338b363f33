"""Every refusal over HTTP, as an RFC 9457 problem that says what, where and what to do.

A problem never repeats a value from the request: values may be personal data, and answers end up in logs.
Names of keys are repeated only where they look like names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from predictive_scoring.errors import (
    EnvironmentMissing,
    IdempotencyConflict,
    PredictiveScoringError,
    SignatureRefused,
    StoreUnavailable,
    UnknownJob,
    UnknownLead,
)

MEDIA_TYPE = "application/problem+json"
MOST_COMPLAINTS = 20

log = logging.getLogger("predictive_scoring.serving")

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "InvalidJson": (400, "The body is not JSON (NaN and Infinity are not JSON)"),
    "KeyRequired": (401, "A valid API key is needed"),
    "SignatureRefused": (401, "The webhook is not signed by whom it claims, or comes too late"),
    "ScopeMissing": (403, "The key may not do this"),
    "CrossSiteRequest": (403, "The form was not sent from a page of this service"),
    "MethodNotAllowed": (405, "The address does not take this method"),
    "NotFound": (404, "There is nothing at this address"),
    "UnknownLead": (404, "No lead has this id"),
    "UnknownJob": (404, "No job has this id"),
    "BodyTooSlow": (408, "The body did not arrive in time"),
    "BodyTooLarge": (413, "The body is larger than the service takes"),
    "WrongContentType": (415, "The body is not of the type that the address takes, or it is compressed"),
    "MisdirectedHost": (421, "The Host header names another server"),
    "InvalidBody": (422, "The body is JSON, but not of the documented form"),
    "InvalidQuery": (422, "A query parameter has an impossible value"),
    "IdempotencyConflict": (422, "The Idempotency-Key was used for another request"),
    "TooManyRequests": (429, "More requests than the service takes from one caller, or at once"),
    "InternalError": (500, "The service failed; the request was not at fault"),
    "NotReady": (503, "The service is starting, or has no model to serve"),
    "StoreUnavailable": (503, "The database cannot be reached, read or written"),
    "KeysUnreadable": (503, "The keys cannot be checked: the store cannot be reached"),
}
"""Name of every problem of the whole request -> status and title; per-lead errors are named in `errors.py`."""


class Complaint(BaseModel):
    """One fault within a request."""

    where: str
    what: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem document"})

    type: str = Field(description="Address of the explanation of this kind of problem")
    title: str
    status: int
    detail: str
    name: str = Field(description="Stable name of the kind of problem")
    where: str | None = None
    remedy: str | None = Field(default=None, description="What to do about it")
    error: str | None = Field(
        default=None, description="Name of the library's error behind it, if there is one"
    )
    errors: tuple[Complaint, ...] = ()


class Refused(Exception):
    """A request that cannot be answered; becomes a problem."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        where: str | None = None,
        remedy: str | None = None,
        error: str | None = None,
        errors: Sequence[Complaint] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name)
        self.name, self.detail, self.where, self.remedy = name, detail, where, remedy
        self.error, self.errors, self.headers = error, tuple(errors), headers

    @property
    def problem(self) -> Problem:
        """The document to answer."""
        status, title = PROBLEMS[self.name]
        return Problem(
            type=f"/docs#{self.name}",
            title=title,
            status=status,
            detail=self.detail,
            name=self.name,
            where=self.where,
            remedy=self.remedy,
            error=self.error,
            errors=self.errors,
        )

    def response(self) -> JSONResponse:
        """The answer."""
        document = self.problem.model_dump(exclude_none=True)
        if not self.errors:
            del document["errors"]
        return JSONResponse(document, PROBLEMS[self.name][0], dict(self.headers or {}), MEDIA_TYPE)


def refusal_of(error: PredictiveScoringError) -> Refused:
    """A named error of the library as the problem of a whole request."""
    if isinstance(error, StoreUnavailable):
        # Its place is the database's address, and the caller's business is only to come again.
        return Refused(
            error.name,
            error.what,
            remedy="Send the same request again: what was kept already is not counted twice.",
            error=error.name,
            headers={"retry-after": "2"},
        )
    name = (
        error.name
        if isinstance(error, UnknownLead | UnknownJob | IdempotencyConflict | SignatureRefused)
        else "NotReady"
        if isinstance(error, EnvironmentMissing)
        else "InvalidBody"
    )
    return Refused(name, error.what, where=error.where, remedy=error.remedy, error=error.name)


_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")


def safe_name(text: object) -> str:
    """A key of the request where it looks like a name, else a placeholder."""
    return text if isinstance(text, str) and _NAME.match(text) else "(another name)"


def spoken_place(place: Sequence[object], root: str = "") -> str:
    """`leads[3].events[0].occurred_at`."""
    spoken = root
    for part in place:
        if isinstance(part, int):
            spoken += f"[{part}]"
        else:
            spoken += ("." if spoken else "") + safe_name(part)
    return spoken or "body"


# pydantic speaks of Python types, the reader of a JSON document thinks in those of JSON.
_SPOKEN: Mapping[str, str] = {
    "model_type": "it is not an object",
    "model_attributes_type": "it is not an object",
    "dict_type": "it is not an object",
    "list_type": "it is not a list",
    "string_type": "it is not text",
    "missing": "it is missing",
    "extra_forbidden": "this key is not known",
    "finite_number": "it is not a finite number",
}


# What pydantic adds to a place where several types are possible.
_ALTERNATIVES = frozenset({"bool", "int", "float", "str", "constrained-str"})


def complaints(errors: Sequence[Mapping[str, Any]], root: str = "") -> tuple[Complaint, ...]:
    """The complaints of pydantic without the input they carry."""
    found = []
    for error in errors[:MOST_COMPLAINTS]:
        place = error["loc"]
        what = _SPOKEN.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
        if len(place) > 1 and place[-1] in _ALTERNATIVES:
            place, what = (
                place[:-1],
                "it is not a text of at most 2,000 characters, a finite number, true, false or null",
            )
        found.append(Complaint(where=spoken_place(place, root), what=what))
    return tuple(found)


def install(app: FastAPI) -> None:
    """Answer every failure below `/v1` and of the machine endpoints with a problem."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return error.response()

    @app.exception_handler(PredictiveScoringError)
    async def named(_: Request, error: PredictiveScoringError) -> JSONResponse:
        return refusal_of(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = complaints(error.errors())
        return Refused(
            "InvalidQuery",
            f"{found[0].where}: {found[0].what}" if found else "a parameter is invalid",
            remedy="See /docs for the parameters and their limits.",
            errors=found,
        ).response()

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            return Refused(
                "MethodNotAllowed",
                f"This address takes {allowed}.",
                remedy="See /docs for the addresses and their methods.",
                headers=error.headers,
            ).response()
        return Refused(
            "NotFound", "Nothing is served here.", remedy="See /docs for the addresses."
        ).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        # The traceback names code, not the request; the message may hold a value and is left to the traceback.
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        return Refused(
            "InternalError",
            "An unexpected error was logged.",
            remedy="Try again; if it stays, report the log.",
        ).response()
