"""The draft for leads with an event log: which table is which, what happened, what counts as conversion."""

# ruff: noqa: S608  SQL over the user's own tables, every name through canonical.quoted

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictive_scoring.data import guesses
from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_attributes import (
    AttributeDrafts,
    attribute_blocks,
    changing_attributes,
    drafted_attributes,
    set_aside_by_values,
    texts_of,
)
from predictive_scoring.data.draft_events import Span, event_blocks, property_block, time_blocks, views_block
from predictive_scoring.data.draft_text import Page, Query, closing, contact_block, head, source_block
from predictive_scoring.data.exports.products import looked_for
from predictive_scoring.data.guesses import column_for, plain
from predictive_scoring.data.profile import TableProfile, literal
from predictive_scoring.errors import InvalidSetting

FOREIGN_LEAD_ID = tuple(name for name in guesses.LEAD_ID if name not in ("id", "uuid"))
"""In events and touches a bare `id` is the row's own."""


CHANGE_TIMES = (*guesses.CHANGED_AT, *guesses.OCCURRED_AT)


@dataclass(frozen=True)
class LogTables:
    """The tables by role."""

    leads: TableProfile
    events: TableProfile
    changes: TableProfile | None
    touches: TableProfile | None
    unused: tuple[TableProfile, ...]


def draft_log(
    page: Page, tables: Sequence[TableProfile], relative_to: Path, today: int, outcome: str | None
) -> None:
    """Write the draft for `tables` onto `page` (see `drafting.draft_project`)."""
    roles = _roles(tables)
    leads, leads_used = _leads_query(roles.leads)
    events, declared, events_used = _events_query(roles.events)
    conversion, why = _conversion(roles.events, declared, outcome)
    contact = guesses.contact(roles.leads)
    changes, changing = _changing(roles.changes)

    names = [table.name for table in tables]
    label = guesses.event_label(conversion)[0]
    head(page, names, tables[0].stem, f"Which leads reach {label!r} within the horizon")
    page.add("sources:")
    page.comment("Recognised by their columns; a query renames what is called differently.", "  ")
    source_block(page, "leads", leads, relative_to)
    source_block(page, "events", events, relative_to)
    if changes is not None:
        page.comment("One row per changed attribute: what a lead was at a cutoff is read from here.", "  ")
        source_block(page, "attribute_changes", changes, relative_to)
    if roles.touches is not None:
        source_block(page, "touches", _touches_query(roles.touches), relative_to)
    for table in roles.unused:
        page.comment(f"Not used: {table.name}; its columns fit no role.", "  ")
        page.note(f"{table.name} is not used: its columns fit neither leads, events, changes nor touches.")
    used = {*leads_used, *contact.columns, *changing.names}
    found = guesses.attributes(roles.leads.columns, roles.leads.rows, used, today_only=True)
    drafts = drafted_attributes(found, roles.leads.columns, texts_of(roles.leads))
    key, created = leads.source_of("lead_id"), leads.source_of("created_at")
    set_aside_by_values(
        drafts, roles.leads, _converted(roles.events, events, conversion), key=key, order_by=created
    )
    attribute_blocks(page, drafts, changing, immutable=True)
    event_blocks(page, declared, conversion)
    properties = property_block(page, roles.events, events_used)
    times = roles.events.columns[str(events.source_of("occurred_at"))]
    time_blocks(page, Span(times.oldest, times.newest, times.name), today, conversion, why)
    views_block(page, declared, conversion, properties)
    withdraws = "email" in contact.consent and "email_unsubscribe" in declared
    contact_block(page, contact, {"email": "email_unsubscribe"} if withdraws else {})
    closing(page)


