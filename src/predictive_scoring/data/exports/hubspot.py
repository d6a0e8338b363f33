"""HubSpot as a warehouse connector delivers it (Fivetran's tables): contacts, their property history, e-mail events,
forms, meetings, calls and deals.

A table that is missing is left out of the union. Merged contacts live on in the contact that took them over.
"""

# ruff: noqa: E501, S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import SourceQuery
from predictive_scoring.data.exports.hubspot_deals import conversions, unused_deal_tables
from predictive_scoring.data.exports.shape import Export, ExportFile, Join, Unsafe, event_log, where
from predictive_scoring.data.profile import literal

LOOKED_FOR = (
    "HubSpot tables of a warehouse connector: contact (id, property_createdate, …), with contact_property_history, "
    "email_event, contact_form_submission, engagement_*, deal, deal_contact, deal_pipeline_stage"
)
TABLES = (
    "contact", "contact_property_history", "email_event", "email_event_open", "email_event_click", "email_event_delivered",
    "email_event_bounce", "email_event_spam_report", "email_event_status_change", "contact_form_submission",
    "engagement_contact", "engagement_meeting", "engagement_call", "engagement_email", "deal", "deal_contact",
    "deal_pipeline_stage", "deal_stage", "deal_property_history",
)  # fmt: skip

_TODAY = (
    "HubSpot keeps counting, so today's value tells what happened after the cutoff; read it from its history"
)
UNSAFE = (
    Unsafe(
        r"lifecyclestage.*|.*lead_status|.*_stage_.*|.*owner.*|.*became_.*|.*deal.*",
        "is changed by sales with the outcome",
        by_sales=True,
    ),
    Unsafe(r"(num|number)_.*|.*_num_.*|.*_count|hs_email_.*|.*(visits|views|sessions|clicks|opens)", _TODAY),
    Unsafe(r".*(score|scoring|likelihood|predictive).*|.*(revenue_attrib|conversion).*", _TODAY),
    Unsafe(r"notes_.*|.*(last|recent|latest|modified|updated|current)_.*|hs_time_.*|hs_v2_.*", _TODAY),
)
_EMAIL = {
    "DELIVERED": "email_delivered",
    "OPEN": "email_open",
    "CLICK": "email_click",
    "BOUNCE": "email_bounce",
    "SPAMREPORT": "email_spam_report",
    "FORWARD": "email_forward",
    "UNSUBSCRIBE": "email_unsubscribe",
}
_EMAIL_TABLES = {
    "DELIVERED": "email_event_delivered",
    "OPEN": "email_event_open",
    "CLICK": "email_event_click",
    "BOUNCE": "email_event_bounce",
    "SPAMREPORT": "email_event_spam_report",
}


def recognise(files: Sequence[ExportFile]) -> Export | None:
    """The export in `files`, if there is a HubSpot contact table among them."""
    found = _roles(files)
    contact = found.get("contact")
    if contact is None:
        return None
    columns = _columns(contact)
    branches, reasons, types = _branches(found)
    candidates = conversions(found)
    sql = event_log(_persons(contact), [*branches, *(branch for _, _, branch in candidates)] or [_NOTHING])
    history = found.get("contact_property_history")
    filtered = any(" AS filtered_event" in branch for branch in branches)
    notes = [*unused_deal_tables(found)]
    if "email_event" in found and not _addresses(contact):
        notes.append("The contacts have no e-mail column, so no e-mail event finds its contact.")
    return Export(
        "HubSpot",
        tuple(file.path.name for file in found.values()),
        columns,
        lambda chosen: SourceQuery(
            _leads(contact, columns, chosen),
            {"contact": contact.path},
            _lead_reasons(contact),
            local_times=True,
        ),
        SourceQuery(sql, _named(sql, found), (*_person_reasons(contact), *reasons), local_times=True),
        types,
        tuple((name, why) for name, why, _ in candidates),
        UNSAFE,
        None if history is None else lambda chosen: _changes(contact, history, chosen),
        excluded={name: {"filtered_event": ("true",)} for name in ("email_open", "email_click")}
        if filtered
        else {},
        joins=_joins(found, contact),
        notes=tuple(notes),
    )


_NOTHING = "SELECT '' AS event_id, '' AS person, '' AS event_type, CAST(NULL AS TIMESTAMP) AS occurred_at WHERE false"


