"""The events of a draft: what happened, what counts as conversion, when leads are observed, what features read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from predictive_scoring.data import guesses
from predictive_scoring.data.draft_text import Page
from predictive_scoring.data.guesses import quote, scalar
from predictive_scoring.data.leak_screen import suspicious_word
from predictive_scoring.data.profile import TableProfile
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.timeline import DAY, format_duration, format_instant

MANY_EVENT_TYPES = 60
OWN_VIEW_TYPES = 12
ROOMY_DAYS = 150
"""Days of history from which a 30 day horizon leaves room for three periods."""


def event_blocks(
    page: Page,
    declared: Mapping[str, int],
    conversion: str,
    excluded: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> None:
    """`events`: every type with its number of rows; `excluded` (type -> property -> values) were no act of a person."""
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
        given = (excluded or {}).get(name, {})
        values = ", ".join(f"{column}: [{', '.join(map(quote, texts))}]" for column, texts in given.items())
        without = f", exclude: {{{values}}}" if given else ""
        page.add(f"  {scalar(name)}: {{label: {scalar(label)}{staged}{without}}}  # {declared[name]} events")


def property_block(
    page: Page, table: TableProfile, used: Collection[str], forced: Collection[str] = ()
) -> dict[str, str]:
    """Declare what events carry. Unlike an attribute, a property is dated by its event: no name is suspicious."""
    found = guesses.attributes(table.columns, table.rows, used, today_only=False)
    kinds = {**found.read, **dict.fromkeys(sorted(forced), "category")}
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


@dataclass(frozen=True)
class Span:
    """From when to when the log tells (epoch seconds; None where it holds no time), and by which column."""

    oldest: int | None
    newest: int | None
    column: str


def time_blocks(page: Page, span: Span, today: int, conversion: str, why: str) -> None:
    """Conversion, the end of the log and the cutoffs, from the range of the events."""
    until = min(today if span.newest is None else span.newest, today)
    oldest = min(until if span.oldest is None else span.oldest, until)
    days = max(1, (until - oldest) // DAY)
    roomy = days >= ROOMY_DAYS
    horizon, every = (30, 14) if roomy else (max(1, days // 6), max(1, days // 15))
    first = (oldest + min(60, days // 4) * DAY) // DAY * DAY
    page.add("")
    page.comment(f"{why} `horizon`: within how many days of the cutoff it must happen to count.")
    page.add(f"conversion: {{event: {scalar(conversion)}, horizon: {horizon}d}}")
    page.comment(f"Check: the newest event ({span.column}); the log must be complete up to here.")
    page.add(f"observed_until: {format_instant(until)}")
    page.comment(
        f"Leads are observed every {format_duration(every * DAY)}, once there is some history to look back on."
    )
    page.add(f"cutoffs: {{first: {format_instant(first)}, every: {every}d}}")
    page.note(
        f"The conversion is {conversion!r} within {horizon} days; check the event, the horizon and observed_until."
    )


FINER_VIEWS = ("social_detail", "benefits", "channels", "habits")
"""Shipped views that a first model does not need: they split what other views count."""


def views_block(
    page: Page,
    declared: Mapping[str, int],
    conversion: str,
    properties: Mapping[str, str],
    withheld: Collection[str] = (),
) -> None:
    """Shipped views with at least one feature whose events exist, and a view for the events none of them reads;
    `withheld` types record the outcome and are read by no feature."""
    known = {*declared, LEAD_CREATED} - {conversion}
    chosen, more, covered = [], [], {conversion}
    for name, view in catalog().items():
        fitting = [
            feature
            for feature in view.features
            if isinstance(feature, EventFeature)
            and feature.event_types <= known
            and feature.properties <= properties.keys()
        ]
        if fitting and name in FINER_VIEWS:
            more.append(name)
        elif fitting:
            chosen.append(name)
            covered |= {event for feature in fitting for event in feature.event_types}
    page.add("")
    page.comment(
        "Every shipped view whose events exist here; features over other events are left out by themselves."
    )
    page.add("feature_views:", *(f"  - {name}" for name in chosen))
    if more:
        page.comment(f"More that fit, for finer questions and large logs: {', '.join(more)}.", "  ")
    others = [name for name in declared if name not in covered]
    close = [name for name in others if suspicious_word(name) or name in withheld]
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
