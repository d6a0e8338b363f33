"""Salesforce: the files of a Data Loader extract or of the weekly export, one per object.

Lead.csv is the table of leads. Activities move to the contact when a lead is converted, so both ids lead back to it.
"""

# ruff: noqa: E501, S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import SourceQuery
from predictive_scoring.data.exports.shape import Export, ExportFile, Join, Unsafe, event_log, listed, where

LOOKED_FOR = (
    "Lead.csv (Id, CreatedDate, IsConverted or ConvertedDate), with Task, Event, CampaignMember, Campaign, Opportunity, "
    "LeadHistory"
)

_AFTERWARDS = "changes while sales works the lead, and only today's value exists"
UNSAFE = (
    Unsafe(r"(is)?converted.*|isunreadbyowner", "is written by the conversion itself", by_sales=True),
    Unsafe(
        r"status|rating|stage.*|owner(id)?|.*score.*|.*grade.*",
        "is changed by sales with the outcome",
        by_sales=True,
    ),
    Unsafe(
        r"last(?!name).*|first(call|email|response).*|system.*|isdeleted|masterrecordid|jigsaw.*|.*modified.*",
        _AFTERWARDS,
    ),
    Unsafe(r"activity.*|.*transfer.*|emailbounced.*|.*opportunit.*", _AFTERWARDS),
)
_DONE_TASKS = ("completed", "closed")


def recognise(files: Sequence[ExportFile]) -> Export | None:
    """The export in `files`, if one of them is Salesforce's Lead object."""
    found = _roles(files)
    lead = found.get("lead")
    if lead is None:
        return None
    branches, reasons = _branches(found)
    conversions = _conversions(found)
    tables = {name: file.path for name, file in found.items()}
    used = {name: path for name, path in tables.items() if name != "lead_history"}
    sql = event_log(_persons(lead), [*branches.values(), *(branch for _, _, branch in conversions)])
    types = tuple(
        dict.fromkeys(
            (*_TYPES_OF_BRANCH["always"], *(t for name in branches for t in _TYPES_OF_BRANCH[name]))
        )
    )
    key, created = lead.find("Id"), lead.find("CreatedDate")
    columns = {column: column for column in lead.columns if column not in (key, created)}
    history = found.get("lead_history")
    return Export(
        "Salesforce",
        tuple(file.path.name for file in found.values()),
        columns,
        lambda chosen: SourceQuery(
            _leads(lead, chosen),
            {"lead": lead.path},
            ("Lead: without deleted and merged rows. Salesforce writes times in UTC.",),
        ),
        SourceQuery(sql, _named(sql, used), (*_PERSON_REASONS, *reasons)),
        types,
        tuple((name, why) for name, why, _ in conversions),
        UNSAFE,
        None
        if history is None
        else lambda chosen: _changes(lead, history, list(columns) if chosen is None else chosen),
        joins=_joins(found, lead),
    )


def _roles(files: Sequence[ExportFile]) -> dict[str, ExportFile]:
    """The files by object, judged by their columns, because Data Loader calls every file as the user likes."""
    found: dict[str, ExportFile] = {}
    for file in files:
        role = _role(file)
        if role is not None:
            found.setdefault(role, file)
    return found


def _role(file: ExportFile) -> str | None:
    has = file.has
    if has("LeadId", "Field", "NewValue", "CreatedDate"):
        return "lead_history"
    if has("CampaignId") and (has("LeadId") or has("ContactId")) and not has("OpportunityId"):
        return "campaign_member"
    if has("OpportunityId", "ContactId"):
        return "opportunity_contact_role"
    if has("Id", "WhoId") and (has("StartDateTime") or has("ActivityDateTime") or has("EventSubtype")):
        return "event"
    if has("Id", "WhoId") and (has("Status") or has("TaskSubtype")):
        return "task"
    if has("Id", "StageName"):
        return "opportunity"
    if has("Id", "CreatedDate") and (has("IsConverted") or has("ConvertedDate") or has("ConvertedContactId")):
        return "lead"
    if has("Id", "Type") and (has("IsActive") or has("NumberSent")) and has("Name"):
        return "campaign"
    return None


def _leads(lead: ExportFile, chosen: Sequence[str]) -> str:
    others = "".join(f",\n  {quoted(name)}" for name in chosen)
    return f"""
SELECT {lead.text("Id")} AS lead_id, {lead.moment("CreatedDate")} AS created_at{others}
FROM lead
{where(lead.unless("IsDeleted"))}
"""


_PERSON_REASONS = (
    "One log from all objects. Ids are compared by their first 15 characters, as reports and exports write them "
    "differently. On conversion Salesforce moves the activities of a lead to its contact (ConvertedContactId), and on a "
    "merge to the lead that stays (MasterRecordId): both are taken back to the lead.",
)