def _roles(files: Sequence[ExportFile]) -> dict[str, ExportFile]:
    found = {}
    for file in files:
        stem = re.sub(r"^hubspot_+|_data$", "", file.path.stem.casefold())
        if stem in TABLES:
            found[stem] = file
    contact = found.get("contact")
    if contact is not None and not (contact.find("id") and contact.find(*_CREATED)):
        del found["contact"]
    return dict(sorted(found.items(), key=lambda pair: TABLES.index(pair[0])))


_CREATED = ("property_createdate", "createdate", "property_created_at", "created_at")
_DELETED = ("_fivetran_deleted", "is_deleted")
_MERGED = ("property_hs_merged_object_ids", "property_hs_calculated_merged_vids", "hs_merged_object_ids")


def _columns(contact: ExportFile) -> dict[str, str]:
    """Names of properties, as their history calls them -> columns."""
    taken = {contact.find("id"), contact.find(*_CREATED), contact.find(*_MERGED), "portal_id"}
    named = {
        column.removeprefix("property_"): column
        for column in contact.columns
        if column not in taken and not column.startswith("_fivetran")
    }
    return {name: column for name, column in named.items() if name not in ("id", "createdate", "created_at")}


def _moved(contact: ExportFile) -> str:
    """Ids that were merged away, each with the contact that took it over; a merge of merges in two steps."""
    column = contact.find(*_MERGED)
    rows = (
        f"""SELECT trim(regexp_extract(old, '^[^:.]*')) AS old_id, {contact.text("id")} AS new_id
    FROM (SELECT *, unnest(string_split({contact.text(*_MERGED)}, ';')) AS old FROM present)
    WHERE trim(regexp_extract(old, '^[^:.]*')) NOT IN ('', {contact.text("id")})"""
        if column
        else "SELECT '' AS old_id, '' AS new_id WHERE false"
    )
    return f"""
present AS (SELECT * FROM contact {where(contact.unless(*_DELETED))}),
merge AS (SELECT old_id, max(new_id) AS new_id FROM (
    {rows}) GROUP BY 1),
moved AS (SELECT one.old_id, coalesce(two.new_id, one.new_id) AS new_id FROM merge one LEFT JOIN merge two
  ON two.old_id = one.new_id AND two.new_id <> one.old_id)""".strip()


def _leads(contact: ExportFile, columns: Mapping[str, str], chosen: Sequence[str]) -> str:
    others = "".join(f",\n  c.{quoted(columns[name])} AS {quoted(name)}" for name in chosen)
    created = contact.moment(*_CREATED, alias="c", kind="TIMESTAMP")
    return f"""
WITH {_moved(contact)},
earlier AS (SELECT new_id, min({created}) AS created FROM moved JOIN present c ON {contact.text("id", alias="c")} = old_id
  GROUP BY 1)
SELECT {contact.text("id", alias="c")} AS lead_id, least({created}, earlier.created) AS created_at{others}
FROM present c LEFT JOIN earlier ON new_id = {contact.text("id", alias="c")}
WHERE {created} IS NOT NULL AND {contact.text("id", alias="c")} NOT IN (SELECT old_id FROM moved)
"""


def _lead_reasons(contact: ExportFile) -> tuple[str, ...]:
    reasons = ["contact: every contact that was not deleted. The connector writes times in UTC."]
    if contact.find(*_MERGED):
        reasons.append(
            f"Merged contacts ({contact.find(*_MERGED)}) are one lead, created when the first of them was."
        )
    return tuple(reasons)


def _addresses(contact: ExportFile) -> list[str]:
    return [
        column
        for column in contact.columns
        if re.fullmatch(r"(property_)?(work_|hs_additional_)?emails?(_\d+|_address)?", column.casefold())
    ]


def _persons(contact: ExportFile) -> str:
    """`person`: contact ids and e-mail addresses (or their hashes, as in `recipient`) -> lead."""
    addresses = "".join(
        f"\n  UNION ALL SELECT lower(trim(unnest(string_split(CAST({quoted(column)} AS VARCHAR), ';')))), "
        f"{contact.text('id')} FROM present"
        for column in _addresses(contact)
    )
    return f"""
{_moved(contact)},
person AS (
  SELECT person_id, min(coalesce(new_id, contact_id)) AS lead_id FROM (
  SELECT {contact.text("id")} AS person_id, {contact.text("id")} AS contact_id FROM present
  UNION ALL SELECT old_id, new_id FROM moved{addresses})
  LEFT JOIN moved ON old_id = contact_id
  WHERE person_id <> '' GROUP BY 1
)"""


