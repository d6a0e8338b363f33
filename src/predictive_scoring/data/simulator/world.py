"""`simulate`: from a config to the tables a marketing system would hold, and the truth behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predictive_scoring.data.simulator import leaks
from predictive_scoring.data.simulator.behaviour import Batch, Behaviour, events_frame
from predictive_scoring.data.simulator.config import LEAKS, SimulationConfig
from predictive_scoring.data.simulator.leads import (
    TITLES,
    TOPICS,
    ZONES,
    Population,
    draw_population,
    lead_ids,
    leads_frame,
    named,
    new_title,
    numbered,
)
from predictive_scoring.data.simulator.localtime import DAY, Calendar, Ints, local_seconds, timestamps
from predictive_scoring.data.simulator.process import STAGES, HiddenProcess, rates
from predictive_scoring.data.simulator.touches import (
    ACTION_IDS,
    ACTIONS,
    DO_NOTHING,
    EFFECT_DAYS,
    TouchPlan,
    plan_touches,
)
from predictive_scoring.data.simulator.truth import Truth

# Days drawn together: whole weeks, so that weekly ups and downs do not straddle blocks.
_BLOCK = 28


@dataclass(frozen=True, eq=False)
class World:
    """A simulated history as tables. All times are `datetime64[us, UTC]` in whole seconds, in
    `[config.start, config.end)` except `known_at`, which may be later.

    Attributes:
        config: what it was made from.
        leads: `lead_id, created_at, title?, industry, company_size? (employees), country (ISO 3166), source,
            time_zone (IANA), consent_email, consent_phone, do_not_contact, opted_out`; `?` may be null. `title` and
            `company_size` hold the newest value, as a CRM does; plus the columns of planted leaks.
        events: `event_id, lead_id, event_type, occurred_at, known_at, duration_seconds?, topic?`, sorted by
            `occurred_at`; `known_at >= occurred_at`. The conversion is `opportunity_created`.
        touches: `touch_id, lead_id, action_id, channel, occurred_at, propensity, holdout`: touches that happened.
        decisions: as `touches`, but every randomised decision: `do_nothing` included, and the decisions about
            holdout leads, which are always `do_nothing` (propensity 1, `holdout` true). The log that an effect model
            needs.
        attribute_changes: `lead_id, attribute, value (str), occurred_at, known_at`: every value that `title`
            and `company_size` ever had, the first at creation.
        truth: the hidden side.
    """

    config: SimulationConfig
    leads: pd.DataFrame
    events: pd.DataFrame
    touches: pd.DataFrame
    decisions: pd.DataFrame
    attribute_changes: pd.DataFrame
    truth: Truth


def simulate(config: SimulationConfig, progress: Callable[[int, int], None] | None = None) -> World:
    """Simulate a world; the same config gives identical tables.

    Args:
        config: what to simulate; it has validated itself.
        progress: called with (days done, days in total) about every four weeks of simulated time.

    Returns:
        The tables and their truth. Time and memory grow linearly with leads x days.
    """
    # One stream per part, so that planting a leak or a change in one part leaves the draws of the others alone.
    streams = [np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(8)]
    people = draw_population(config, streams[0])
    calendar = Calendar(config.start, config.days, ZONES, people.country)
    plan = plan_touches(config, people, streams[1])
    process = HiddenProcess(config, people, plan, streams[2])
    behaviour = Behaviour(config, people, calendar, streams[3])
    for first in range(0, config.days, _BLOCK):
        after = min(first + _BLOCK, config.days)
        for day in range(first, after):
            process.run_day(day)
        behaviour.run_block(first, process.stage[first:after])
        if progress is not None:
            progress(after, config.days)
    converted = _conversion_times(process.conversion_day, calendar, streams[4])
    decisions, effects, touch_mail = _touch_tables(people, plan, process, calendar, streams[5])
    batch = behaviour.finish(touch_mail, process.conversion_day, converted)
    leads, changes = _attributes(config, people, streams[6])
    events = events_frame(batch, people, streams[7])
    leads, events, changes = _plant(config, leads, events, changes, people.created, converted)
    hidden = pd.DataFrame(
        {
            "lead_id": leads["lead_id"],
            "fit": people.fit,
            "intent": people.intent,
            "activity": people.activity,
            "topic": named(TOPICS, people.topic),
            "holdout": plan.holdout,
            "converted_at": timestamps(converted),
        }
    )
    touches = decisions[decisions["action_id"] != DO_NOTHING].reset_index(drop=True)
    truth = Truth(hidden, effects, config, people, plan, rates(config, people), process.stage)
    return World(config, leads, events, touches, decisions, changes, truth)


def _conversion_times(day: Ints, calendar: Calendar, rng: np.random.Generator) -> Ints:
    """UTC seconds of each conversion, in office hours of the lead, -1 if never."""
    lead = np.flatnonzero(day >= 0)
    converted = np.full(day.size, -1, dtype=np.int64)
    converted[lead] = calendar.instant_within_day(lead, day[lead], local_seconds(rng, lead.size, office=True))
    return converted


def _touch_tables(
    people: Population, plan: TouchPlan, process: HiddenProcess, calendar: Calendar, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame, Batch]:
    """The decisions that came about, the true effects of the touches among them, and the e-mails they sent."""
    lead, slot = np.nonzero(~np.isnan(process.touch_shift))
    day = plan.day[lead, slot].astype(np.int64)
    occurred = calendar.instant_within_day(lead, day, local_seconds(rng, lead.size, office=True))
    order = np.lexsort((lead, occurred))
    lead, slot, day, occurred = lead[order], slot[order], day[order], occurred[order]
    action = plan.action[lead, slot].astype(np.int64)
    decisions = pd.DataFrame(
        {
            "touch_id": numbered("T", 1, lead.size, 7),
            "lead_id": lead_ids(people.size).take(lead).reset_index(drop=True),
            "action_id": named(ACTION_IDS, action),
            "channel": named(tuple(known.channel for known in ACTIONS), action),
            "occurred_at": timestamps(occurred),
            "propensity": plan.propensity[lead, slot],
            "holdout": plan.holdout[lead],
        }
    )
    stage = process.stage[day, lead]
    effects = decisions[["touch_id", "lead_id", "action_id"]].assign(
        stage=named(STAGES, stage.astype(np.int64)),
        log_hazard_shift=process.touch_shift[lead, slot],
        days=EFFECT_DAYS[action],
    )
    by_mail = np.array([known.channel == "email" for known in ACTIONS])[action]
    mail = Batch.of(lead[by_mail], 0, occurred[by_mail], stage[by_mail])
    touched = decisions["action_id"] != DO_NOTHING
    return decisions, effects[touched].reset_index(drop=True), mail


def _attributes(
    config: SimulationConfig, people: Population, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`leads` with the newest values and the honest `attribute_changes`.

    Job changes (4 % of leads), growth of the company (7 %) and missing values filled in later (30 % of them) come at
    a random time after creation that has nothing to do with the conversion.
    """
    leads = leads_frame(people)
    n = people.size
    span = config.start_seconds + config.days * DAY - people.created
    parts = []
    for attribute, known, moves in (
        ("title", people.title_known, 0.04),
        ("company_size", people.size_known, 0.07),
    ):
        moment = people.created + np.maximum((rng.random(n) * span).astype(np.int64), 1)
        changed = (rng.random(n) < np.where(known, moves, 0.30)) & (span > 1)
        if attribute == "title":
            new = np.where(known, new_title(rng, people.title), people.title)
            before, after = named(TITLES, people.title), named(TITLES, new)
            leads[attribute] = leads[attribute].mask(changed, after)
        else:
            grown = np.ceil(people.company_size * np.exp(rng.normal(0.10, 0.15, n))).astype(np.int64)
            sizes = pd.Series(np.where(known, grown, people.company_size), dtype="Int64")
            before, after = pd.Series(people.company_size).astype("str"), sizes.astype("str")
            leads[attribute] = leads[attribute].mask(changed, sizes)
        for when, value, present in ((people.created, before, known), (moment, after, changed)):
            rows = pd.DataFrame(
                {"lead_id": leads["lead_id"], "value": value, "occurred_at": timestamps(when)}
            )
            parts.append(rows[present].assign(attribute=attribute))
    changes = pd.concat(parts, ignore_index=True)
    changes["attribute"] = changes["attribute"].astype("str")
    changes["known_at"] = changes["occurred_at"]
    return leads, _sorted_changes(changes)


