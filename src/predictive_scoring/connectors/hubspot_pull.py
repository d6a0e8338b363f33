"""From HubSpot into tables: contacts with the history of their properties, e-mail events, form submissions, deals,
calls and meetings.

Sources (HubSpot developer documentation): "Search the CRM" (`POST /crm/v3/objects/{object}/search`: 200 results a
page, no more than 10,000 for one query, 5 requests a second); "Contacts" (batch read: 100 inputs, 50 with history);
"Email events" (`GET /email/public/v1/events`: newest first, 1,000 a page, `offset` is short-lived); "Get submissions
for a form" (50 a page, newest first); "Calls", "Meetings"; "Associations v4" (batch read, `paging.next.after` for each
object); "Pipelines".

No query ever meets the 10,000: each page is a window of its own, what was changed in the time asked for **and** has a
greater id than the last one. Paging by `after` through a search would also leave records out, because one that changes
meanwhile leaves the result and shifts the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from predictive_scoring.connectors import hubspot_tables as tables
from predictive_scoring.connectors.http import HttpDoor
from predictive_scoring.connectors.landing import LandedTable, Page, Row, Stage, Window
from predictive_scoring.errors import CrmRefused

SEARCH_PAGE = 200
READ_WITH_HISTORY = 50
ASSOCIATIONS = 100
EMAIL_PAGE = 1000
FORM_PAGE = 50
LIST_PAGE = 100
OVERLAP = 3600
"""Seconds that are fetched twice: a search shows a change, and the log an e-mail event, only after a moment."""

Position = Mapping[str, Any] | None


def hubspot_stages(door: HttpDoor, window: Window, properties: Sequence[str] = ()) -> dict[str, Stage]:
    """What to fetch, by name, in order. `properties` are the contact properties asked for; all useful ones without."""
    return {
        "pipelines": lambda _: _pipelines(door),
        "contacts": lambda position: _contacts(door, window, properties, position),
        "deleted contacts": lambda position: _deleted(door, position),
        "deals": lambda position: _deals(door, window, position),
        "deleted deals": lambda position: _deleted_deals(door, position),
        "calls": lambda position: _engagements(door, "calls", tables.CALL, window, position),
        "deleted calls": lambda position: _deleted_engagements(door, "calls", tables.CALL, position),
        "meetings": lambda position: _engagements(door, "meetings", tables.MEETING, window, position),
        "deleted meetings": lambda position: _deleted_engagements(door, "meetings", tables.MEETING, position),
        "forms": lambda position: _forms(door, window, position),
        "e-mail events": lambda position: _emails(door, window, position),
    }


def _pipelines(door: HttpDoor) -> Iterator[Page]:
    found = door.get("/crm/v3/pipelines/deals").document()
    yield {tables.STAGE.name: tables.stage_rows(found["results"])}, {}


def _contacts(door: HttpDoor, window: Window, asked: Sequence[str], position: Position) -> Iterator[Page]:
    described = door.get("/crm/v3/properties/contacts").document()["results"]
    names = tables.wanted_properties(described, asked)
    # The address needs no history, and a copy of it for every change would help nobody.
    tracked = [name for name in names if name not in ("email", "createdate", "hs_merged_object_ids")]
    for ids, place in _changed(door, "contacts", "lastmodifieddate", window, position):
        contacts, history = [], []
        for item in _read(door, "contacts", ids, names, tracked):
            contacts.append(tables.contact_row(item))
            history += tables.history_rows(str(item["id"]), "contact_id", item, tracked)
        yield {tables.CONTACT.name: contacts, tables.HISTORY.name: history}, place


def _deleted(door: HttpDoor, position: Position) -> Iterator[Page]:
    for results, place in _listed(door, "contacts", position):
        yield {tables.CONTACT.name: [tables.deleted_row(item) for item in results]}, place


def _deals(door: HttpDoor, window: Window, position: Position) -> Iterator[Page]:
    names = ("dealstage", "pipeline", "createdate", "closedate")
    for ids, place in _changed(door, "deals", "hs_lastmodifieddate", window, position):
        deals, history = [], []
        for item in _read(door, "deals", ids, names, ("dealstage",)):
            deals.append(tables.deal_row(item))
            history += tables.history_rows(str(item["id"]), "deal_id", item, ("dealstage",))
        links: list[Row] = [
            {"deal_id": deal, "contact_id": contact}
            for deal, contacts in _linked(door, "deals", ids).items()
            # A deal without contacts is a row without one, so that it replaces the contacts it had.
            for contact in (contacts or [None])
        ]
        rows = {
            tables.DEAL.name: deals,
            tables.DEAL_HISTORY.name: history,
            tables.DEAL_CONTACT.name: links,
        }
        yield rows, place


def _deleted_deals(door: HttpDoor, position: Position) -> Iterator[Page]:
    for results, place in _listed(door, "deals", position):
        yield {tables.DEAL.name: [tables.deal_row(item, deleted=True) for item in results]}, place


def _engagements(
    door: HttpDoor, kind: str, table: LandedTable, window: Window, position: Position
) -> Iterator[Page]:
    names = [name.removeprefix("property_") for name in table.columns if name.startswith("property_")]
    for ids, place in _changed(door, kind, "hs_lastmodifieddate", window, position):
        rows = [tables.engagement_row(table, item) for item in _read(door, kind, ids, names, ())]
        links: list[Row] = [
            {"engagement_id": one, "contact_id": contact}
            for one, contacts in _linked(door, kind, ids).items()
            for contact in (contacts or [None])
        ]
        yield {table.name: rows, tables.ENGAGEMENT_CONTACT.name: links}, place


def _deleted_engagements(door: HttpDoor, kind: str, table: LandedTable, position: Position) -> Iterator[Page]:
    for results, place in _listed(door, kind, position):
        yield {table.name: [tables.engagement_row(table, item, deleted=True) for item in results]}, place


def _changed(
    door: HttpDoor, kind: str, changed: str, window: Window, position: Position
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Ids of the objects that changed within the window, by pages in the order of ids."""
    last = str((position or {}).get("last", "0"))
    while True:
        filters = [
            {"propertyName": changed, "operator": "GTE", "value": str(1000 * window.since)},
            {"propertyName": changed, "operator": "LT", "value": str(1000 * window.until)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": last},
        ]
        body = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": ["hs_object_id"],
            "limit": SEARCH_PAGE,
        }
        answer = door.call(
            "POST", f"/crm/v3/objects/{kind}/search", document=body, repeatable=True
        ).document()
        ids = [str(item["id"]) for item in answer["results"]]
        if not ids:
            return
        if int(ids[-1]) <= int(last):
            raise CrmRefused(
                what="HubSpot did not sort by record id, so a page would come again for ever",
                where=f"POST /crm/v3/objects/{kind}/search",
                remedy="Report it with the version of this product.",
            )
        last = ids[-1]
        yield ids, {"last": last}
        if len(ids) < SEARCH_PAGE:
            return


