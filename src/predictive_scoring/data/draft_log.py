"""The draft for leads with an event log: which table is which, what happened, what counts as conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictive_scoring.data import guesses
from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import (
    Page,
    Query,
    attribute_blocks,
    closing,
    contact_block,
    head,
    source_block,
)
from predictive_scoring.data.guesses import column_for, plain, quote, scalar
from predictive_scoring.data.leak_screen import suspicious_word
from predictive_scoring.data.profile import TableProfile, literal
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.timeline import DAY, format_duration, format_instant

MANY_EVENT_TYPES = 60
OWN_VIEW_TYPES = 12
ROOMY_DAYS = 150
"""Days of history from which a 30 day horizon leaves room for three periods."""

FOREIGN_LEAD_ID = tuple(name for name in guesses.LEAD_ID if name not in ("id", "uuid"))
"""In events and touches a bare `id` is the row's own."""


@dataclass(frozen=True)
class LogTables:
    """The tables by role."""

    leads: TableProfile
    events: TableProfile
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

    head(page, tables, f"Which leads reach {guesses.event_label(conversion)[0]!r} within the horizon")
    page.add("sources:")
    page.comment("Recognised by their columns; a query renames what is called differently.", "  ")
    source_block(page, "leads", leads, relative_to)
    source_block(page, "events", events, relative_to)
    if roles.touches is not None:
        source_block(page, "touches", _touches_query(roles.touches), relative_to)
    for table in roles.unused:
        page.comment(f"Not used: {table.path.name}; its columns fit no role.", "  ")
        page.note(f"{table.path.name} is not used: its columns fit neither leads, events nor touches.")
    found = guesses.attributes(roles.leads, {*leads_used, *contact.columns}, today_only=True)
    attribute_blocks(page, found, immutable=True)
    _event_blocks(page, declared, conversion)
    properties = _properties(page, roles.events, events_used)
    _time_blocks(page, roles.events, today, conversion, why)
    _views_block(page, declared, conversion, properties)
    withdraws = "email" in contact.consent and "email_unsubscribe" in declared
    contact_block(page, contact, {"email": "email_unsubscribe"} if withdraws else {})
    closing(page)


def _roles(tables: Sequence[TableProfile]) -> LogTables:
    left = list(tables)
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
            where="; ".join(f"{table.path.name}: {', '.join(table.columns)}" for table in tables),
            remedy=f"A table of {role} has {need}. Rename the columns, or write scoring.yaml by hand.",
        )
    return LogTables(leads, events, touches, tuple(left))


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
            where=f"{table.path.name}: {', '.join(table.columns)}",
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
        query.make(key, f"'{key.removesuffix('_id')}-' || row_number() OVER ()")
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


def _event_blocks(page: Page, declared: Mapping[str, int], conversion: str) -> None:
    shown = list(declared)[:MANY_EVENT_TYPES]
    shown += [] if conversion in shown else [conversion]
    page.add("")
    page.comment(
        "What they do. Check labels, and `stage`: the step of the buyer's journey that an event type speaks for."
    )
    if len(declared) > len(shown):
        page.comment(f"The rarest {len(declared) - len(shown)} of {len(declared)} event types are left out.")
    page.add("events:")
    for name in shown:
        label, stage = guesses.event_label(name)
        staged = f", stage: {stage}" if stage and name != conversion else ""
        page.add(f"  {scalar(name)}: {{label: {scalar(label)}{staged}}}  # {declared[name]} events")


def _properties(page: Page, table: TableProfile, used: set[str]) -> dict[str, str]:
    """Declare what events carry. Unlike an attribute, a property is dated by its event: no name is suspicious."""
    found = guesses.attributes(table, used, today_only=False)
    kinds = dict(found.read)
    for name in found.leaks:
        column = table.columns[name]
        if column.number or column.distinct <= guesses.MANY_LEVELS:
            kinds[name] = "number" if column.number else "category"
    if kinds:
        page.comment("What events carry; only feature views that name a property read it.")
        page.add(
            f"event_properties: {{{', '.join(f'{scalar(name)}: {kind}' for name, kind in kinds.items())}}}"
        )
    return kinds


def _time_blocks(page: Page, table: TableProfile, today: int, conversion: str, why: str) -> None:
    """Conversion, the end of the log and the cutoffs, from the range of the events."""
    column = table.columns[str(column_for(table, guesses.OCCURRED_AT, instant=True))]
    oldest = column.oldest or 0
    until = min(column.newest or today, today)
    days = max(1, (until - oldest) // DAY)
    roomy = days >= ROOMY_DAYS
    horizon, every = (30, 14) if roomy else (max(1, days // 6), max(1, days // 15))
    first = (oldest + min(60, days // 4) * DAY) // DAY * DAY
    page.add("")
    page.comment(f"{why} `horizon`: within how many days of the cutoff it must happen to count.")
    page.add(f"conversion: {{event: {scalar(conversion)}, horizon: {horizon}d}}")
    page.comment(f"Check: the newest event ({column.name}); the log must be complete up to here.")
    page.add(f"observed_until: {format_instant(until)}")
    page.comment(
        f"Leads are observed every {format_duration(every * DAY)}, once there is some history to look back on."
    )
    page.add(f"cutoffs: {{first: {format_instant(first)}, every: {every}d}}")
    page.note(
        f"The conversion is {conversion!r} within {horizon} days; check the event, the horizon and observed_until."
    )


def _views_block(
    page: Page, declared: Mapping[str, int], conversion: str, properties: Mapping[str, str]
) -> None:
    """Shipped views with at least one feature whose events exist, and a view for the events none of them reads."""
    known = {*declared, LEAD_CREATED} - {conversion}
    chosen, covered = [], {conversion}
    for name, view in catalog().items():
        fitting = [
            feature
            for feature in view.features
            if isinstance(feature, EventFeature)
            and feature.event_types <= known
            and (feature.column is None or feature.column in properties)
        ]
        if fitting:
            chosen.append(name)
            covered |= {event for feature in fitting for event in feature.event_types}
    page.add("")
    page.comment(
        "Every shipped view whose events exist here; features over other events are left out by themselves."
    )
    page.add("feature_views:", *(f"  - {name}" for name in chosen))
    others = [name for name in declared if name not in covered]
    close = [name for name in others if suspicious_word(name)]
    if close:
        page.comment(f"Not read, as they may only record the outcome itself: {', '.join(close)}.", "  ")
    own = [name for name in others if name not in close][:OWN_VIEW_TYPES]
    if not own:
        return
    page.comment("Events that no shipped view reads.", "  ")
    page.add("  - name: own_events", "    features:")
    for name in own:
        label = guesses.event_label(name)[0]
        spoken, events = (
            f"events: [{scalar(name)}], concept: {scalar(label)}",
            scalar(f"Days since the last {label}"),
        )
        page.add(
            f"      - {{aggregate: count, {spoken}, windows: [30d, 90d], label: {quote(f'{label}, last {{window}}')}}}"
        )
        page.add(f"      - {{aggregate: days_since, {spoken}, label: {events}}}")