def _roles(tables: Sequence[TableProfile]) -> LogTables:
    left = list(tables)
    changes = _first(left, _has_changes)
    events = _first(left, _has_events)
    touches = _first(left, _has_touches)
    leads = _first(
        left,
        lambda table: (
            _lead_key(table) is not None and column_for(table, guesses.CREATED_AT, instant=True) is not None
        ),
    )
    if events is None or leads is None:
        role, need = (
            (
                "events",
                "a lead id, an event type and a time with those names or synonyms: lead_id, event_type, occurred_at",
            )
            if events is None
            else ("leads", "a lead id with one row per lead and the time of creation: lead_id, created_at")
        )
        raise InvalidSetting(
            what=f"none of the tables looks like {role}",
            where="; ".join(f"{table.name}: {', '.join(table.columns)}" for table in tables),
            remedy=f"A table of {role} has {need}. Rename the columns, or write scoring.yaml by hand. Also looked for: "
            + "; ".join(looked_for())
            + ".",
        )
    return LogTables(leads, events, changes, touches, tuple(left))


def _first(left: list[TableProfile], fits: Callable[[TableProfile], bool]) -> TableProfile | None:
    """Take the first table that fits out of `left`."""
    found = next((table for table in left if fits(table)), None)
    if found is not None:
        left.remove(found)
    return found


def _has_events(table: TableProfile) -> bool:
    kind, lead = column_for(table, guesses.EVENT_TYPE), column_for(table, FOREIGN_LEAD_ID)
    if kind is None or lead is None or column_for(table, guesses.OCCURRED_AT, instant=True) is None:
        return False
    # A table of leads may have a `type` and a date too, but only one row per lead.
    return plain(kind).startswith("event") or (not _has_touches(table) and not table.is_key(lead))


def _has_changes(table: TableProfile) -> bool:
    """One row per changed attribute: a lead, the attribute's name, its value and a time, and no event type."""
    attribute, lead = column_for(table, guesses.ATTRIBUTE), column_for(table, FOREIGN_LEAD_ID)
    kind = column_for(table, guesses.EVENT_TYPE)
    return (
        attribute is not None
        and lead is not None
        and column_for(table, guesses.VALUE) is not None
        and column_for(table, CHANGE_TIMES, instant=True) is not None
        and not (kind is not None and plain(kind).startswith(("event", "activity")))
        and not table.is_key(lead)
    )


def _has_touches(table: TableProfile) -> bool:
    action, lead = column_for(table, guesses.ACTION_ID), column_for(table, FOREIGN_LEAD_ID)
    named = column_for(table, ("touch_id", "action_id", "send_id", *guesses.CHANNEL))
    dated = column_for(table, guesses.OCCURRED_AT, instant=True)
    return (
        action is not None
        and lead is not None
        and named is not None
        and dated is not None
        and not table.is_key(lead)
    )


def _lead_key(table: TableProfile) -> str | None:
    found = {plain(name): name for name in table.columns}
    return next(
        (found[name] for name in guesses.LEAD_ID if name in found and table.is_key(found[name])), None
    )


def _leads_query(table: TableProfile) -> tuple[Query, set[str]]:
    key, created = _lead_key(table), column_for(table, guesses.CREATED_AT, instant=True)
    if key is None or created is None:
        raise InvalidSetting(
            what="the table has no lead id with one row per lead, or no time of creation",
            where=f"{table.name}: {', '.join(table.columns)}",
            remedy="Name the columns lead_id and created_at.",
        )
    query = Query(table)
    query.take("lead_id", key)
    query.take("created_at", created)
    return query, {key, created}


def _dated_query(table: TableProfile, key: str, keys: tuple[str, ...]) -> tuple[Query, set[str]]:
    """A query for rows with a lead, a time and a key; rows without a key are numbered in file order."""
    query, used = Query(table), set()
    found = column_for(table, keys)
    if found is not None and table.is_key(found):
        query.take(key, found)
        used.add(found)
    else:
        # Rows of a file have an order; those of a database are put into one.
        order = f"ORDER BY {', '.join(map(quoted, table.columns))}" if table.table else ""
        query.make(key, f"'{key.removesuffix('_id')}-' || row_number() OVER ({order})")
    for role, names, instant in (
        ("lead_id", FOREIGN_LEAD_ID, False),
        ("occurred_at", guesses.OCCURRED_AT, True),
    ):
        column = column_for(table, names, instant=instant)
        if column is not None:
            query.take(role, column)
            used.add(column)
    return query, used


