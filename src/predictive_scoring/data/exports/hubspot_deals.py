"""What can be the conversion in HubSpot: a deal won, a lifecycle stage reached, a deal created."""

# ruff: noqa: E501, S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

from collections.abc import Mapping

from predictive_scoring.data.exports.shape import ExportFile, where

_DELETED = ("_fivetran_deleted", "is_deleted")


def conversions(found: Mapping[str, ExportFile]) -> list[tuple[str, str, str]]:
    """Event types that can be the conversion, the most telling first: name, how it is read, branch of the log."""
    answer = []
    won = _won(found)
    if won:
        answer.append(won)
    answer += [stage for stage in (_reached(found, "customer"), _reached(found, "opportunity")) if stage]
    deal, link = found.get("deal"), found.get("deal_contact")
    if deal and link and deal.has("deal_id") and deal.find(*_CREATED):
        branch = f"""
SELECT 'deal:' || {deal.text("deal_id", alias="d")} || ':' || {link.text("contact_id", alias="k")} AS event_id,
  {link.text("contact_id", alias="k")} AS person, 'deal_created' AS event_type,
  {deal.moment(*_CREATED, alias="d", kind="TIMESTAMP")} AS occurred_at
FROM deal d JOIN deal_contact k ON {link.text("deal_id", alias="k")} = {deal.text("deal_id", alias="d")}
{where(deal.unless(*_DELETED, alias="d"), link.unless(*_DELETED, alias="k"))}"""
        answer.append(("deal_created", "a deal was opened for the contact (deal, deal_contact)", branch))
    return answer


def unused_deal_tables(found: Mapping[str, ExportFile]) -> tuple[str, ...]:
    """Notes where the deals cannot be read."""
    if "deal" in found and "deal_contact" not in found:
        return ("Deals are not read: deal_contact, which says whose they are, is missing.",)
    return ()


_CREATED = ("property_createdate", "createdate", "property_hs_createdate", "created_at")


def _won(found: Mapping[str, ExportFile]) -> tuple[str, str, str] | None:
    """A deal is won when it first entered a stage that is `closed_won`: by its stage history, else by its close date."""
    deal, link, stages = found.get("deal"), found.get("deal_contact"), found.get("deal_pipeline_stage")
    if deal is None or link is None or not deal.has("deal_id"):
        return None
    current = ("deal_pipeline_stage_id", "property_dealstage", "dealstage")
    closed = ("property_closedate", "closedate", "property_hs_closed_won_date")
    if stages is not None and stages.has("stage_id", "closed_won"):
        winning = (
            f"(SELECT {stages.text('stage_id')} FROM deal_pipeline_stage WHERE {stages.flag('closed_won')})"
        )
        how = "a stage that deal_pipeline_stage calls closed_won"
    else:
        winning, how = "('closedwon')", "the stage closedwon"
    moments, joined, dated = [], "", []
    for table, key, value, moment, filtered in (
        ("deal_stage", "deal_id", ("value", "stage_id"), ("date_entered", "_fivetran_start"), ""),
        ("deal_property_history", "deal_id", ("value",), ("timestamp", "timestamp_instant"), "dealstage"),
    ):
        file = found.get(table)
        if file is None or not file.has(key) or not file.find(*value) or not file.find(*moment):
            continue
        named = f" AND {file.text('name')} = '{filtered}'" if filtered else ""
        joined += f"""
LEFT JOIN (SELECT {file.text(key)} AS deal_id, min({file.moment(*moment, kind="TIMESTAMP")}) AS entered FROM {table}
  WHERE {file.text(*value)} IN {winning}{named} GROUP BY 1) {table}_won ON {table}_won.deal_id = {deal.text("deal_id", alias="d")}"""
        moments.append(f"{table}_won.entered")
        dated.append(table)
    if deal.find(*current) and deal.find(*closed):
        here = f"{deal.text(*current, alias='d')} IN {winning}"
        moments.append(f"CASE WHEN {here} THEN {deal.moment(*closed, alias='d', kind='TIMESTAMP')} END")
        dated.append(str(deal.find(*closed)))
    if not moments:
        return None
    branch = f"""
SELECT 'won:' || {deal.text("deal_id", alias="d")} || ':' || {link.text("contact_id", alias="k")} AS event_id,
  {link.text("contact_id", alias="k")} AS person, 'deal_won' AS event_type,
  coalesce({", ".join(moments)}) AS occurred_at
FROM deal d JOIN deal_contact k ON {link.text("deal_id", alias="k")} = {deal.text("deal_id", alias="d")}{joined}
{where(deal.unless(*_DELETED, alias="d"), link.unless(*_DELETED, alias="k"))}"""
    why = f"a deal of the contact entered {how}; its date is taken from {', else '.join(dated)}"
    return "deal_won", why, branch.replace("coalesce(" + moments[0] + ")", moments[0])


def _reached(found: Mapping[str, ExportFile], stage: str) -> tuple[str, str, str] | None:
    """The contact first reached a lifecycle stage: by the property history, else by the date HubSpot keeps of it."""
    history, contact = found.get("contact_property_history"), found["contact"]
    if history is not None and history.has("contact_id", "name", "value", "timestamp"):
        branch = f"""
SELECT 'became_{stage}:' || {history.text("contact_id")} AS event_id, {history.text("contact_id")} AS person,
  'became_{stage}' AS event_type, min({history.moment("timestamp", kind="TIMESTAMP")}) AS occurred_at
FROM contact_property_history
WHERE {history.text("name")} = 'lifecyclestage' AND lower({history.text("value")}) = '{stage}' GROUP BY 2"""
        return (
            f"became_{stage}",
            f"the lifecycle stage first became {stage} (contact_property_history)",
            branch,
        )
    dates = tuple(
        f"{prefix}{name}"
        for prefix in ("property_", "")
        for name in (
            f"hs_lifecyclestage_{stage}_date",
            f"hs_v2_date_entered_{stage}",
            f"hs_date_entered_{stage}",
        )
    )
    if not contact.find(*dates):
        return None
    branch = f"""
SELECT 'became_{stage}:' || {contact.text("id")} AS event_id, {contact.text("id")} AS person,
  'became_{stage}' AS event_type, {contact.moment(*dates, kind="TIMESTAMP")} AS occurred_at
FROM contact {where(contact.unless(*_DELETED))}"""
    return f"became_{stage}", f"the lifecycle stage became {stage} on {contact.find(*dates)}", branch
