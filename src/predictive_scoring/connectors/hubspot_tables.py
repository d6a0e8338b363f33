"""HubSpot's objects as the tables that `data.exports.hubspot` reads: one reading of HubSpot, whether its tables come
from a warehouse connector or from here. All columns are text, times are UTC.

Sources: HubSpot developer documentation, "CRM API: contacts" (batch read, `propertiesWithHistory`), "Email events",
"Get submissions for a form", "Associations v4", "Pipelines" (a won stage has `isClosed` true and `probability` 1.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from predictive_scoring.connectors.landing import LandedTable, Rewriting, Row
from predictive_scoring.data.profile import literal
from predictive_scoring.timeline import to_datetime

DELETED = "_fivetran_deleted"
"""The column by which the importer knows deleted rows; the name is the warehouse connector's."""
PERSONAL = frozenset(
    {
        "firstname", "lastname", "salutation", "phone", "mobilephone", "fax", "address", "address2", "zip", "message",
        "date_of_birth", "twitterhandle", "linkedinbio", "twitterbio", "photo", "hs_ip_timezone", "ip_zipcode",
        "ip_latlon", "work_email", "hs_additional_emails", "hs_linkedin_url", "hs_facebook_click_id",
        "hs_google_click_id", "hs_whatsapp_phone_number", "hs_full_name_or_email", "hs_calculated_phone_number",
        "hs_calculated_mobile_number", "hs_searchable_calculated_phone_number",
    }
)  # fmt: skip
"""Properties that are not fetched unless asked for: they identify a person and cannot be features."""
NEEDED = ("email", "createdate", "hs_merged_object_ids", "lifecyclestage")
WORTH = frozenset({"DELIVERED", "OPEN", "CLICK", "BOUNCE", "SPAMREPORT", "FORWARD", "STATUSCHANGE"})
"""E-mail events that say something about the recipient."""

CONTACT = LandedTable("contact", ("id", "property_createdate", "property_email", DELETED), ("id",))
HISTORY = LandedTable(
    "contact_property_history",
    ("contact_id", "name", "value", "timestamp"),
    ("contact_id", "name", "timestamp"),
)
EMAIL = LandedTable("email_event", ("id", "type", "recipient", "created", "filtered_event"), ("id",))
STATUS = LandedTable("email_event_status_change", ("id", "portal_subscription_status"), ("id",))
SUBMISSION = LandedTable(
    "form_submission",
    ("conversion_id", "form_id", "email", "timestamp", "title", "page_url"),
    ("conversion_id",),
    inner=True,
)
DEAL = LandedTable(
    "deal",
    (
        "deal_id",
        "property_dealstage",
        "property_pipeline",
        "property_createdate",
        "property_closedate",
        DELETED,
    ),
    ("deal_id",),
)
DEAL_HISTORY = LandedTable(
    "deal_property_history", ("deal_id", "name", "value", "timestamp"), ("deal_id", "name", "timestamp")
)
DEAL_CONTACT = LandedTable(
    "deal_contact", ("deal_id", "contact_id"), ("deal_id", "contact_id"), group="deal_id"
)
CALL = LandedTable(
    "engagement_call",
    ("engagement_id", "property_hs_timestamp", "property_hs_call_duration", DELETED),
    ("engagement_id",),
)
MEETING = LandedTable(
    "engagement_meeting",
    (
        "engagement_id",
        "property_hs_timestamp",
        "property_hs_meeting_start_time",
        "property_hs_meeting_outcome",
        DELETED,
    ),
    ("engagement_id",),
)
ENGAGEMENT_CONTACT = LandedTable(
    "engagement_contact",
    ("engagement_id", "contact_id"),
    ("engagement_id", "contact_id"),
    group="engagement_id",
)
STAGE = LandedTable("deal_pipeline_stage", ("stage_id", "pipeline_id", "closed_won"), ("stage_id",))
TABLES = (
    CONTACT, HISTORY, EMAIL, STATUS, SUBMISSION, DEAL, DEAL_HISTORY, DEAL_CONTACT, STAGE, CALL, MEETING,
    ENGAGEMENT_CONTACT,
)  # fmt: skip