def _read(
    door: HttpDoor, kind: str, ids: Sequence[str], names: Sequence[str], tracked: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Objects by id with properties and their history, in the order of ids."""
    for start in range(0, len(ids), READ_WITH_HISTORY):
        part = ids[start : start + READ_WITH_HISTORY]
        body = {
            "inputs": [{"id": one} for one in part],
            "properties": list(names),
            "propertiesWithHistory": list(tracked),
        }
        # 207 where one of them was deleted meanwhile: it then comes with the deleted ones.
        answer = door.call("POST", f"/crm/v3/objects/{kind}/batch/read", document=body, repeatable=True)
        yield from sorted(answer.document()["results"], key=lambda item: int(item["id"]))


def _linked(door: HttpDoor, kind: str, ids: Sequence[str]) -> dict[str, list[str | None]]:
    """Contacts of each of these objects."""
    answer: dict[str, list[str | None]] = {one: [] for one in ids}
    path = f"/crm/v4/associations/{kind}/contacts/batch/read"
    waiting: list[dict[str, str]] = [{"id": one} for one in ids]
    while waiting:
        part, waiting = waiting[:ASSOCIATIONS], waiting[ASSOCIATIONS:]
        found = door.call("POST", path, document={"inputs": part}, repeatable=True).document()
        for result in found["results"]:
            source = str(result["from"]["id"])
            answer.setdefault(source, []).extend(str(to["toObjectId"]) for to in result["to"])
            after = ((result.get("paging") or {}).get("next") or {}).get("after")
            if after:
                waiting.append({"id": source, "after": str(after)})
    return answer


def _listed(
    door: HttpDoor, kind: str, position: Position
) -> Iterator[tuple[list[Mapping[str, Any]], dict[str, Any]]]:
    """The archived objects; HubSpot lists them for 90 days, and not by date."""
    after = (position or {}).get("after")
    if position is not None and not after:
        return
    while True:
        query = {"archived": "true", "limit": str(LIST_PAGE)} | ({"after": str(after)} if after else {})
        answer = door.get(f"/crm/v3/objects/{kind}", query).document()
        after = _after(answer)
        yield answer["results"], {"after": after}
        if not after:
            return


def _forms(door: HttpDoor, window: Window, position: Position) -> Iterator[Page]:
    """Submissions form by form, each newest first until before the window."""
    place = dict(position or {"form": "", "after": None})
    for form, title in sorted(_form_titles(door).items()):
        if form < place["form"] or (form == place["form"] and place["after"] is None):
            continue
        after = place["after"] if form == place["form"] else None
        while True:
            query = {"limit": str(FORM_PAGE)} | ({"after": str(after)} if after else {})
            answer = door.get(f"/form-integrations/v1/submissions/forms/{form}", query).document()
            found = answer["results"]
            within = [
                one for one in found if 1000 * window.since <= int(one["submittedAt"]) < 1000 * window.until
            ]
            after = _after(answer)
            if found and int(found[-1]["submittedAt"]) < 1000 * window.since:
                after = None
            rows = [row for one in within if (row := tables.submission_row(form, title, one))]
            yield {tables.SUBMISSION.name: rows}, {"form": form, "after": after}
            if after is None:
                break


def _form_titles(door: HttpDoor) -> dict[str, str]:
    titles: dict[str, str] = {}
    after = None
    while True:
        query = {"limit": str(LIST_PAGE)} | ({"after": after} if after else {})
        answer = door.get("/marketing/v3/forms", query).document()
        titles |= {str(form["id"]): str(form.get("name") or "") for form in answer["results"]}
        after = _after(answer)
        if not after:
            return titles


def _emails(door: HttpDoor, window: Window, position: Position) -> Iterator[Page]:
    """E-mail events, newest first. A later run does not use the short-lived `offset`: it asks for what is not newer
    than the oldest event so far, which comes again and is known by its id."""
    until = int((position or {}).get("until", 1000 * window.until - 1))
    offset = None
    while True:
        query = {
            "startTimestamp": str(1000 * window.since),
            "endTimestamp": str(until),
            "limit": str(EMAIL_PAGE),
        }
        answer = door.get(
            "/email/public/v1/events", query | ({"offset": offset} if offset else {})
        ).document()
        events = answer.get("events") or []
        oldest = min((int(event["created"]) for event in events), default=until)
        yield tables.email_rows(events), {"until": oldest}
        offset = answer.get("offset")
        if not answer.get("hasMore") or not offset:
            return


def _after(answer: Mapping[str, Any]) -> str | None:
    """Where the next page of a list begins."""
    after = ((answer.get("paging") or {}).get("next") or {}).get("after")
    return None if after is None else str(after)
