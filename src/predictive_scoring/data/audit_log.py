"""Findings on the event log: times that cannot be, strangers, double entries, sources that fell silent.

The log is read by aggregating expressions only, so its size and its engine do not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from predictive_scoring.data.sources import Tables
from predictive_scoring.data.units import unit_jump
from predictive_scoring.schema import LEAD_CREATED, Finding
from predictive_scoring.timeline import DAY, HOUR, age, exists_at, format_instant, is_known

TYPE = "sources.events, column event_type"
LAGS = (("at once", 0), ("1 hour", HOUR), ("1 day", DAY), ("7 days", 7 * DAY), ("30 days", 30 * DAY))
"""Classes of the time from a fact to our knowledge of it; the last one has no end."""
FEW = 20
"""Events that must be expected, or seen, before their absence or their shape says anything."""
SILENCE = 28
"""Days after which a type that no longer occurs has stopped, and days that count as its usual rate."""


@dataclass(frozen=True)
class LogProfile:
    """Counts of the user's own events.

    `types` has a row per event type: number, date_only (all stamps are midnights), lag_0 … lag_5 (see LAGS), and per
    property the number of events that have it. `daily` has event_type, day (since 1970-01-01, UTC) and number."""

    types: pd.DataFrame
    daily: pd.DataFrame

    @property
    def lags(self) -> dict[str, int]:
        """Events by the time until they were known."""
        names = [*(f"up to {name}" if seconds else name for name, seconds in LAGS), "later"]
        return {name: int(self.types[f"lag_{number}"].sum()) for number, name in enumerate(names)}


def logged_events(tables: Tables) -> Any:
    """The user's own events: `tables.events` without the creation that `sources` adds for each lead."""
    return tables.events.filter(~_is_creation(tables.events))


def _is_creation(events: Any) -> Any:
    made_here = events["event_id"] == LEAD_CREATED + ":" + events["lead_id"]
    # Empty cells compare to NULL, which a filter would drop on both sides.
    return (made_here & (events["event_type"] == LEAD_CREATED)).fill_null(False)