def _sorted_changes(changes: pd.DataFrame) -> pd.DataFrame:
    columns = ["lead_id", "attribute", "value", "occurred_at", "known_at"]
    return changes[columns].sort_values(
        ["occurred_at", "lead_id", "attribute"], kind="stable", ignore_index=True
    )


def _plant(
    config: SimulationConfig,
    leads: pd.DataFrame,
    events: pd.DataFrame,
    changes: pd.DataFrame,
    created: Ints,
    converted: Ints,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add the requested leaks, each from a stream of its own."""
    leads = leads.copy()
    end = config.start_seconds + config.days * DAY
    streams = dict(zip(LEAKS, np.random.SeedSequence([config.seed, 1]).spawn(len(LEAKS)), strict=True))
    for name in config.leaks:
        rng = np.random.default_rng(streams[name])
        if name == "late_value":
            events = leaks.add_late_value(rng, events, leads["lead_id"], created, converted, end)
        elif name == "near_pure_level":
            leads["lead_quality"] = leaks.lead_quality(rng, converted >= 0)
        elif name == "fill_rate":
            leads["budget"] = leaks.budget(rng, converted >= 0)
        elif name == "suspicious_name":
            leads["last_notable_activity"] = leaks.last_notable_activity(rng, converted >= 0)
        elif name == "overwritten_field":
            leads["buying_role"], more = leaks.buying_role(rng, leads["lead_id"], created, converted, end)
            changes = _sorted_changes(pd.concat([changes, more], ignore_index=True))
    return leads, events, changes