def _persons(lead: ExportFile) -> str:
    ids = [(lead.text("Id"), lead.text("Id"), lead.unless("IsDeleted"))]
    if lead.has("ConvertedContactId"):
        ids.append((lead.text("ConvertedContactId"), lead.text("Id"), lead.unless("IsDeleted")))
    if lead.has("MasterRecordId"):
        ids.append((lead.text("Id"), lead.text("MasterRecordId"), lead.flag("IsDeleted")))
    union = "\n  UNION ALL ".join(
        f"SELECT {_short(person)} AS person_id, {who} AS lead_id FROM lead WHERE {where}"
        for person, who, where in ids
    )
    return f"""person AS (
  SELECT person_id, min(lead_id) AS lead_id FROM (
  {union})
  WHERE person_id IS NOT NULL AND lead_id IS NOT NULL GROUP BY 1
)"""


def _short(column: str) -> str:
    return f"left({column}, 15)"


_TYPES_OF_BRANCH = {
    "always": (),
    "task": ("call", "sales_email"),
    "event": ("meeting",),
    "campaign_member": ("campaign_response", "webinar_attend", "event_attend"),
}


def _branches(found: Mapping[str, ExportFile]) -> tuple[dict[str, str], list[str]]:
    """The acts that the export holds, by object, and the reasons for reading them so."""
    branches, reasons = {}, []
    if task := found.get("task"):
        kind = f"lower(coalesce({_unless_task(task)}, {task.text('Type')}, ''))"
        done = f"lower({task.text('Status')}) IN ({listed(_DONE_TASKS)})" if task.has("Status") else ""
        planned = f"greatest({task.moment('CreatedDate')}, {task.moment('ActivityDate')})"
        branches["task"] = f"""
SELECT 'task:' || {task.text("Id")} AS event_id, {_short(task.text("WhoId"))} AS person,
  CASE WHEN {kind} LIKE '%call%' THEN 'call' WHEN {kind} LIKE '%mail%' THEN 'sales_email' END AS event_type,
  coalesce({task.moment("CompletedDateTime")}, {planned}) AS occurred_at,
  {task.number("CallDurationInSeconds")} AS duration_seconds
FROM task {where(done, task.unless("IsDeleted"))}"""
        reasons.append(
            "Task: completed calls and e-mails (TaskSubtype, else Type); other tasks are notes to oneself. They happened at "
            "CompletedDateTime; without it at ActivityDate, the day it was due, but not before the row was created."
        )
    if event := found.get("event"):
        branches["event"] = f"""
SELECT 'event:' || {event.text("Id")} AS event_id, {_short(event.text("WhoId"))} AS person, 'meeting' AS event_type,
  {event.moment("StartDateTime", "ActivityDateTime", "ActivityDate")} AS occurred_at,
  60 * {event.number("DurationInMinutes")} AS duration_seconds
FROM event {where(event.unless("IsDeleted"))}"""
        reasons.append(
            "Event: a meeting counts from its start. Check: cancelled ones have to be deleted in Salesforce."
        )
    member = found.get("campaign_member")
    if member is not None and member.has("FirstRespondedDate"):
        campaign = found.get("campaign")
        kind, joined = "CAST(NULL AS VARCHAR)", ""
        if campaign is not None:
            kind = f"lower({campaign.text('Type', alias='c')})"
            joined = (
                f" LEFT JOIN campaign c ON {_short(campaign.text('Id', alias='c'))} = "
                f"{_short(member.text('CampaignId', alias='m'))}"
            )
        person = f"coalesce({member.text('LeadId', alias='m')}, {member.text('ContactId', alias='m')})"
        branches["campaign_member"] = f"""
SELECT 'member:' || {member.text("Id", alias="m")} AS event_id, {_short(person)} AS person,
  CASE WHEN {kind} LIKE '%webinar%' THEN 'webinar_attend'
    WHEN regexp_matches({kind}, 'conference|trade|seminar|event') THEN 'event_attend'
    ELSE 'campaign_response' END AS event_type,
  {member.moment("FirstRespondedDate", alias="m")} AS occurred_at
FROM campaign_member m{joined} {where(member.unless("IsDeleted", alias="m"))}"""
        reasons.append(
            "CampaignMember: a response on FirstRespondedDate; being put on a list is no act of the person. What kind of "
            "response it was is told by the type of the campaign."
        )
    return branches, reasons


def _unless_task(task: ExportFile) -> str:
    """TaskSubtype says Task for what nobody classified; then Type speaks."""
    return f"nullif({task.text('TaskSubtype')}, 'Task')"


