"""Scores into HubSpot contacts, 100 a call, only what changed.

Sources (HubSpot developer documentation): "Contacts" (`POST /crm/v3/objects/contacts/batch/update` by record id,
`…/batch/upsert` by a unique property; 100 inputs), "Handling errors, multi-status errors" (207 with `results`, and
`errors` whose `context` names `objectWriteTraceId` or `ids`), "Properties" (`POST /crm/v3/properties/contacts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from predictive_scoring.connectors.fields import Change, batched
from predictive_scoring.connectors.http import HttpDoor, as_published
from predictive_scoring.connectors.pushing import Pushed, code_of
from predictive_scoring.connectors.written import WrittenScores
from predictive_scoring.errors import CrmRefused, InvalidSetting

BATCH = 100
ROUNDS = 3
"""How often an item is tried whose error may pass."""
MAY_PASS = frozenset({"RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "CONFLICT", "UNKNOWN", "TIMEOUT"})
NOT_MENTIONED = "UNKNOWN"
"""The answer holds neither a result nor an error for the item: it may or may not have been written."""
KINDS = {
    "score": ("number", "number", "Predictive score"),
    "grade": ("string", "text", "Predictive grade"),
    "reasons": ("string", "textarea", "Predictive score reasons"),
    "next_action": ("string", "text", "Predictive next action"),
}
GROUP = "contactinformation"


def check_properties(door: HttpDoor, names: Mapping[str, str], create: bool) -> list[str]:
    """Make sure that the contact properties exist, creating them if `create`; the names of those created.

    Raises InvalidSetting naming what is missing, or has another type."""
    described = door.get("/crm/v3/properties/contacts").document()["results"]
    kinds = {str(one["name"]): str(one.get("type", "")) for one in described}
    wrong = [
        name
        for field, name in names.items()
        if name in kinds and kinds[name] not in (KINDS[field][0], "string")
    ]
    if wrong:
        raise InvalidSetting(
            what=f"contact properties of another type: {', '.join(wrong)}",
            where="HubSpot",
            remedy="A score needs a number property, the others single-line or multi-line text.",
        )
    missing = [field for field, name in names.items() if name not in kinds]
    if missing and not create:
        raise InvalidSetting(
            what=f"HubSpot has no contact properties {', '.join(names[field] for field in missing)}",
            where="HubSpot, Settings, Properties",
            remedy="Let them be created with --create-fields (scope crm.schemas.contacts.write), or create them: "
            + ", ".join(f"{names[field]} ({KINDS[field][0]})" for field in missing)
            + ".",
        )
    for field in missing:
        kind, widget, label = KINDS[field]
        body = {"name": names[field], "label": label, "type": kind, "fieldType": widget, "groupName": GROUP}
        # 409: it exists, so an attempt before this one did it.
        door.call("POST", "/crm/v3/properties/contacts", document=body, repeatable=True, allowed=(409,))
    return [names[field] for field in missing]


def push_hubspot(
    door: HttpDoor,
    changes: Sequence[Change],
    names: Mapping[str, str],
    written: WrittenScores,
    key: str | None = None,
) -> Pushed:
    """Write the changes; what HubSpot acknowledged is remembered batch by batch. `key` is the unique property that
    holds our lead id; None where lead ids are HubSpot's record ids.

    Raises CrmRefused for credentials or scopes, and CrmUnavailable; what was written before is remembered."""
    pushed = Pushed()
    with as_published("HubSpot"):
        for batch in batched(changes, BATCH):
            _write(door, list(batch), names, written, key, pushed)
    return pushed


def _write(
    door: HttpDoor,
    batch: list[Change],
    names: Mapping[str, str],
    written: WrittenScores,
    key: str | None,
    pushed: Pushed,
) -> None:
    waiting = batch
    for turn in range(ROUNDS):
        done, failed = _call(door, waiting, names, key)
        written.remember({change.lead_id: change.mark for change in waiting if change.lead_id in done})
        pushed.written += [change.lead_id for change in waiting if change.lead_id in done]
        again = [change for change in waiting if failed.get(change.lead_id) in MAY_PASS]
        if turn + 1 == ROUNDS:
            again = []
        later = {change.lead_id for change in again}
        pushed.failed |= {lead: code for lead, code in failed.items() if lead not in later}
        waiting = again
        if not waiting:
            return
        door.pause(2.0**turn, f"{len(waiting)} contacts that HubSpot could not write at once")


def _call(
    door: HttpDoor, batch: Sequence[Change], names: Mapping[str, str], key: str | None
) -> tuple[set[str], dict[str, str]]:
    """Leads written, and the code of the error of each other one. A batch that is refused as a whole is halved until
    the contact at fault stands alone."""
    path = "/crm/v3/objects/contacts/batch/" + ("upsert" if key else "update")
    inputs = [
        {
            "id": change.lead_id,
            # Asks for an answer item by item (207).
            "objectWriteTraceId": str(place),
            **({"idProperty": key} if key else {}),
            "properties": {names[field]: value for field, value in change.values.items()},
        }
        for place, change in enumerate(batch)
    ]
    # The same values again are the same contact.
    answer = door.call("POST", path, document={"inputs": inputs}, repeatable=True, allowed=(400, 404, 409))
    if answer.status >= 400:
        if len(batch) == 1:
            return set(), {batch[0].lead_id: answer.code or "REFUSED"}
        half = len(batch) // 2
        done, failed = _call(door, batch[:half], names, key)
        more, worse = _call(door, batch[half:], names, key)
        return done | more, failed | worse
    document = answer.document()
    if not isinstance(document, dict):
        raise CrmRefused(
            what="the answer is no object", where=f"POST {path}", remedy="Check the address of HubSpot."
        )
    return _sorted_out(document, batch, key)


def _sorted_out(
    document: Mapping[str, Any], batch: Sequence[Change], key: str | None
) -> tuple[set[str], dict[str, str]]:
    """An answer item by item: results and errors name the item by its trace id, or by its id."""
    asked = {str(place): change.lead_id for place, change in enumerate(batch)}
    leads = {change.lead_id for change in batch}
    failed: dict[str, str] = {}
    for error in document.get("errors") or []:
        context = error.get("context") or {}
        traced = [asked[str(one)] for one in _list(context.get("objectWriteTraceId")) if str(one) in asked]
        named = [str(one) for name in ("ids", "id") for one in _list(context.get(name)) if str(one) in leads]
        for lead in traced or named:
            failed[lead] = code_of(error)
    done = set()
    for result in document.get("results") or []:
        trace = result.get("objectWriteTraceId")
        held = (result.get("properties") or {}).get(key) if key else result.get("id")
        lead = asked.get(str(trace), "") if trace is not None else str(held)
        if lead in leads and lead not in failed:
            done.add(lead)
    if not document.get("errors") and len(document.get("results") or []) == len(batch):
        done = leads
    return done, failed | dict.fromkeys(leads - done - set(failed), NOT_MENTIONED)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
