"""What leads do: events as Poisson processes whose rates depend on the hidden stage and the lead's own activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.simulator.config import SimulationConfig
from predictive_scoring.data.simulator.leads import (
    TOPICS,
    Flags,
    Population,
    lead_ids,
    named,
    numbered,
)
from predictive_scoring.data.simulator.localtime import (
    DAY,
    WEEKDAY,
    Calendar,
    Floats,
    Ints,
    local_seconds,
    timestamps,
    weekday,
)
from predictive_scoring.data.simulator.process import CONVERTED

CONVERSION = "opportunity_created"
EVENT_TYPES: tuple[str, ...] = (
    "page_view", "pricing_view", "email_delivered", "email_open", "email_click", "email_unsubscribe", "form_submit",
    "demo_request", "webinar_attend", "content_download", "trial_start", "trial_session", "social_like",
    "social_comment", "social_share", "call", CONVERSION,
)  # fmt: skip
CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

# Events per day at activity 1, by stage: dormant, awareness, consideration, decision, converted.
_DAILY = {
    "page_view": (0.045, 0.190, 0.280, 0.340, 0.050),
    "pricing_view": (0.0030, 0.014, 0.040, 0.080, 0.0),
    "form_submit": (0.0010, 0.0060, 0.0090, 0.0120, 0.0),
    "demo_request": (0.0002, 0.0012, 0.0040, 0.0100, 0.0),
    "content_download": (0.0020, 0.0220, 0.0300, 0.0220, 0.0),
    "trial_start": (0.0002, 0.0020, 0.0070, 0.0140, 0.0),
    "social_like": (0.0100, 0.0250, 0.0260, 0.0200, 0.0),
    "social_comment": (0.0020, 0.0060, 0.0070, 0.0060, 0.0),
    "social_share": (0.0012, 0.0040, 0.0050, 0.0040, 0.0),
    "call": (0.0010, 0.0030, 0.0090, 0.0240, 0.0),
}
# Attendance per webinar (every second Wednesday).
_WEBINAR = np.array([0.006, 0.060, 0.080, 0.050, 0.0])
# Rates by stage code; the sixth entry answers to ABSENT = -1.
_RATES = {CODE[name]: np.array([*by_stage, 0.0]) for name, by_stage in _DAILY.items()}
_RATES[CODE["webinar_attend"]] = np.array([*_WEBINAR, 0.0])
_OPEN = np.array([0.10, 0.24, 0.32, 0.36])
_CLICK = np.array([0.05, 0.13, 0.20, 0.26])
_TRIAL_SESSIONS = np.array([2.5, 4.0, 5.5, 7.0])
_TRIAL_DAYS = 14
# Spread of a lead's activity from week to week (sd of its logarithm).
_WEEKLY_SD = 0.7
# Median duration in seconds and sd of its logarithm.
_DURATION = {"page_view": (45, 0.9), "pricing_view": (70, 0.8), "trial_session": (600, 0.9), "call": (320, 0.7),
             "webinar_attend": (2_300, 0.4)}  # fmt: skip
# Share of events of the type that carry a topic.
_TOPIC_SHARE = {"page_view": 0.5, "content_download": 1.0, "webinar_attend": 1.0}
_OWN_TOPIC = 0.5
# Share learned of late, and hours of the shortest and longest delay: attendance lists, call logs, tracking outages.
_LATE = {"webinar_attend": (0.60, 12, 72), "call": (0.30, 4, 60)}
_LATE_OTHERWISE = (0.01, 2, 30)


@dataclass(frozen=True, eq=False)
class Batch:
    """Events as arrays of one shape (n,): lead row, type code, UTC seconds, stage (-1 where it plays no part)."""

    lead: Ints
    code: npt.NDArray[np.int8]
    occurred: Ints
    stage: npt.NDArray[np.int8]

    @staticmethod
    def of(lead: Ints, code: int | Ints, occurred: Ints, stage: int | npt.NDArray[np.int8]) -> Batch:
        """A batch with a scalar code or stage spread over its events."""
        n = lead.size
        return Batch(
            lead.astype(np.int64),
            np.broadcast_to(np.asarray(code, dtype=np.int8), (n,)),
            occurred.astype(np.int64),
            np.broadcast_to(np.asarray(stage, dtype=np.int8), (n,)),
        )

    @staticmethod
    def join(batches: list[Batch]) -> Batch:
        """All events of the batches, in their order."""
        return Batch(
            np.concatenate([batch.lead for batch in batches]),
            np.concatenate([batch.code for batch in batches]),
            np.concatenate([batch.occurred for batch in batches]),
            np.concatenate([batch.stage for batch in batches]),
        )

    def where(self, keep: Flags) -> Batch:
        """The events flagged in `keep`."""
        return Batch(self.lead[keep], self.code[keep], self.occurred[keep], self.stage[keep])


class Behaviour:
    """Draws events for blocks of days, in order, and closes with what depends on the whole history."""

    def __init__(
        self, config: SimulationConfig, people: Population, calendar: Calendar, rng: np.random.Generator
    ) -> None:
        self._config, self._people, self._calendar, self._rng = config, people, calendar, rng
        # Each lead gets its weekly e-mail on a Tuesday, Wednesday or Thursday.
        self._mail_day = rng.integers(1, 4, people.size)
        self._batches: list[Batch] = []

    def run_block(self, first_day: int, stage: npt.NDArray[np.int8]) -> None:
        """Draw the events of consecutive days from their stages, shape (days, leads)."""
        days, n = stage.shape
        day = first_day + np.arange(days)
        on = weekday(self._config.start, day)
        weeks = np.exp(self._rng.normal(-(_WEEKLY_SD**2) / 2, _WEEKLY_SD, (-(-days // 7), n)))
        own = weeks[np.arange(days) // 7] * self._people.activity
        daily = own * WEEKDAY[on][:, None]
        webinar = own * ((on == 2) & (day // 7 % 2 == 0))[:, None]
        for code, rate in _RATES.items():
            weight = (webinar if code == CODE["webinar_attend"] else daily) * rate[stage]
            if code == CODE["call"]:
                weight *= self._people.consent_phone & ~self._people.do_not_contact
            row, lead = np.divmod(_poisson_cells(self._rng, weight), n)
            office = code in (CODE["call"], CODE["webinar_attend"])
            local = local_seconds(self._rng, lead.size, office)
            moment = self._calendar.instant(lead, first_day + row, local)
            self._batches.append(Batch.of(lead, code, moment, stage[row, lead]))
        mailable = self._people.consent_email & ~self._people.do_not_contact & ~self._people.opted_out
        listed = day[:, None] <= self._people.unsubscribe_day
        due = (on[:, None] == self._mail_day) & mailable & listed & (stage >= 0) & (stage < CONVERTED)
        row, lead = np.nonzero(due & (self._rng.random(due.shape) < 0.97))
        sent = self._calendar.instant(
            lead, first_day + row, self._rng.integers(9 * 3_600, 11 * 3_600, lead.size)
        )
        self._mail(lead, sent, stage[row, lead])

    def finish(self, touch_mail: Batch, conversion_day: Ints, converted: Ints) -> Batch:
        """Add mails of touches, first forms, unsubscribes, trials and conversions; cut what cannot have happened.

        Args:
            touch_mail: e-mail touches; their stage decides opens and clicks.
            conversion_day: simulated day per lead, -1 if never.
            converted: UTC seconds of the conversion per lead, -1 if never.

        Returns:
            All events inside the history. After its conversion a lead has page views only: everything else of its
            marketing life stops, so nothing left there tells that it converted.
        """
        people, rng = self._people, self._rng
        self._mail(touch_mail.lead, touch_mail.occurred, touch_mail.stage)
        every = np.arange(people.size)
        arrived = every[people.inbound]
        self._batches.append(Batch.of(arrived, CODE["form_submit"], people.created[arrived], -1))
        leaving = people.consent_email & ~people.do_not_contact & ~people.opted_out
        lead = every[leaving & (people.unsubscribe_day < self._config.days)]
        moment = self._calendar.instant(lead, people.unsubscribe_day[lead], local_seconds(rng, lead.size))
        self._batches.append(Batch.of(lead, CODE["email_unsubscribe"], moment, -1))
        events = self._cut(Batch.join(self._batches), converted)
        events = self._first_trials(events)
        sessions = self._cut(self._sessions(events), converted)
        lead = every[conversion_day >= 0]
        return Batch.join([events, sessions, Batch.of(lead, CODE[CONVERSION], converted[lead], -1)])

    def _mail(self, lead: Ints, sent: Ints, stage: npt.NDArray[np.int8]) -> None:
        """Deliveries with the opens and clicks that follow; mail clients with privacy relays open by themselves."""
        rng, people = self._rng, self._people
        self._batches.append(Batch.of(lead, CODE["email_delivered"], sent, stage))
        chance = np.clip(_OPEN[stage] * np.sqrt(people.activity[lead]), 0.0, 0.95)
        reads = rng.random(lead.size) < chance
        machine = people.machine_opens[lead] & (rng.random(lead.size) < 0.9)
        delay = np.minimum(60 + rng.exponential(4 * 3_600, lead.size), 4 * DAY).astype(np.int64)
        opened = sent + np.where(machine, rng.integers(1, 60, lead.size), delay)
        shown = reads | machine
        self._batches.append(Batch.of(lead[shown], CODE["email_open"], opened[shown], stage[shown]))
        clicks = reads & (rng.random(lead.size) < _CLICK[stage])
        clicked = sent + delay + rng.integers(3, 180, lead.size)
        self._batches.append(Batch.of(lead[clicks], CODE["email_click"], clicked[clicks], stage[clicks]))

    def _cut(self, events: Batch, converted: Ints) -> Batch:
        limit = converted[events.lead]
        inside = (events.occurred >= self._people.created[events.lead]) & (
            events.occurred < self._config.start_seconds + self._config.days * DAY
        )
        before = (limit < 0) | (events.occurred < limit)
        # Page views drawn for a day as a lead stay out after the conversion; the converted have their own rate.
        page = (events.code == CODE["page_view"]) & (events.stage == CONVERTED)
        return events.where(inside & (before | page))

    @staticmethod
    def _first_trials(events: Batch) -> Batch:
        """A lead starts one trial at most: later starts are dropped."""
        start = np.flatnonzero(events.code == CODE["trial_start"])
        order = start[np.lexsort((events.occurred[start], events.lead[start]))]
        keep = np.ones(events.lead.size, dtype=np.bool_)
        keep[order[1:][events.lead[order][1:] == events.lead[order][:-1]]] = False
        return events.where(keep)

    def _sessions(self, events: Batch) -> Batch:
        """Trial sessions in the two weeks after each trial start."""
        rng = self._rng
        trial = events.where(events.code == CODE["trial_start"])
        mean = _TRIAL_SESSIONS[np.clip(trial.stage, 0, 3)] * np.sqrt(self._people.activity[trial.lead])
        count = rng.poisson(mean)
        lead, start, stage = (
            np.repeat(trial.lead, count),
            np.repeat(trial.occurred, count),
            np.repeat(trial.stage, count),
        )
        day = (start - self._config.start_seconds) // DAY
        later = np.minimum(rng.exponential(4.0, lead.size), _TRIAL_DAYS - 1).astype(np.int64)
        moment = self._calendar.instant(lead, day + later, local_seconds(rng, lead.size))
        moment = np.where(moment <= start, start + rng.integers(60, 3_600, lead.size), moment)
        return Batch.of(lead, CODE["trial_session"], moment, stage)


def events_frame(events: Batch, people: Population, rng: np.random.Generator) -> pd.DataFrame:
    """The `events` table: properties and `known_at` added, sorted by time, lead and type."""
    order = np.lexsort((events.code, events.lead, events.occurred))
    lead, occurred, stage = events.lead[order], events.occurred[order], events.stage[order]
    code = events.code[order].astype(np.int64)
    n = lead.size
    median, sd, topic_share = np.full(n, np.nan), np.zeros(n), np.zeros(n)
    for name, (seconds, spread) in _DURATION.items():
        median[code == CODE[name]], sd[code == CODE[name]] = seconds, spread
    for name, share in _TOPIC_SHARE.items():
        topic_share[code == CODE[name]] = share
    # People nearer to a decision stay a little longer.
    longer = np.array([0.8, 1.0, 1.15, 1.3, 0.8, 1.0])[stage]
    duration = np.round(median * longer * np.exp(sd * rng.standard_normal(n)))
    own = rng.random(n) < _OWN_TOPIC
    topic = np.where(own, people.topic[lead], rng.integers(0, len(TOPICS), n))
    topic = np.where(rng.random(n) < topic_share, topic, -1)
    return pd.DataFrame(
        {
            "event_id": numbered("E", 1, n, 8),
            "lead_id": lead_ids(people.size).take(lead).reset_index(drop=True),
            "event_type": named(EVENT_TYPES, code),
            "occurred_at": timestamps(occurred),
            "known_at": timestamps(occurred + _delay(rng, code)),
            "duration_seconds": duration,
            "topic": named(TOPICS, topic),
        }
    )


def _delay(rng: np.random.Generator, code: Ints) -> Ints:
    """Seconds from an event to our knowledge of it."""
    n = code.size
    share, low, high = (np.full(n, value, dtype=np.float64) for value in _LATE_OTHERWISE)
    for name, settings in _LATE.items():
        of_type = code == CODE[name]
        share[of_type], low[of_type], high[of_type] = settings
    prompt = np.minimum(rng.exponential(8.0, n), 900)
    late = 3_600 * (low + (high - low) * rng.random(n))
    return np.asarray(np.where(rng.random(n) < share, late, prompt), dtype=np.int64)


def _poisson_cells(rng: np.random.Generator, weight: Floats) -> Ints:
    """Flat cell indices of a Poisson process with the given mean per cell.

    Draws the total, then places each event in proportion to the means: the same law as a draw per cell, at a cost
    that follows the number of events.
    """
    cumulative = np.cumsum(weight, axis=None)
    total = float(cumulative[-1])
    drawn = rng.random(rng.poisson(total)) * total
    drawn.sort()
    return np.minimum(np.searchsorted(cumulative, drawn, side="right"), weight.size - 1)