def _events_query(table: TableProfile) -> tuple[Query, dict[str, int], set[str]]:
    """The query, the numbers of events by declared type (most frequent first), and the columns with a role."""
    query, used = _dated_query(table, "event_id", guesses.EVENT_ID)
    known = column_for(table, guesses.KNOWN_AT, instant=True)
    if known is not None and known not in used:
        query.take("known_at", known)
        used.add(known)
    kind = str(column_for(table, guesses.EVENT_TYPE))
    declared: dict[str, int] = {}
    cases = []
    for raw, number in table.levels(kind, 1000).items():
        if len(raw.splitlines()) != 1:
            continue  # cannot be written on one line; `validate` names it as undeclared
        name = guesses.shipped_type(raw)
        declared[name] = declared.get(name, 0) + number
        if raw != name:
            cases.append(f"  WHEN {literal(raw)} THEN '{name}'")
    if cases:
        column = f"CAST({quoted(kind)} AS VARCHAR)"
        query.make(
            "event_type", "\n".join([f"CASE {column}", *cases, f"  ELSE {column} END"]), instead_of=kind
        )
    else:
        query.take("event_type", kind)
    return query, declared, used | {kind}


def _changing(table: TableProfile | None) -> tuple[Query | None, AttributeDrafts]:
    """The query of the attribute history, and the attributes of which it tells."""
    if table is None:
        return None, AttributeDrafts()
    query = Query(table)
    roles = {
        "lead_id": column_for(table, FOREIGN_LEAD_ID),
        "attribute": column_for(table, guesses.ATTRIBUTE),
        "value": column_for(table, guesses.VALUE),
        "occurred_at": column_for(table, CHANGE_TIMES, instant=True),
        "known_at": column_for(table, guesses.KNOWN_AT, instant=True),
    }
    for role, column in roles.items():
        if column is not None:
            query.take(role, column)
    return query, changing_attributes(table, str(roles["attribute"]), str(roles["value"]))


def _converted(table: TableProfile, events: Query, conversion: str) -> list[str]:
    """The ids of the leads that ever converted."""
    kind, lead = str(column_for(table, guesses.EVENT_TYPE)), str(events.source_of("lead_id"))
    rows = table.answer(
        f"SELECT DISTINCT {quoted(lead)}, {quoted(kind)} FROM cells WHERE {quoted(lead)} IS NOT NULL"
    )
    return [str(who) for who, raw in rows if raw is not None and guesses.shipped_type(str(raw)) == conversion]


def _touches_query(table: TableProfile) -> Query:
    query, _ = _dated_query(table, "touch_id", guesses.TOUCH_ID)
    query.take("action_id", str(column_for(table, guesses.ACTION_ID)))
    channel = column_for(table, guesses.CHANNEL)
    if channel is not None:
        query.take("channel", channel)
    else:
        query.make("channel", "'unknown'")
    return query


def _conversion(table: TableProfile, declared: Mapping[str, int], outcome: str | None) -> tuple[str, str]:
    """The conversion event and why it was chosen."""
    found = ", ".join(declared)
    if outcome is not None:
        name = guesses.shipped_type(outcome)
        if name not in declared:
            raise InvalidSetting(
                what=f"no event is of type {outcome!r}",
                where=str(table.path),
                remedy=f"Event types found: {found}.",
            )
        return name, f"The conversion was named with --outcome: {outcome!r}."
    guessed = guesses.conversion_event(declared)
    if guessed is None:
        raise InvalidSetting(
            what="no event type was recognised as the conversion",
            where=str(table.path),
            remedy=f"Name it with `--outcome EVENT_TYPE`. Event types found: {found or 'none'}.",
        )
    return guessed, f"Check: {guessed!r} is taken for the conversion because of its name."
