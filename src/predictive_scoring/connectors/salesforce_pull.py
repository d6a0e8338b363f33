"""From Salesforce into tables, one per object, as `data.exports.salesforce` reads them: leads with the history of their
fields, tasks, events, campaign members, opportunities.

Sources: Salesforce REST API Developer Guide, "QueryAll" (deleted rows too) and "Query More Results" (`done`,
`nextRecordsUrl`, 2,000 rows a page), "sObject Describe"; Object Reference, "LeadHistory" (`Field`, `OldValue`,
`NewValue`, `CreatedDate`). The locator of a query does not live for ever, so a pull that goes on asks for greater ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from predictive_scoring.connectors.http import HttpDoor
from predictive_scoring.connectors.landing import LandedTable, Page, Row, Stage, Window
from predictive_scoring.errors import CrmRefused
from predictive_scoring.timeline import format_instant

VERSION = "v62.0"
OVERLAP = 600
"""Seconds that are fetched twice: a transaction that began earlier may show its rows later."""
PERSONAL = frozenset(
    {
        "FirstName", "LastName", "MiddleName", "Suffix", "Salutation", "Name", "Phone", "MobilePhone", "Fax", "Street",
        "PostalCode", "Latitude", "Longitude", "GeocodeAccuracy", "PhotoUrl", "Description", "Jigsaw",
        "JigsawContactId", "IndividualId",
    }
)  # fmt: skip
"""Fields of a lead that are not fetched unless asked for: they identify a person and cannot be features."""
UNREAD = frozenset(
    {"address", "location", "base64", "textarea", "encryptedstring", "complexvalue", "anyType"}
)
"""Types of fields that hold no attribute."""


@dataclass(frozen=True)
class Fetched:
    """An object of Salesforce, the fields that are read of it (those that exist), and the one that dates a change.
    Without an `optional` one the pull goes on."""

    name: str
    fields: tuple[str, ...]
    changed: str = "SystemModstamp"
    condition: str = ""
    optional: bool = True

    @property
    def table(self) -> LandedTable:
        """Its table; the rows of one id are the newest."""
        return LandedTable(self.name, self.fields, ("Id",))


LEAD = Fetched(
    "Lead",
    (
        "Id", "IsDeleted", "MasterRecordId", "CreatedDate", "IsConverted", "ConvertedDate", "ConvertedContactId",
        "ConvertedOpportunityId", "Email",
    ),
    optional=False,
)  # fmt: skip
OBJECTS = (
    LEAD,
    Fetched(
        "LeadHistory",
        ("Id", "IsDeleted", "LeadId", "Field", "OldValue", "NewValue", "CreatedDate"),
        changed="CreatedDate",
    ),
    Fetched(
        "Task",
        (
            "Id", "IsDeleted", "WhoId", "Status", "TaskSubtype", "Type", "ActivityDate", "CompletedDateTime",
            "CreatedDate", "CallDurationInSeconds",
        ),
        condition="WhoId != null",
    ),
    Fetched(
        "Event",
        (
            "Id", "IsDeleted", "WhoId", "StartDateTime", "ActivityDateTime", "ActivityDate", "DurationInMinutes",
            "CreatedDate",
        ),
        condition="WhoId != null",
    ),
    Fetched(
        "CampaignMember",
        (
            "Id", "IsDeleted", "CampaignId", "LeadId", "ContactId", "Status", "HasResponded", "FirstRespondedDate",
            "CreatedDate",
        ),
    ),
    Fetched("Campaign", ("Id", "IsDeleted", "Name", "Type", "IsActive", "NumberSent")),
    Fetched("Opportunity", ("Id", "IsDeleted", "StageName", "IsWon", "IsClosed", "CloseDate", "CreatedDate")),
    Fetched("OpportunityContactRole", ("Id", "IsDeleted", "OpportunityId", "ContactId")),
)  # fmt: skip
TABLES = tuple(fetched.table for fetched in OBJECTS)


def salesforce_stages(door: HttpDoor, window: Window, fields: Sequence[str] = ()) -> dict[str, Stage]:
    """What to fetch, by name, in order. `fields` are the fields of a lead asked for; all useful ones without."""
    return {one.name: partial(_object, door, window, one, tuple(fields)) for one in OBJECTS}


def _object(
    door: HttpDoor,
    window: Window,
    fetched: Fetched,
    asked: tuple[str, ...],
    position: Mapping[str, Any] | None,
) -> Iterator[Page]:
    described = door.get(f"/services/data/{VERSION}/sobjects/{fetched.name}/describe", allowed=(404,))
    names = [] if described.status == 404 else _fields(fetched, described.document()["fields"], asked)
    if "Id" not in names:
        if not fetched.optional:
            raise CrmRefused(
                what=f"the app may not see the object {fetched.name}",
                where="Salesforce",
                remedy=f"Give its user read access to {fetched.name}.",
            )
        return
    query = _query(fetched, names, window, (position or {}).get("last"))
    answer = door.get(f"/services/data/{VERSION}/queryAll", {"q": query}).document()
    while True:
        rows = [_row(record, names) for record in answer["records"]]
        if rows:
            yield {fetched.name: rows}, {"last": rows[-1]["Id"]}
        if answer.get("done", True):
            return
        answer = door.get(str(answer["nextRecordsUrl"])).document()


def _fields(fetched: Fetched, described: Sequence[Mapping[str, Any]], asked: tuple[str, ...]) -> list[str]:
    kinds = {str(field["name"]): str(field.get("type", "")) for field in described}
    names = [name for name in fetched.fields if name in kinds]
    if fetched is LEAD:
        chosen = asked or [
            name for name, kind in kinds.items() if kind not in UNREAD and name not in PERSONAL
        ]
        names += sorted(name for name in chosen if name in kinds and name not in names)
    return names


def _query(fetched: Fetched, names: Sequence[str], window: Window, last: str | None) -> str:
    conditions = [
        f"{fetched.changed} >= {format_instant(window.since)}",
        f"{fetched.changed} < {format_instant(window.until)}",
        fetched.condition,
        f"Id > '{last}'" if last else "",
    ]
    said = " AND ".join(condition for condition in conditions if condition)
    # Every name comes from the description of the object, every value from here.
    return f"SELECT {', '.join(names)} FROM {fetched.name} WHERE {said} ORDER BY Id"  # noqa: S608


def _row(record: Mapping[str, Any], names: Sequence[str]) -> Row:
    return {name: _text(record.get(name)) for name in names}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