def _person_reasons(contact: ExportFile) -> tuple[str, ...]:
    reasons = [
        "One log from all tables; what was deleted is left out, and so is what belongs to no contact of the export."
    ]
    columns = _addresses(contact)
    if columns:
        reasons.append(
            f"An e-mail event belongs to the contact whose {' or '.join(columns)} is its `recipient`: addresses or hashes, "
            "as long as both sides are written alike."
        )
    return tuple(reasons)


def _branches(found: Mapping[str, ExportFile]) -> tuple[list[str], list[str], tuple[str, ...]]:
    """What contacts did, by table: the branches of the union, their reasons and event types."""
    branches: list[str] = []
    reasons: list[str] = []
    types: list[str] = []
    for read in (_emails, _forms, _engagements):
        more, why, kinds = read(found)
        branches += more
        reasons += why
        types += kinds
    return branches, reasons, tuple(types)


def _emails(found: Mapping[str, ExportFile]) -> tuple[list[str], list[str], list[str]]:
    mail = found.get("email_event")
    if mail is None or not mail.has("id", "created", "recipient"):
        return [], [], []
    kinds = [f"\n    WHEN {literal(kind)} THEN {literal(name)}" for kind, name in _EMAIL.items()]
    types = list(_EMAIL.values())
    if mail.has("type"):
        kind = f"upper({mail.text('type', alias='e')})"
    else:
        present = [(kind, table) for kind, table in _EMAIL_TABLES.items() if table in found]
        cases = " ".join(
            f"WHEN {mail.text('id', alias='e')} IN (SELECT {found[table].text('id')} FROM {table}) THEN '{kind}'"
            for kind, table in present
        )
        kind, types = f"CASE {cases} END" if cases else "''", [_EMAIL[kind] for kind, _ in present]
    changed, joined = found.get("email_event_status_change"), ""
    left = ""
    if changed is not None and changed.has("id", "portal_subscription_status"):
        joined = f"\nLEFT JOIN email_event_status_change s ON {changed.text('id', alias='s')} = {mail.text('id', alias='e')}"
        left = f"WHEN upper({changed.text('portal_subscription_status', alias='s')}) = 'UNSUBSCRIBED' THEN 'email_unsubscribe'\n    "
        types.append("email_unsubscribe")
    given = ""
    reasons = [
        "email_event: what the recipient did, and what was delivered. SENT, PROCESSED, DROPPED and DEFERRED say nothing "
        "about the person."
    ]
    if mail.has("filtered_event"):
        given = f",\n  lower({mail.text('filtered_event', alias='e')}) AS filtered_event"
        reasons.append(
            "`filtered_event` marks opens and clicks by mail scanners and by your own office; `events` below excludes them."
        )
    branch = f"""
SELECT 'email:' || {mail.text("id", alias="e")} AS event_id, lower(trim({mail.text("recipient", alias="e")})) AS person,
  CASE {left}ELSE CASE {kind}{"".join(kinds)} END END AS event_type,
  {mail.moment("created", alias="e", kind="TIMESTAMP")} AS occurred_at{given}
FROM email_event e{joined}"""
    if not left:
        branch = branch.replace("CASE ELSE CASE", "CASE").replace(
            " END END AS event_type", " END AS event_type"
        )
    return [branch], reasons, list(dict.fromkeys(types))


def _forms(found: Mapping[str, ExportFile]) -> tuple[list[str], list[str], list[str]]:
    form = found.get("contact_form_submission")
    if form is None or not form.has("contact_id", "timestamp"):
        return [], [], []
    key = " || ':' || ".join(
        [f"coalesce({form.text('conversion_id')}, '')", form.text("contact_id"), form.text("timestamp")]
    )
    title = f"lower(coalesce({form.text('title')}, '') || ' ' || coalesce({form.text('page_url')}, ''))"
    branch = f"""
SELECT 'form:' || {key} AS event_id, {form.text("contact_id")} AS person,
  CASE WHEN regexp_matches({title}, '\\bdemo\\b') THEN 'demo_request' ELSE 'form_submit' END AS event_type,
  {form.moment("timestamp", kind="TIMESTAMP")} AS occurred_at
FROM contact_form_submission"""
    why = "contact_form_submission: each form; one whose title or page says demo is a demo request."
    return [branch], [why], ["form_submit", "demo_request"]


