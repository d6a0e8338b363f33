"""The draft for an export of a known product (see `exports`): its queries, with the reason for each decision."""

# ruff: noqa: S608  SQL over the user's own files, every name from a fixed list

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from predictive_scoring.data import guesses
from predictive_scoring.data.draft_attributes import (
    AttributeDrafts,
    attribute_blocks,
    changing_attributes,
    drafted_attributes,
    set_aside_by_values,
    texts_of,
)
from predictive_scoring.data.draft_events import Span, event_blocks, property_block, time_blocks, views_block
from predictive_scoring.data.draft_text import Page, SourceQuery, closing, contact_block, head, query_block
from predictive_scoring.data.exports.shape import Export
from predictive_scoring.data.profile import TableProfile, query_files
from predictive_scoring.errors import InvalidSetting

ENOUGH_CONVERSIONS = 60
"""Leads that converted, from which the most telling event is preferred to a more frequent one."""
PLANNED = ("meeting",)
"""Events that an export holds before they take place: they do not say how far the log is complete."""


def draft_export(
    page: Page, export: Export, relative_to: Path, today: int, outcome: str | None, say: Callable[[str], None]
) -> None:
    """Write the draft for a recognised export onto `page` (see `drafting.draft_project`)."""
    say("reading the leads")
    leads = _profile(export.leads(tuple(export.columns)))
    say("reading what they did")
    events = _profile(export.events)
    counts = {str(name): int(number) for name, number in events.levels("event_type").items()}
    conversion, why = _conversion(export, events, outcome)
    declared = {name: counts.get(name, 0) for name in ([*counts] or [*export.types])}
    declared.setdefault(conversion, 0)
    if export.changes is not None:
        say("reading how they changed")
    changing = _changing(export)
    say("looking for columns that tell the outcome")
    contact = guesses.contact(leads)
    drafts = _attributes(export, leads, {*contact.columns, *changing.columns, *changing.leaks})
    ids = events.answer(f"SELECT DISTINCT lead_id FROM cells WHERE event_type = '{conversion}'")
    set_aside_by_values(drafts, leads, [str(row[0]) for row in ids], key="lead_id", order_by="created_at")

    label = guesses.event_label(conversion)[0]
    head(page, export.files, export.product.casefold(), f"Which leads reach {label!r} within the horizon")
    page.comment(f"Recognised as an export of {export.product} by the names of its tables and columns.")
    page.add("sources:")
    chosen = tuple(dict.fromkeys((*drafts.columns, *sorted(contact.columns))))
    query_block(page, "leads", export.leads(chosen), relative_to)
    query_block(page, "events", export.events, relative_to)
    if export.changes is not None and changing.read:
        query_block(page, "attribute_changes", export.changes(changing.columns), relative_to)
    attribute_blocks(page, drafts, changing, immutable=True)
    excluded = {name: values for name, values in export.excluded.items() if name in declared}
    forced = {column for values in excluded.values() for column in values}
    event_blocks(page, declared, conversion, excluded)
    used = ("event_id", "lead_id", "event_type", "occurred_at")
    properties = property_block(page, events, used, forced)
    time_blocks(page, _span(leads, events), today, conversion, why)
    views_block(page, declared, conversion, properties, [name for name, _ in export.conversions])
    contact_block(page, contact, {})
    closing(page)
    _notes(page, export, changing)


def _profile(source: SourceQuery) -> TableProfile:
    return TableProfile.of_query(source.sql, source.tables, next(iter(source.tables.values())))


def _changing(export: Export) -> AttributeDrafts:
    """The attributes whose history can be read; what sales writes with the outcome stays a leak."""
    if export.changes is None:
        return AttributeDrafts()
    found = changing_attributes(_profile(export.changes(None)), "attribute", "value")
    answer = AttributeDrafts(leaks=found.leaks)
    for draft in found.read:
        reason = next(
            (unsafe.reason for unsafe in export.unsafe if unsafe.by_sales and unsafe.fits(draft.column)), None
        )
        if reason:
            answer.leaks[draft.column] = reason
        # An address stays in the leads table: a copy for every change would help nobody.
        elif draft.transform != "email_kind":
            answer.read.append(draft)
    return answer