def profile_log(tables: Tables) -> LogProfile:
    """Count the log by type and by day, in two passes."""
    events = logged_events(tables)
    lag = events["known"] - events["occurred"]
    bounds = [seconds for _, seconds in LAGS]
    classes = [lag <= bounds[0]]
    classes += [(lag > low) & (lag <= high) for low, high in pairwise(bounds)]
    classes.append(lag > bounds[-1])
    # Local midnights move by an hour with the season, and may straddle midnight UTC: hence two clocks.
    of_day, shifted = events["occurred"] % DAY, (events["occurred"] + DAY // 2) % DAY
    types = events.group_by("event_type").aggregate(
        number=events.count(),
        first=events["occurred"].min(),
        last=events["occurred"].max(),
        whole_hours=events.count(where=events["occurred"] % HOUR == 0),
        spread=of_day.max() - of_day.min(),
        spread_shifted=shifted.max() - shifted.min(),
        **{f"lag_{number}": events.count(where=chosen) for number, chosen in enumerate(classes)},
        **{
            f"{what}_{number}": fold
            for number, name in enumerate(tables.project.event_properties)
            for what, fold in (
                ("filled", events[name].count()),
                ("least", events[name].min()),
                ("most", events[name].max()),
            )
        },
    )
    frame = types.to_pandas().sort_values("event_type", ignore_index=True)
    frame["date_only"] = (
        (frame["number"] >= FEW)
        & (frame["whole_hours"] == frame["number"])
        & (frame[["spread", "spread_shifted"]].min(axis=1) <= HOUR)
        & (frame["last"] - frame["first"] >= 7 * DAY)
    )
    dated = events.mutate(day=(events["occurred"] // DAY).cast("int64"))
    daily = dated.group_by("event_type", "day").aggregate(number=dated.count()).to_pandas()
    return LogProfile(frame, daily.sort_values(["event_type", "day"], ignore_index=True))


def log_findings(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    """Everything about the events of a log."""
    yield from _instants(tables)
    yield from _types(tables, profile)
    yield from _properties(tables, profile)
    yield from _late(profile)
    yield from _date_only(tables, profile)
    yield from _doubles(tables, profile)
    yield from _units(tables)
    yield from _silent_days(profile)
    yield from _stopped_types(tables, profile)


def _instants(tables: Tables) -> Iterator[Finding]:
    """Findings on the instants of events, in one pass over the log."""
    events, until = tables.events, tables.observed_until
    created = events.filter(_is_creation(events))
    created = created.select(known_lead=created["lead_id"], created=created["occurred"])
    logged = logged_events(tables)
    joined = logged.left_join(created, logged["lead_id"] == created["known_lead"])
    early = ~exists_at(joined["created"], joined["occurred"])
    checks = {
        "PS110": early,
        "PS111": joined["known_lead"].isnull(),
        "PS114": age(joined["occurred"], until) < 0,
        "PS115": is_known(joined["known"], joined["occurred"]),
        "PS117": early & (joined["event_type"] == str(tables.project.conversion.event)),
    }
    counted = {code: joined.count(where=flag.fill_null(False)) for code, flag in checks.items()}
    shown = {f"{code}_example": joined["event_id"].min(where=flag) for code, flag in checks.items()}
    answer = joined.aggregate(**counted, **shown).to_pandas().iloc[0]
    messages = {
        "PS110": (
            "events lie before their lead's creation",
            "They are kept and count as history. Check `created_at`: it should be the first contact, not an import.",
        ),
        "PS111": (
            "events belong to leads that are not in the leads table",
            "They are kept but read by nothing. Check that both tables write lead ids alike.",
        ),
        "PS114": (
            f"events lie after observed_until ({format_instant(until)})",
            "Correct the clock of their source, or set `observed_until` to the day up to which the log is complete.",
        ),
        "PS115": (
            "events were known before they occurred",
            "Check the time zones of occurred_at and known_at; planned meetings are not events until they took place.",
        ),
        "PS117": (
            "conversions lie before their lead's creation",
            "Such leads train nothing. Check whether `created_at` is the day of an import.",
        ),
    }
    for code, (what, remedy) in messages.items():
        number = int(answer[code])
        if number:
            event = joined.filter(joined["event_id"] == str(answer[f"{code}_example"])).to_pandas().iloc[0]
            yield Finding(code, "warning", f"{number} {what}", "sources.events", remedy, number, _told(event))


def _told(event: pd.Series) -> str:
    facts = [f"event {event['event_id']}", f"lead {event['lead_id']}", str(event["event_type"])]
    facts += [f"{name} {format_instant(event[name])}" for name in ("occurred", "known")]
    if not pd.isna(event["created"]):
        facts.append(f"lead created {format_instant(event['created'])}")
    return ", ".join(facts)


def _types(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    declared = tables.project.events
    numbers = {
        None if pd.isna(name) else str(name): int(number)
        for name, number in zip(profile.types["event_type"], profile.types["number"], strict=True)
    }
    reserved = numbers.pop(LEAD_CREATED, 0)
    if reserved:
        yield Finding(
            "PS118",
            "warning",
            f"{reserved} events have the type {LEAD_CREATED!r}, which is made from `created_at` and would count twice",
            TYPE,
            "Leave them out, or rename them in a `sql` source.",
            reserved,
        )
    unread = sorted((name for name in numbers if name not in declared), key=lambda name: -numbers[name])
    if unread:
        yield Finding(
            "PS112",
            "warning",
            f"{len(unread)} event types are not declared and are read by nothing: "
            + listed([f"{name or '(empty)'} ({numbers[name]})" for name in unread]),
            TYPE,
            "Declare them under `events` with a label, or leave them out on purpose.",
            sum(numbers[name] for name in unread),
            unread[0],
        )
    absent = [name for name in declared if name not in numbers and name != tables.project.conversion.event]
    if absent:
        yield Finding(
            "PS113",
            "info",
            f"{len(absent)} declared event types never occur: {listed(absent)}",
            "events",
            "Check their spelling, or remove them.",
            len(absent),
            absent[0],
        )


def _properties(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    for number, name in enumerate(tables.project.event_properties):
        filled = int(profile.types[f"filled_{number}"].sum())
        least, most = (profile.types[f"{what}_{number}"].dropna() for what in ("least", "most"))
        where = f"event_properties.{name}"
        if not filled and len(profile.types):
            yield Finding(
                "PS140", "warning", f"no event has a value of {name!r}", where, "Fill or remove it."
            )
        elif filled > 1 and least.min() == most.max():
            what = f"{name!r} has the same value in all {filled} events that have one"
            yield Finding("PS141", "info", what, where, "Remove it.", filled, str(least.iloc[0]))


def _late(profile: LogProfile) -> Iterator[Finding]:
    lags = profile.lags
    late, total = lags["up to 7 days"] + lags["up to 30 days"] + lags["later"], sum(lags.values())
    if late > 0.01 * total:
        told = ", ".join(f"{name} {number / total:.1%}" for name, number in lags.items() if number)
        yield Finding(
            "PS142",
            "info",
            f"{late} of {total} events were known more than a day after they occurred ({told})",
            "sources.events, column known_at",
            "They count from the day they were known, in training as in scoring. A faster import makes fresher scores.",
            late,
        )


def _date_only(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    dated = profile.types.loc[profile.types["date_only"], "event_type"].astype(str).tolist()
    if dated:
        number = int(profile.types.loc[profile.types["date_only"], "number"].sum())
        finer = tables.project.cutoffs is not None and (tables.project.cutoffs.at == "created_at")
        yield Finding(
            "PS143",
            "info" if len(dated) < len(profile.types) else "warning",
            f"{len(dated)} event types bear dates only, no time of day: {listed(dated)}",
            "sources.events, column occurred_at",
            "An event then counts as past from its day's first second on, even if it happened in the evening: "
            + ("let `created_at` be a midnight too, " if finer else "keep cutoffs on midnights, ")
            + "or give the time of day.",
            number,
            dated[0],
        )


def _doubles(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    """Same lead, type and second under different ids; dates without a time of day say nothing about it."""
    dated = profile.types.loc[profile.types["date_only"], "event_type"].dropna().astype(str).tolist()
    events = logged_events(tables)
    if dated:
        events = events.filter(events["event_type"].notin(dated))
    same = events.group_by("lead_id", "event_type", "occurred").aggregate(
        copies=events.count(), example=events["event_id"].min()
    )
    copied = same.filter(same["copies"] > 1)
    answer = copied.aggregate(
        surplus=(copied["copies"] - 1).sum(), groups=copied.count(), example=copied["example"].min()
    ).to_pandas()
    surplus = 0 if pd.isna(answer["surplus"].iloc[0]) else int(answer["surplus"].iloc[0])
    total = int(profile.types["number"].sum())
    # Two page views within a second happen; one event in a thousand doing so is a source that logs twice.
    if surplus > max(10, 0.001 * total):
        yield Finding(
            "PS144",
            "warning",
            f"{surplus} events repeat another one of the same lead, type and second under a different id",
            "sources.events, column event_id",
            "A source that logs twice doubles every count. Keep one row of each in a `sql` source.",
            surplus,
            f"event {answer['example'].iloc[0]}",
        )


def _units(tables: Tables) -> Iterator[Finding]:
    numbers = [name for name, kind in tables.project.event_properties.items() if kind == "number"]
    if not numbers:
        return
    events = logged_events(tables)
    dated = events.mutate(month=(events["occurred"] // (30 * DAY)).cast("int64"))
    sizes = {number: dated[name].abs().nullif(0) for number, name in enumerate(numbers)}
    monthly = dated.group_by("event_type", "month").aggregate(
        **{f"mean_{number}": size.ln().mean() for number, size in sizes.items()},
        **{f"count_{number}": size.count() for number, size in sizes.items()},
    )
    frame = monthly.to_pandas().sort_values(["event_type", "month"])
    for number, name in enumerate(numbers):
        for kind, group in frame.groupby("event_type"):
            jump = unit_jump(group["month"], group[f"mean_{number}"], group[f"count_{number}"])
            if jump is not None:
                yield unit_finding(f"{name!r} of {kind!r}", f"event_properties.{name}", *jump)


def unit_finding(what: str, where: str, factor: float, month: int) -> Finding:
    """PS145: the typical size jumps by a factor that looks like a change of unit."""
    since = format_instant(month * 30 * DAY)[:10]
    return Finding(
        "PS145",
        "warning",
        f"the typical {what} changes by a factor of {factor:g} about {since} and stays there",
        where,
        "It looks like a change of unit (seconds and milliseconds, minutes and hours). Convert one side in `sql`.",
        1,
        since,
    )


def _silent_days(profile: LogProfile) -> Iterator[Finding]:
    """Days without any event where the same weekday around them has ten or more."""
    total = profile.daily.groupby("day")["number"].sum()
    if total.empty:
        return
    total = total.reindex(range(int(total.index.min()), int(total.index.max()) + 1), fill_value=0)
    around = pd.concat([total.shift(7 * week, fill_value=0) for week in (-2, -1, 1, 2)], axis=1).median(
        axis=1
    )
    silent = total.index[(total == 0) & (around >= 10)]
    if len(silent):
        days = [format_instant(int(day) * DAY)[:10] for day in silent]
        yield Finding(
            "PS146",
            "warning",
            f"{len(days)} days in the middle of the log have no event at all: {listed(days)}",
            "sources.events",
            "If the source was down, import those days again; leads look silent on them.",
            len(days),
            days[0],
        )


def _stopped_types(tables: Tables, profile: LogProfile) -> Iterator[Finding]:
    """Types that begin late or end early, measured against the whole log, which grows on its own."""
    wide = profile.daily.pivot_table(index="day", columns="event_type", values="number", fill_value=0)
    if wide.empty:
        return
    total = wide.sum(axis=1)
    for name in (str(name) for name in wide.columns if name in tables.project.events):
        days = wide.index[wide[name] > 0]
        first, last = int(days.min()), int(days.max())
        for word, silent, near in (
            ("stops", total.index > last, (total.index <= last) & (total.index > last - 3 * SILENCE)),
            (
                "starts only",
                total.index < first,
                (total.index >= first) & (total.index < first + 3 * SILENCE),
            ),
        ):
            quiet, share = total[silent], wide.loc[near, name].sum() / max(float(total[near].sum()), 1.0)
            expected = float(share * quiet.sum())
            if len(quiet) and np.ptp(quiet.index) >= SILENCE and expected >= FEW:
                border = format_instant((last if word == "stops" else first) * DAY)[:10]
                yield Finding(
                    "PS147",
                    "warning",
                    f"the event type {name!r} {word} on {border}, where about {expected:.0f} more were to be expected",
                    f"events.{name}",
                    "Was its tracking changed or renamed? A model reads the silence as lost interest.",
                    round(expected),
                    border,
                )


def listed(names: Collection[str | None], shown: int = 12) -> str:
    """Names in one line, the first ones only."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:shown]) + (f" and {len(texts) - shown} more" if len(texts) > shown else "")
