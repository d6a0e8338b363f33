"""HubSpot's webhook events as changes of leads.

Source: HubSpot, "Webhooks" and "Generic webhook subscriptions": a JSON array of up to 100 events with
`subscriptionType` (`contact.propertyChange`, or `object.propertyChange` with `objectTypeId` 0-1 for contacts, 0-3 for
deals), `objectId`, `occurredAt` in milliseconds, `propertyName`, `propertyValue`; they come at least once, in any
order, and `eventId` is not unique.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predictive_scoring.errors import InvalidDocument
from predictive_scoring.schema import AttributeChange

_KINDS = {"0-1": "contact", "0-3": "deal"}


@dataclass(frozen=True)
class HubspotNews:
    """What a webhook says. `changes`: lead id and change; `created`: lead id and time (epoch seconds); `deleted` leads;
    `erase`: leads whose data has to go; `merged`: id that went, id that stays; `deals` that changed and are to be
    fetched; `ignored`: events that say nothing here, or that cannot be read."""

    changes: tuple[tuple[str, AttributeChange], ...] = ()
    created: tuple[tuple[str, int], ...] = ()
    deleted: tuple[str, ...] = ()
    erase: tuple[str, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()
    deals: tuple[str, ...] = ()
    ignored: int = 0


def read_hubspot(body: bytes, now: int) -> HubspotNews:
    """The events in the body of a request whose signature was verified, each once, in the order of their times; `now`
    (epoch seconds) is when they became known. Raises InvalidDocument for a body that is no JSON array."""
    try:
        events = json.loads(body)
    except (ValueError, RecursionError):
        events = None
    if not isinstance(events, list):
        raise InvalidDocument(
            what="the body is no JSON array of events",
            where="webhook from HubSpot",
            remedy="Point a HubSpot webhook subscription at this address, and nothing else.",
        )
    read = [known for event in events if (known := _readable(event)) is not None]
    read.sort(key=lambda known: known[1])
    ignored = len(events) - len(read)
    changes: dict[tuple[str, str, int, str], tuple[str, AttributeChange]] = {}
    created: dict[str, int] = {}
    gone: dict[str, dict[str, None]] = {"deletion": {}, "privacyDeletion": {}}
    merged: dict[tuple[str, str], None] = {}
    deals: dict[str, None] = {}
    for kind, occurred, event in read:
        subject, _, what = kind.partition(".")
        lead = str(event["objectId"])
        if subject == "deal":
            deals[lead] = None
        elif what == "propertyChange" and isinstance(event.get("propertyName"), str):
            name, value = event["propertyName"], event.get("propertyValue")
            text = "" if value is None else str(value)
            # A fact is known when it reached us, and not before it happened.
            change = AttributeChange(name, text, occurred, max(occurred, now))
            changes[lead, name, occurred, text] = (lead, change)
        elif what == "creation":
            created.setdefault(lead, occurred)
        elif what in gone:
            gone[what][lead] = None
        elif what == "merge":
            stays = str(event.get("primaryObjectId", lead))
            merged |= {
                (str(one), stays): None for one in event.get("mergedObjectIds") or [] if str(one) != stays
            }
        else:
            ignored += 1
    return HubspotNews(
        tuple(changes.values()),
        tuple(created.items()),
        tuple(gone["deletion"]),
        tuple(gone["privacyDeletion"]),
        tuple(merged),
        tuple(deals),
        ignored,
    )


def _readable(event: Any) -> tuple[str, int, Mapping[str, Any]] | None:
    """Kind (`contact.creation`), time and the event; None for what is not about contacts or deals, or is broken."""
    if not isinstance(event, dict) or not isinstance(event.get("subscriptionType"), str):
        return None
    subject, _, what = event["subscriptionType"].partition(".")
    if subject == "object":
        subject = _KINDS.get(str(event.get("objectTypeId")), "")
    occurred = event.get("occurredAt")
    identity = event.get("objectId")
    if not isinstance(occurred, int) or isinstance(occurred, bool) or not 0 <= occurred < 10**14:
        return None
    if subject not in ("contact", "deal") or isinstance(identity, bool):
        return None
    if not isinstance(identity, int | str) or identity == "":
        return None
    return f"{subject}.{what}", occurred // 1000, event
