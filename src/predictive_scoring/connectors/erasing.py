"""One lead out of a folder that pulls land in: its rows in the tables, in pages that wait, and its mark.

The CRM itself is not told, and its next pull brings the lead back for as long as the CRM has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from predictive_scoring.connectors import hubspot_tables, salesforce_pull
from predictive_scoring.connectors.landing import LandedTable, Rewriting, landing
from predictive_scoring.connectors.written import WrittenFile
from predictive_scoring.data.profile import literal
from predictive_scoring.errors import InvalidSetting

FORMS = LandedTable("contact_form_submission", (), ())
"""Made from others after a pull (`hubspot_tables.link_forms`)."""

_Condition = Callable[["_Folder", str], Mapping[str, str]]
"""Of a folder and the ids as SQL: by table, which of its rows are the lead's."""


# ruff: noqa: S608  every name is ours, and every value is quoted by `literal`


class _Folder:
    """The Parquet files of a folder: each table and the pages that will be part of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, name: str) -> list[Path]:
        places = (self.folder / f"{name}.parquet", self.folder / ".pull" / f"{name}.parquet")
        pages = sorted((self.folder / ".pull" / name).glob("[0-9]*.parquet"))
        return [*(place for place in places if place.exists()), *pages]

    def rows(self, name: str, *columns: str) -> str:
        """All rows of a table as SQL; none where there is no such file."""
        files = [file for file in self.files(name) if set(columns) <= set(pq.read_schema(file).names)]
        chosen = ", ".join(columns)
        if not files:
            return f"(SELECT {', '.join(f'NULL::VARCHAR AS {one}' for one in columns)} WHERE false)"
        listed = ", ".join(literal(str(file)) for file in files)
        return f"(SELECT {chosen} FROM read_parquet([{listed}], union_by_name = true))"


def _of_hubspot(folder: _Folder, ids: str) -> dict[str, str]:
    contact = folder.rows("contact", "id", "property_email")
    address = f"SELECT lower(trim(property_email)) FROM {contact} WHERE property_email IS NOT NULL AND id"
    # An address that another contact has too is that one's.
    lost = f"{address} IN ({ids}) EXCEPT {address} NOT IN ({ids})"
    mail = f"SELECT id FROM {folder.rows('email_event', 'id', 'recipient')} WHERE recipient IN ({lost})"
    return {
        "email_event_status_change": f"id IN ({mail})",
        "email_event": f"recipient IN ({lost})",
        "form_submission": f"email IN ({lost})",
        FORMS.name: f"contact_id IN ({ids})",
        "contact_property_history": f"contact_id IN ({ids})",
        "deal_contact": f"contact_id IN ({ids})",
        "engagement_contact": f"contact_id IN ({ids})",
        "contact": f"id IN ({ids})",
    }


def _of_salesforce(folder: _Folder, ids: str) -> dict[str, str]:
    lead = folder.rows("Lead", "Id", "ConvertedContactId")
    contact = f"SELECT ConvertedContactId FROM {lead} WHERE Id IN ({ids}) AND ConvertedContactId IS NOT NULL"
    person = f"IN ({ids} UNION ALL {contact})"
    return {
        "Task": f"WhoId {person}",
        "Event": f"WhoId {person}",
        "CampaignMember": f"LeadId IN ({ids}) OR ContactId IN ({contact})",
        "OpportunityContactRole": f"ContactId IN ({contact})",
        "LeadHistory": f"LeadId IN ({ids})",
        "Lead": f"Id IN ({ids}) OR MasterRecordId IN ({ids})",
    }


_SYSTEMS: dict[str, tuple[Sequence[LandedTable], _Condition]] = {
    "hubspot": (hubspot_tables.TABLES, _of_hubspot),
    "salesforce": (salesforce_pull.TABLES, _of_salesforce),
}


def forget_in_folder(system: str, folder: Path, lead_ids: Sequence[str]) -> int:
    """Remove a lead from the landing folder of `hubspot` or `salesforce` by any of its ids; how many rows went.

    Raises InvalidSetting while a pull into the folder is running and for another system, UnreadableFile."""
    if system not in _SYSTEMS:
        raise InvalidSetting(
            what=f"no connector is called {system!r}",
            where=str(folder),
            remedy="Write hubspot or salesforce.",
        )
    tables, conditions = _SYSTEMS[system]
    gone = 0
    with landing(folder, tables), Rewriting() as rewriting:
        found = _Folder(folder)
        ids = f"SELECT unnest([{', '.join(literal(one) for one in lead_ids)}]::VARCHAR[])"
        # In this order: what is found by way of the lead's own row goes before that row.
        for name, condition in conditions(found, ids).items():
            gone += sum(rewriting.without(file, condition) for file in found.files(name))
        gone += WrittenFile(folder / ".push" / "written.jsonl").forget(lead_ids)
    return gone