Object = Mapping[str, Any]


def wanted_properties(described: Iterable[Object], asked: Iterable[str]) -> tuple[str, ...]:
    """Names of the contact properties to fetch: all that a person or a form fills in, without `PERSONAL`; or those
    asked for. What reading a contact takes (`NEEDED`) is always among them. Computed ones mean nothing in the past."""
    chosen = list(asked) or [
        str(one["name"])
        for one in described
        if not one.get("hidden")
        and not one.get("calculated")
        and not str(one.get("fieldType", "")).startswith("calculation_")
        and one["name"] not in PERSONAL
    ]
    return tuple(dict.fromkeys([*NEEDED, *sorted(chosen)]))


def contact_row(contact: Object, deleted: bool = False) -> Row:
    """A contact of `contact`."""
    properties = {f"property_{name}": value for name, value in contact.get("properties", {}).items()}
    created = contact.get("properties", {}).get("createdate") or contact.get("createdAt")
    return {
        "id": str(contact["id"]),
        **properties,
        "property_createdate": utc_text(created),
        DELETED: "true" if deleted else "false",
    }


def deleted_row(contact: Object) -> Row:
    """A contact that was deleted: its id, and the address by which `forget_deleted` finds what else to drop."""
    properties = contact.get("properties") or {}
    return {
        "id": str(contact["id"]),
        "property_createdate": utc_text(properties.get("createdate") or contact.get("createdAt")),
        "property_email": properties.get("email"),
        DELETED: "true",
    }


def history_rows(owner: str, column: str, item: Object, names: Iterable[str]) -> list[Row]:
    """Every value that the properties `names` of an object had, oldest first (HubSpot lists the newest first), so that
    of two with one time the later one stays."""
    history = item.get("propertiesWithHistory") or {}
    return [
        {
            column: owner,
            "name": name,
            "value": version.get("value"),
            "timestamp": utc_text(version.get("timestamp")),
        }
        for name in names
        for version in reversed(history.get(name) or [])
    ]


def email_rows(events: Iterable[Object]) -> dict[str, list[Row]]:
    """E-mail events, and of changes of the subscription what it became."""
    mail: list[Row] = []
    status: list[Row] = []
    for event in events:
        kind = str(event.get("type", "")).upper()
        if kind not in WORTH or "id" not in event:
            continue
        mail.append(
            {
                "id": str(event["id"]),
                "type": kind,
                "recipient": str(event.get("recipient", "")).strip().lower() or None,
                "created": utc_text(event.get("created")),
                "filtered_event": "true" if event.get("filteredEvent") else "false",
            }
        )
        if kind == "STATUSCHANGE":
            status.append(
                {
                    "id": str(event["id"]),
                    "portal_subscription_status": event.get("portalSubscriptionStatus"),
                }
            )
    return {EMAIL.name: mail, STATUS.name: status}


def submission_row(form: str, title: str, submission: Object) -> Row | None:
    """One submission of a form; None where it names no address. The page is kept without its query."""
    values = {str(one.get("name")): one.get("value") for one in submission.get("values") or []}
    address = str(values.get("email") or "").strip().lower()
    if not address:
        return None
    return {
        # An older submission has no id of its own.
        "conversion_id": str(
            submission.get("conversionId") or f"{form}:{submission.get('submittedAt')}:{address}"
        ),
        "form_id": form,
        "email": address,
        "timestamp": utc_text(submission.get("submittedAt")),
        "title": title,
        "page_url": str(submission.get("pageUrl") or "").split("?")[0].split("#")[0] or None,
    }


def deal_row(deal: Object, deleted: bool = False) -> Row:
    """A deal of `deal`."""
    properties = deal.get("properties", {})
    return {
        "deal_id": str(deal["id"]),
        "property_dealstage": properties.get("dealstage"),
        "property_pipeline": properties.get("pipeline"),
        "property_createdate": utc_text(properties.get("createdate") or deal.get("createdAt")),
        "property_closedate": utc_text(properties.get("closedate")),
        DELETED: "true" if deleted else "false",
    }