def _engagements(found: Mapping[str, ExportFile]) -> tuple[list[str], list[str], list[str]]:
    """Meetings, calls and answers to e-mails, for each contact that took part."""
    link = found.get("engagement_contact")
    if link is None or not link.has("engagement_id", "contact_id"):
        return [], [], []
    branches, reasons, types = [], [], []
    started = ("property_hs_meeting_start_time", "start_time", "property_hs_timestamp", "timestamp")
    kinds = {
        "engagement_meeting": ("meeting", started, "Not held (cancelled, no show, rescheduled) are left out."),
        "engagement_call": ("call", ("property_hs_timestamp", "timestamp", "property_hs_createdate"), ""),
        "engagement_email": ("email_reply", ("property_hs_timestamp", "timestamp", "property_hs_createdate"),
                             "Only incoming e-mails: those sent are acts of sales."),
    }  # fmt: skip
    for table, (name, times, why) in kinds.items():
        file = found.get(table)
        direction = ("property_hs_email_direction", "direction")
        if file is None or not file.has("engagement_id") or not file.find(*times):
            continue
        if table == "engagement_email" and not file.find(*direction):
            continue
        conditions = [file.unless(*_DELETED, alias="t"), link.unless(*_DELETED, alias="k")]
        if table == "engagement_email":
            conditions.append(f"upper({file.text(*direction, alias='t')}) LIKE 'INCOMING%'")
        outcome = ("property_hs_meeting_outcome", "meeting_outcome")
        if table == "engagement_meeting" and file.find(*outcome):
            held = f"upper(coalesce({file.text(*outcome, alias='t')}, ''))"
            conditions.append(f"{held} NOT IN ('CANCELED', 'CANCELLED', 'NO_SHOW', 'NO SHOW', 'RESCHEDULED')")
        seconds = file.number("property_hs_call_duration", "duration_milliseconds", alias="t")
        given = (
            f",\n  {seconds} / 1000 AS duration_seconds"
            if table == "engagement_call" and "NULL" not in seconds
            else ""
        )
        branches.append(f"""
SELECT '{name}:' || {file.text("engagement_id", alias="t")} || ':' || {link.text("contact_id", alias="k")} AS event_id,
  {link.text("contact_id", alias="k")} AS person, '{name}' AS event_type,
  {file.moment(*times, alias="t", kind="TIMESTAMP")} AS occurred_at{given}
FROM {table} t JOIN engagement_contact k
  ON {link.text("engagement_id", alias="k")} = {file.text("engagement_id", alias="t")}
{where(*conditions)}""")
        reasons.append(f"{table}: one event for each contact that took part. {why}".strip())
        types.append(name)
    return branches, reasons, types


def _changes(contact: ExportFile, history: ExportFile, chosen: Sequence[str] | None) -> SourceQuery:
    name = history.text("name", "property_name")
    # Hashed names are no names of properties.
    which = f"regexp_full_match({name}, '[A-Za-z][A-Za-z0-9_]*')"
    if chosen is not None:
        which = f"{name} IN ({', '.join(literal(one) for one in chosen)})"
    sql = f"""
WITH {_persons(contact).strip()}
SELECT person.lead_id, {name} AS attribute, {history.text("value")} AS value,
  {history.moment("timestamp", "timestamp_instant", kind="TIMESTAMP")} AS occurred_at
FROM contact_property_history JOIN person ON person_id = {history.text("contact_id")}
WHERE {which} AND {history.moment("timestamp", "timestamp_instant", kind="TIMESTAMP")} IS NOT NULL
"""
    why = "contact_property_history: every value that a property had, from when on."
    return SourceQuery(
        sql, {"contact": contact.path, "contact_property_history": history.path}, (why,), local_times=True
    )


def _joins(found: Mapping[str, ExportFile], contact: ExportFile) -> tuple[Join, ...]:
    keys = {
        "email_event": "lower(trim({}))", "contact_form_submission": "{}", "engagement_contact": "{}", "deal_contact": "{}",
        "contact_property_history": "{}",
    }  # fmt: skip
    return tuple(
        Join(
            found[name].path.name,
            f"WITH {_persons(contact)} SELECT person_id IS NOT NULL AS joined FROM (SELECT "
            f"{key.format(found[name].text('recipient' if name == 'email_event' else 'contact_id'))} AS who FROM {name}) "
            "LEFT JOIN person ON person_id = who WHERE who IS NOT NULL",
            {"contact": contact.path, name: found[name].path},
        )
        for name, key in keys.items()
        if name in found
    )


def _named(sql: str, found: Mapping[str, ExportFile]) -> dict[str, Path]:
    """The files that the query reads."""
    return {name: file.path for name, file in found.items() if re.search(rf"\b(FROM|JOIN) {name}\b", sql)}