def _attributes(export: Export, leads: TableProfile, used: Collection[str]) -> AttributeDrafts:
    columns = {name: leads.columns[name] for name in export.columns if name not in used}
    unsafe = {
        name: next((one.reason for one in export.unsafe if one.fits(name)), None)
        for name, column in columns.items()
        if column.filled
    }
    taken = {name: reason for name, reason in unsafe.items() if reason}
    found = guesses.attributes(columns, leads.rows, taken, today_only=True)
    drafts = drafted_attributes(found, columns, texts_of(leads))
    drafts.leaks |= taken
    return drafts


def _conversion(export: Export, events: TableProfile, outcome: str | None) -> tuple[str, str]:
    """The conversion event and why it was chosen: the most telling one that occurs often enough."""
    reached = {
        str(name): int(number)
        for name, number in events.answer("SELECT event_type, count(DISTINCT lead_id) FROM cells GROUP BY 1")
    }
    known = list(dict.fromkeys((*(name for name, _ in export.conversions), *reached, *export.types)))
    if outcome is not None:
        if outcome not in known:
            raise InvalidSetting(
                what=f"no event is of type {outcome!r}",
                where=", ".join(export.files),
                remedy=f"Event types found: {', '.join(known)}.",
            )
        return outcome, f"The conversion was named with --outcome: {outcome!r}."
    if not export.conversions:
        raise InvalidSetting(
            what=f"the {export.product} export does not say who converted",
            where=", ".join(export.files),
            remedy="Add the deals (HubSpot: deal and deal_contact, or the contacts' property history; Salesforce: "
            "ConvertedDate in Lead), or name an event with `--outcome EVENT_TYPE`. Event types found: "
            f"{', '.join(known) or 'none'}.",
        )
    names = [name for name, _ in export.conversions]
    enough = [name for name in names if reached.get(name, 0) >= ENOUGH_CONVERSIONS]
    chosen = enough[0] if enough else max(names, key=lambda name: reached.get(name, 0))
    others = "; ".join(f"{name} by {reached.get(name, 0)}" for name in names if name != chosen)
    why = (
        f"Check: {chosen!r} is taken for the conversion: {dict(export.conversions)[chosen]}. "
        f"{reached.get(chosen, 0)} leads reached it" + (f" ({others})" if others else "") + "."
    )
    return chosen, why


def _span(leads: TableProfile, events: TableProfile) -> Span:
    """From the oldest to the newest time; what is only planned does not count."""
    planned = ", ".join(f"'{name}'" for name in PLANNED)
    moment = "epoch(TRY_CAST(occurred_at AS TIMESTAMPTZ))"
    oldest, newest = events.answer(
        f"SELECT min({moment}), max({moment}) FROM cells WHERE event_type NOT IN ({planned})"
    )[0]
    created = leads.columns["created_at"]
    times = [int(value) for value in (oldest, created.oldest) if value is not None]
    latest = [int(value) for value in (newest, created.newest) if value is not None]
    return Span(min(times, default=None), max(latest, default=None), "what happened last")


def _notes(page: Page, export: Export, changing: AttributeDrafts) -> None:
    page.note(f"Recognised as an export of {export.product}: {', '.join(export.files)}.")
    for join in export.joins:
        answer = query_files(f"SELECT count(*), count(*) FILTER (NOT joined) FROM ({join.sql})", join.tables)
        rows, lost = (int(value) for value in answer[0])
        if lost:
            page.note(
                f"{lost} of {rows} rows of {join.what} belong to no lead of the export and are left out."
            )
    if export.changes is not None and not changing.read:
        page.note(
            "The history of properties names none that can be an attribute (hashed names?); it is not read."
        )
    for note in export.notes:
        page.note(note)