def engagement_row(table: LandedTable, item: Object, deleted: bool = False) -> Row:
    """A call or a meeting: when, how long, how it ended; never its title or notes, which speak of people."""
    properties = item.get("properties") or {}
    times = ("hs_timestamp", "hs_meeting_start_time")
    values = {
        column: properties.get(column.removeprefix("property_"))
        for column in table.columns
        if column.startswith("property_")
    }
    dated = {
        f"property_{name}": utc_text(properties.get(name)) for name in times if f"property_{name}" in values
    }
    return {
        "engagement_id": str(item["id"]),
        **values,
        **dated,
        DELETED: "true" if deleted else "false",
    }


def stage_rows(pipelines: Iterable[Object]) -> list[Row]:
    """The stages of the deal pipelines, and which of them mean won."""
    return [
        {
            "stage_id": str(stage["id"]),
            "pipeline_id": str(pipeline["id"]),
            "closed_won": "true" if _is_won(stage.get("metadata") or {}) else "false",
        }
        for pipeline in pipelines
        for stage in pipeline.get("stages") or []
    ]


def forget_deleted(rewriting: Rewriting, folder: Path, inside: Path) -> None:
    """Drop what is known of deleted contacts: history, e-mail events, submissions, and then the address itself."""
    contact = f"read_parquet({literal(str(folder / 'contact.parquet'))})"
    gone = f"SELECT id FROM {contact} WHERE {DELETED} = 'true'"
    address = "SELECT lower(trim(property_email)) FROM {} WHERE {} = '{}' AND property_email IS NOT NULL"
    lost = f"{address.format(contact, DELETED, 'true')} EXCEPT {address.format(contact, DELETED, 'false')}"
    mail = f"SELECT id FROM read_parquet({literal(str(folder / 'email_event.parquet'))}) WHERE recipient IN ({lost})"
    for file, dropped in (
        (folder / "contact_property_history.parquet", f"contact_id IN ({gone})"),
        (folder / "engagement_contact.parquet", f"contact_id IN ({gone})"),
        (folder / "email_event_status_change.parquet", f"id IN ({mail})"),
        (folder / "email_event.parquet", f"recipient IN ({lost})"),
        (inside / "form_submission.parquet", f"email IN ({lost})"),
    ):
        rewriting.without(file, dropped)
    rewriting.blank(folder / "contact.parquet", DELETED, ("id", "property_createdate", DELETED))


def link_forms(rewriting: Rewriting, folder: Path, inside: Path) -> None:
    """Write `contact_form_submission`: submissions by the contact whose address they name, without the address."""
    contact, submission = (
        literal(str(file)) for file in (folder / "contact.parquet", inside / "form_submission.parquet")
    )
    rewriting.replace(
        folder / "contact_form_submission.parquet",
        f"""
SELECT CASE WHEN contains(s.conversion_id, '@') THEN sha256(s.conversion_id) ELSE s.conversion_id END AS conversion_id,
  s.form_id, c.id AS contact_id, s."timestamp", s.title, s.page_url
FROM read_parquet({submission}) s
JOIN (SELECT lower(trim(property_email)) AS email, min(id) AS id FROM read_parquet({contact})
  WHERE property_email IS NOT NULL GROUP BY 1) c USING (email)
ORDER BY 1, 3""",
    )


def utc_text(moment: Any) -> str | None:
    """`2026-01-05 09:00:00.123` in UTC, as a warehouse connector writes it; from milliseconds or an ISO text in UTC."""
    if moment is None or moment == "":
        return None
    if isinstance(moment, int) or (isinstance(moment, str) and moment.isdigit()):
        seconds, rest = divmod(int(moment), 1000)
        return f"{to_datetime(seconds):%Y-%m-%d %H:%M:%S}.{rest:03d}"
    return str(moment).replace("T", " ").removesuffix("Z")


def _is_won(metadata: Object) -> bool:
    closed = str(metadata.get("isClosed", "")).lower() == "true"
    try:
        return closed and float(metadata.get("probability", 0)) >= 1.0
    except (TypeError, ValueError):
        return False
