"""Bodies of requests that are wrong, huge, deep or meant to hurt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

CANARY = "zoe.muller@canary.example"
"""Stands for personal data in a body: nothing may repeat it."""
LEAD = "hostile-1"


def _item(**more: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": "m", "userId": LEAD, "event": "page_view", **more}


def _lead(**more: Any) -> dict[str, Any]:
    return {"lead_id": LEAD, "created_at": "2026-01-05T09:00:00Z", **more}


BODIES: dict[str, tuple[str, bytes | object]] = {
    # Never JSON, whatever the address.
    **{
        f"{name} to {path}": (path, body)
        for path in (
            "/v1/events",
            "/v1/score",
            "/v1/leads/L-00001/touches",
            "/v1/leads/L-00001/feedback",
            "/v1/leads/L-00001/consents",
            "/v1/leads/L-00001/outcomes",
            "/v1/jobs",
        )
        for name, body in {
            "nothing": b"",
            "NaN": b'{"batch": NaN, "leads": NaN, "note": "%s"}' % CANARY.encode(),
            "infinity": b'{"batch": [], "leads": -Infinity, "x": 1e999}',
            "half": b'{"batch": [{"type": "track", "userId": "%s"' % CANARY.encode(),
            "depth": b"[" * 1_000_000,
            "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
            "no UTF-8": b'{"batch": "\xff\xfe%s"}' % CANARY.encode(),
            "UTF-16": json.dumps({"batch": CANARY}).encode("utf-16"),
            "a list": [CANARY],
            "text": CANARY,
            "a number": 7,
            "null": None,
            "an unknown key": {CANARY: CANARY, "__proto__": {"x": 1}},
            "too much": b'{"batch": "' + b"x" * 6_000_000 + b'"}',
        }.items()
    },
    "items that are none": ("/v1/events", {"batch": [None, 7, CANARY, [], {}, True]}),
    "wrong types": (
        "/v1/events",
        {"batch": [_item(event={"a": CANARY}), _item(userId=[CANARY]), _item(timestamp=1e308)]},
    ),
    "an unknown call": ("/v1/events", {"batch": [_item(type=CANARY)]}),
    "times": (
        "/v1/events",
        {
            "batch": [
                _item(timestamp=f"{CANARY}"),
                _item(timestamp="2026-02-30T00:00:00Z"),
                _item(timestamp="9999-12-31T23:59:59Z" + "9" * 10_000),
                _item(timestamp="2026-01-01T00:00:00"),
            ]
        },
    ),
    "an id without end": (
        "/v1/events",
        {"batch": [_item(userId=CANARY * 20_000), _item(messageId="x" * 100_000)]},
    ),
    "a NUL in an id": ("/v1/events", {"batch": [_item(userId=f"{CANARY}\0"), _item(event="\0")]}),
    "half a character": (
        "/v1/events",
        b'{"batch": [{"type": "track", "userId": "\\ud800", "event": "page_view"}]}',
    ),
    "a batch of batches": ("/v1/events", {"batch": [[_item()] * 100] * 100}),
    "too many items": ("/v1/events", {"batch": [{}] * 5001}),
    "huge properties": ("/v1/events", {"batch": [_item(properties={"x": CANARY * 100_000})]}),
    "deep properties": (
        "/v1/events",
        b'{"batch": [{"type": "track", "userId": "u", "event": "page_view", "properties": '
        + b'{"a":' * 250
        + b"1"
        + b"}" * 250
        + b"}]}",
    ),
    "an endless number": (
        "/v1/events",
        b'{"batch": [{"type": "identify", "userId": "u", "traits": {"company_size": %s}}]}'
        % (b"9" * 100_000),
    ),
    "no lead": ("/v1/score", {"leads": []}),
    "too many leads": ("/v1/score", {"leads": [_lead()] * 1001}),
    "a lead that is none": ("/v1/score", {"leads": [CANARY, None, 3, [], {"lead_id": {"x": CANARY}}]}),
    "attributes": (
        "/v1/score",
        {
            "leads": [
                _lead(attributes={"company_size": 10**400}),
                _lead(lead_id="b", attributes=CANARY),
                _lead(lead_id="c", attributes={"country": [CANARY]}),
            ]
        },
    ),
    "instants": ("/v1/score", {"leads": [_lead(created_at=CANARY)], "as_of": CANARY}),
    "impossible instants": ("/v1/score", {"leads": [_lead()], "as_of": "0000-00-00T00:00:00Z"}),
    "another type": ("/v1/score", {"leads": {"0": _lead()}, "as_of": True, "explanation": CANARY}),
    "a touch without a chance": (
        "/v1/leads/L-00001/touches",
        {"touch_id": "t", "action_id": "a", "channel": "c", "propensity": 1e308},
    ),
    "a touch long ago": (
        "/v1/leads/L-00001/touches",
        {"touch_id": "t", "action_id": "a", "channel": "c", "occurred_at": CANARY},
    ),
    "a verdict": ("/v1/leads/L-00001/feedback", {"verdict": CANARY}),
    "an essay": ("/v1/leads/L-00001/feedback", {"verdict": "bad", "note": CANARY * 10_000}),
    "a cursor": ("/v1/leads/L-00001/feedback", {"verdict": "bad", "score_cursor": CANARY}),
    "a stranger": (f"/v1/leads/{CANARY}/feedback", {"verdict": "bad"}),
    "a path": ("/v1/leads/..%2f..%2fetc%2fpasswd%00/feedback", {"verdict": "bad"}),
    "SQL": ("/v1/leads/x'%20OR%201=1;--/touches", {"touch_id": "t", "action_id": "a", "channel": "c"}),
}


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a document."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
    return [at, *(place for key, value in items for place in places(value, (*at, key)))]


def with_value(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    key, *rest = place
    copied = dict(document) if isinstance(document, dict) else list(document)
    copied[key] = with_value(document[key], tuple(rest), value)
    return copied


STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    -0.0,
    "",
    "\0",
    "\u202e",
    "a" * 3000,
    [],
    [[]],
    {},
    {"": {}},
    {"\0": "\0"},
    "2026-13-01T00:00:00Z",
    "-9999-01-01T00:00:00Z",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "\U0010ffff",
)

WHOLE: dict[str, Any] = {
    "/v1/events": {
        "sentAt": "2026-06-02T09:30:05Z",
        "batch": [
            _item(
                timestamp="2026-06-02T09:30:00Z", properties={"duration_seconds": 83}, anonymousId="visitor"
            ),
            {
                "type": "identify",
                "messageId": "i",
                "userId": LEAD,
                "traits": {"title": "x", "createdAt": "2026-05-11T08:15:00Z"},
            },
            {"type": "alias", "messageId": "a", "userId": LEAD, "previousId": "before"},
        ],
    },
    "/v1/score": {
        "leads": [
            _lead(
                attributes={"country": "DE", "company_size": 3},
                events=[
                    {
                        "event_id": "1",
                        "event_type": "pricing_view",
                        "occurred_at": "2026-02-01T10:00:00Z",
                        "properties": {"x": 1},
                    }
                ],
                touches=[
                    {"touch_id": "t", "action_id": "a", "channel": "c", "occurred_at": "2026-02-01T10:00:00Z"}
                ],
                attribute_changes=[
                    {"attribute": "title", "value": "x", "occurred_at": "2026-02-01T10:00:00Z"}
                ],
            )
        ],
        "as_of": "2026-02-10T00:00:00Z",
    },
    "/v1/leads/L-00001/touches": {
        "touch_id": "t",
        "action_id": "a",
        "channel": "c",
        "propensity": 0.5,
        "occurred_at": "2026-06-01T10:00:00Z",
    },
    "/v1/leads/L-00001/outcomes": {"outcome_id": "o", "kind": "won", "amount_minor": 7, "currency": "EUR"},
    "/v1/leads/L-00001/consents": {"channel": "email", "granted": True, "source": "x"},
    "/v1/leads/L-00001/feedback": {"verdict": "bad", "note": "x", "feedback_id": "f"},
    "/v1/jobs": {"kind": "score", "lead_ids": ["L-00001"]},
}
