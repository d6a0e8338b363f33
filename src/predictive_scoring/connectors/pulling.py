"""One pull, from the first request to the tables: what the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictive_scoring.connectors import hubspot_pull, hubspot_tables, salesforce_pull
from predictive_scoring.connectors.http import HttpDoor, as_published
from predictive_scoring.connectors.landing import Derive, Landing, Rewriting, Window, landing
from predictive_scoring.data.profile import literal

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pulled:
    """What a pull fetched: its window, and the rows that each table has now."""

    window: Window
    rows: Mapping[str, int]


def pull_hubspot(
    door: HttpDoor, folder: Path, first: int = 0, properties: Sequence[str] = (), say: Say = lambda _: None
) -> Pulled:
    """Fetch from HubSpot into `folder` what changed since the last pull, or since `first` (epoch seconds).

    Raises CrmRefused, CrmUnavailable, UnreadableFile, and InvalidSetting while another pull is running; run again, it
    goes on where it stopped."""

    def derive(rewriting: Rewriting, tables: Path, inside: Path) -> None:
        hubspot_tables.forget_deleted(rewriting, tables, inside)
        hubspot_tables.link_forms(rewriting, tables, inside)

    with landing(folder, hubspot_tables.TABLES) as landed:
        window = landed.begin(int(door.world.now()), first, hubspot_pull.OVERLAP, properties)
        with as_published("HubSpot"):
            landed.fetch(hubspot_pull.hubspot_stages(door, window, properties), say)
        return _finished(landed, window, derive)


def pull_salesforce(
    door: HttpDoor, folder: Path, first: int = 0, fields: Sequence[str] = (), say: Say = lambda _: None
) -> Pulled:
    """Fetch from Salesforce into `folder`; as `pull_hubspot`."""

    def derive(rewriting: Rewriting, tables: Path, _inside: Path) -> None:
        lead = tables / "Lead.parquet"
        gone = f"SELECT Id FROM read_parquet({literal(str(lead))}) WHERE IsDeleted = 'true'"
        rewriting.without(tables / "LeadHistory.parquet", f"LeadId IN ({gone})")
        # A merged lead is deleted too, and leads to the one that stays.
        rewriting.blank(lead, "IsDeleted", ("Id", "IsDeleted", "MasterRecordId", "CreatedDate"))

    with landing(folder, salesforce_pull.TABLES) as landed:
        window = landed.begin(int(door.world.now()), first, salesforce_pull.OVERLAP, fields)
        with as_published("Salesforce"):
            landed.fetch(salesforce_pull.salesforce_stages(door, window, fields), say)
        return _finished(landed, window, derive)


def _finished(landed: Landing, window: Window, derive: Derive) -> Pulled:
    return Pulled(window, landed.finish(derive))