def _conversions(found: Mapping[str, ExportFile]) -> list[tuple[str, str, str]]:
    """Event types that can be the conversion, with the reason and the branch that makes them."""
    lead, answer = found["lead"], []
    if lead.has("ConvertedDate"):
        converted = lead.flag("IsConverted") if lead.has("IsConverted") else ""
        answer.append(
            (
                "converted",
                "sales converted the lead (Lead.IsConverted) on ConvertedDate; a date counts from its midnight",
                f"""
SELECT 'converted:' || {lead.text("Id")} AS event_id, {_short(lead.text("Id"))} AS person, 'converted' AS event_type,
  {lead.moment("ConvertedDate")} AS occurred_at
FROM lead {where(converted, lead.unless("IsDeleted"))}""",
            )
        )
    deal, role = found.get("opportunity"), found.get("opportunity_contact_role")
    if deal is None or not deal.has("CloseDate"):
        return answer
    won = (
        deal.flag("IsWon", alias="o")
        if deal.has("IsWon")
        else f"lower({deal.text('StageName', alias='o')}) = 'closed won'"
    )
    if lead.has("ConvertedOpportunityId"):
        how, name, table, key, person = (
            "that the lead became (ConvertedOpportunityId)",
            "lead",
            lead,
            "ConvertedOpportunityId",
            "Id",
        )
    elif role is not None:
        how, name, table = (
            "in which the lead's contact has a role (OpportunityContactRole)",
            "opportunity_contact_role",
            role,
        )
        key, person = "OpportunityId", "ContactId"
    else:
        return answer
    who = _short(table.text(person, alias="p"))
    branch = f"""
SELECT 'won:' || {deal.text("Id", alias="o")} || ':' || {who} AS event_id, {who} AS person,
  'opportunity_won' AS event_type, {deal.moment("CloseDate", alias="o")} AS occurred_at
FROM opportunity o JOIN {name} p ON {_short(table.text(key, alias="p"))} = {_short(deal.text("Id", alias="o"))}
{where(won, deal.unless("IsDeleted", alias="o"), table.unless("IsDeleted", alias="p"))}"""
    return [*answer, ("opportunity_won", f"the opportunity {how} was won on CloseDate", branch)]


def _changes(lead: ExportFile, history: ExportFile, chosen: Sequence[str]) -> SourceQuery:
    """Every change that was tracked, and what stood there at the start."""
    names = ", ".join(f"({listed([name.casefold(), name])})" for name in chosen) or "('', '')"
    today = ", ".join(f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name in chosen)
    stacked = ", ".join(quoted(name) for name in chosen)
    still = (
        f"""
UNION ALL
SELECT lead_id, attribute, value, created_at FROM (
  UNPIVOT (SELECT {lead.text("Id")} AS lead_id, {lead.moment("CreatedDate")} AS created_at, {today}
    FROM lead {where(lead.unless("IsDeleted"))})
  ON {stacked} INTO NAME attribute VALUE value)
WHERE (lead_id, attribute) NOT IN (SELECT (lead_id, attribute) FROM change)
  AND attribute IN (SELECT attribute FROM change)"""
        if chosen
        else ""
    )
    sql = f"""
WITH tracked AS (SELECT * FROM (VALUES {names}) AS t(field, attribute)),
change AS (
  SELECT {lead.text("Id", alias="l")} AS lead_id, attribute, {history.text("OldValue", alias="h")} AS before,
    {history.text("NewValue", alias="h")} AS after, {lead.moment("CreatedDate", alias="l")} AS created_at,
    {history.moment("CreatedDate", alias="h")} AS changed_at
  FROM lead_history h
  JOIN tracked ON lower({history.text("Field", alias="h")}) = tracked.field
  JOIN lead l ON {_short(lead.text("Id", alias="l"))} = {_short(history.text("LeadId", alias="h"))}
  {where(history.unless("IsDeleted", alias="h"), lead.unless("IsDeleted", alias="l"))}
)
SELECT lead_id, attribute, after AS value, changed_at AS occurred_at FROM change
UNION ALL
SELECT lead_id, attribute, first(before ORDER BY changed_at), created_at FROM change
WHERE changed_at > created_at GROUP BY lead_id, attribute, created_at
  HAVING first(before ORDER BY changed_at) IS NOT NULL{still}
"""
    reasons = (
        "LeadHistory: each change of a tracked field, when it was made. What stood there at creation is the old value of "
        "the first change; a field that was never changed has had today's value all along.",
    )
    return SourceQuery(sql, {"lead": lead.path, "lead_history": history.path}, reasons)


def _joins(found: Mapping[str, ExportFile], lead: ExportFile) -> tuple[Join, ...]:
    persons = _persons(lead)
    keys = {
        "task": ("WhoId",),
        "event": ("WhoId",),
        "campaign_member": ("LeadId", "ContactId"),
        "lead_history": ("LeadId",),
    }
    return tuple(
        Join(
            found[name].path.name,
            f"WITH {persons} SELECT person_id IS NOT NULL AS joined FROM (SELECT coalesce("
            f"{', '.join(found[name].text(column) for column in columns)}) AS who FROM {name}) LEFT JOIN person "
            f"ON person_id = {_short('who')} WHERE who IS NOT NULL",
            {"lead": lead.path, name: found[name].path},
        )
        for name, columns in keys.items()
        if name in found
    )


def _named(sql: str, tables: Mapping[str, Path]) -> dict[str, Path]:
    """The tables that the query reads."""
    return {name: path for name, path in tables.items() if re.search(rf"\b(FROM|JOIN) {name}\b", sql)}
