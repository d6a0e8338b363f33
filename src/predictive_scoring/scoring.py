"""The one door to a score: batch, service, pages and command line all go through `Scorer`.

A score is a pure function of (scoring model, lead history before `as_of`). The two ways in differ only in
how the feature vector is read: by `fold` for a lead in hand, by `expression` for stored tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.definitions import EventFeature, Feature
from predictive_scoring.features.online import FeatureReader, WeekCounter, seen_events
from predictive_scoring.insight.explanation import Explainer, reasons
from predictive_scoring.insight.stage import FAMILIES, stage_of
from predictive_scoring.keeping.bundle import ScoringModel, read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.model.columns import encode, encode_values
from predictive_scoring.model.grading import Readiness
from predictive_scoring.nurture.recommendation import recommend
from predictive_scoring.schema import (
    Evidence,
    HorizonProbability,
    Lead,
    ModelReference,
    NurtureContext,
    Recommendation,
    Score,
    Stage,
    Touch,
    Trend,
)
from predictive_scoring.timeline import WEEK, age, exists_at, format_instant, in_feature_window

if TYPE_CHECKING:
    # Frames and engines take a second and 150 MB to load, and a lead in hand needs neither.
    import pandas as pd

    from predictive_scoring.data.sources import Tables

STAGE_WEEKS = 26
"""Weeks of history that the journey stage reads."""
STEADY = 3
"""A change of the score within this many points is `steady`."""

MOST_REASONS = 5

Progress = Callable[[int, int], None]
Sides = Mapping[str, Readiness]
"""Lead id -> the side of the line of readiness on which the lead stood."""
Served = Callable[[Sequence[Score], Sequence[Mapping[str, Value]]], None]
"""Is told scores and, one by one, the values of the model's features by name that they were made of."""


@dataclass(frozen=True)
class Subject:
    """What is known about one lead besides its feature vector."""

    lead_id: str
    created: int
    attributes: Mapping[str, Any]
    touches: tuple[Touch, ...]


@dataclass(frozen=True)
class Scorer:
    """A scoring model with its name, ready to answer. `version` is the registry's, if registered;
    `manifest` is its bundle's, with the verdict it was given."""

    scoring: ScoringModel
    identity: str
    version: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def reference(self) -> ModelReference:
        return ModelReference(name=self.scoring.project.name, version=self.version, bundle=self.identity)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The model's features, in the order of its columns."""
        by_name = {feature.name: feature for feature in self.scoring.features}
        return tuple(by_name[column.name] for column in self.scoring.model.columns)

    @cached_property
    def _standing(self) -> dict[str, EventFeature]:
        """Features that say where a lead stands, whatever the model reads: converted? consent withdrawn?"""
        project = self.scoring.project
        groups: list[tuple[str, ...]] = [(project.conversion.event,)] if project.conversion.event else []
        groups += list(project.contact.withdrawn_by.values())
        standing = [_standing_feature(group) for group in groups]
        return {feature.name: feature for feature in standing}

    @cached_property
    def features_read(self) -> tuple[Feature, ...]:
        """Every feature that has to be read: the model's, the playbook's conditions', and the standing."""
        return tuple(
            {feature.name: feature for feature in (*self.scoring.features, *self._standing.values())}.values()
        )

    @cached_property
    def families(self) -> tuple[frozenset[str], ...]:
        """Types of the events that count for each stage, in the order of `insight.stage.FAMILIES`."""
        events = self.scoring.project.events
        return tuple(
            frozenset(name for name, setting in events.items() if setting.stage == family)
            for family in FAMILIES
        )

    def score(
        self, lead: Lead, as_of: int, served: Served | None = None, previous: Sides | None = None
    ) -> Score:
        """The score of one lead with its history in hand, at `as_of` (epoch seconds)."""
        return self.score_many([lead], as_of, served, previous)[0]

    def score_many(
        self,
        leads: Sequence[Lead],
        as_of: int,
        served: Served | None = None,
        previous: Sides | None = None,
    ) -> list[Score]:
        """Scores of leads with their histories in hand, in their order.

        `previous` are the sides of the line on which leads stood before (see `score_frames`)."""
        subjects = [Subject(lead.lead_id, lead.created, lead.attributes, lead.touches) for lead in leads]
        rows: list[Mapping[str, Value]] = []
        before: list[Mapping[str, Value]] = []
        counts = []
        for lead in leads:
            events = seen_events(lead, as_of)
            values, earlier = self._reader.twice(lead, events, as_of, as_of - WEEK)
            rows.append(self._as_stored(values))
            before.append(earlier)
            counts.append(self._weeks(events, as_of))
        columns = self.scoring.model.columns
        readings = _Readings(rows, encode_values(rows, columns), encode_values(before, columns), counts)
        return self._scores(subjects, readings, as_of, served, previous)

    def score_tables(
        self,
        tables: Tables,
        as_of: int,
        *,
        chunk: int = 2000,
        progress: Progress | None = None,
        served: Served | None = None,
        previous: Sides | None = None,
    ) -> Iterator[Score]:
        """Scores of every stored lead, in order of lead id, read by the engine that holds the tables."""
        from predictive_scoring.data.histories import records, touches_by_lead

        touches = touches_by_lead(tables.touches)
        total = len(tables.leads)
        for start in range(0, total, chunk):
            leads = tables.leads.iloc[start : start + chunk].reset_index(drop=True)
            subjects = [
                Subject(str(row["lead_id"]), int(row["created"]), row, touches.get(row["lead_id"], ()))
                for row in records(leads)
            ]
            now = self._expressed(tables, leads, as_of)
            before = self._expressed(tables, leads, as_of - WEEK)
            counts = self._counted(tables, leads, as_of)
            yield from self.score_frames(subjects, now, before, counts, as_of, served, previous)
            if progress:
                progress(min(start + chunk, total), total)

    @cached_property
    def _reader(self) -> FeatureReader:
        return FeatureReader(self.features_read)

    @cached_property
    def _weeks(self) -> WeekCounter:
        return WeekCounter(self.families, STAGE_WEEKS)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.features)

    @cached_property
    def _numbers(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features_read if feature.kind == "number")

    def _as_stored(self, values: dict[str, Value]) -> dict[str, Value]:
        """Folded values as a stored frame would hold them: numbers are floats, and NaN is missing."""
        for name in self._numbers:
            value = values[name]
            if value is not None:
                values[name] = number if (number := float(value)) == number else None
        return values

    def _expressed(self, tables: Tables, leads: pd.DataFrame, cutoff: int) -> pd.DataFrame:
        from predictive_scoring.data.feature_frame import feature_frame

        return feature_frame(tables, _observations(leads, cutoff), self.features_read)

    def _counted(self, tables: Tables, leads: pd.DataFrame, cutoff: int) -> np.ndarray:
        counts = np.zeros((len(leads), STAGE_WEEKS, len(FAMILIES)), dtype=np.int64)
        if not any(self.families):
            return counts
        from predictive_scoring.features.batch import weekly_count_table

        with tables.engine.temporary("observations", _observations(leads, cutoff)) as observed:
            rows = weekly_count_table(observed, tables.events, self.families, STAGE_WEEKS).to_pandas()
        counts[rows["observation_id"], rows["week"], rows["family"]] = rows["events"]
        return counts

    def score_frames(
        self,
        subjects: Sequence[Subject],
        now: pd.DataFrame,
        before: pd.DataFrame,
        counts: np.ndarray,
        as_of: int,
        served: Served | None = None,
        previous: Sides | None = None,
    ) -> list[Score]:
        """Scores of leads whose features are read, in their order.

        `now` and `before` hold a column for each of `features_read`, at `as_of` and a week earlier;
        `counts` the weekly counts of events, (leads, STAGE_WEEKS, families). A lead that `previous` knows changes
        side only by a clear crossing of the line, so that leads beside it do not go to and fro."""
        from predictive_scoring.data.histories import records

        columns = self.scoring.model.columns
        readings = _Readings(records(now), encode(now, columns), encode(before, columns), counts.tolist())
        return self._scores(subjects, readings, as_of, served, previous)

    def _scores(
        self,
        subjects: Sequence[Subject],
        readings: _Readings,
        as_of: int,
        served: Served | None,
        previous: Sides | None,
    ) -> list[Score]:
        """Scores of leads in their order, however their features were read."""
        at = format_instant(as_of)
        documents: list[Score | None] = []
        for subject, values in zip(subjects, readings.rows, strict=True):
            refusal = self._refusal(subject, values, as_of)
            documents.append(None if refusal is None else self._unscored(subject.lead_id, at, *refusal))
        open_ = [number for number, document in enumerate(documents) if document is None]
        for number, score in zip(
            open_, self._judged(subjects, readings, open_, as_of, previous or {}), strict=True
        ):
            documents[number] = score
        answer = [document for document in documents if document is not None]
        if served is not None:
            names = [feature.name for feature in self.features]
            served(answer, [{name: values[name] for name in names} for values in readings.rows])
        return answer

    def _judged(
        self,
        subjects: Sequence[Subject],
        readings: _Readings,
        chosen: Sequence[int],
        as_of: int,
        sides: Sides,
    ) -> Iterator[Score]:
        """Scores of the chosen ones, to which nothing is in the way."""
        if not chosen:
            return
        model, grading = self.scoring.model, self.scoring.grading
        told = model.answers(readings.now[chosen], readings.before[chosen])
        fit, engagement = self._explainer.fit_and_engagement(told.phi)
        at, since = format_instant(as_of), format_instant(as_of - WEEK)
        numbers = zip(
            told.logit.tolist(),
            told.probability.tolist(),
            told.phi.tolist(),
            told.limit.tolist(),
            told.low.tolist(),
            told.high.tolist(),
            told.sizes.tolist(),
            grading.scores(told.logit).tolist(),
            grading.scores(told.before).tolist(),
            fit.tolist(),
            engagement.tolist(),
            strict=True,
        )
        for number, (logit, probability, shares, limit, low, high, size, score, earlier, *sums) in zip(
            chosen, numbers, strict=True
        ):
            subject, values = subjects[number], readings.rows[number]
            readiness = grading.readiness(probability, sides.get(subject.lead_id))
            stage = self._stage(subject, readings.counts[number], as_of)
            horizons, expected = self._curve(logit)
            advice = (
                Recommendation((), "ready")
                if readiness == "ready"
                else self._advice(subject, values, stage, logit, as_of)
            )
            yield Score(
                lead_id=subject.lead_id,
                as_of=at,
                status="scored",
                probability=probability,
                interval=(min(low, probability), max(high, probability)),
                horizon_days=self.scoring.project.conversion.horizon_days,
                horizons=horizons,
                expected_days=expected,
                evidence=self._evidence(size),
                score=score,
                percentile=round(grading.percentile(score)),
                grade=grading.grade(*sums),
                readiness=readiness,
                stage=stage,
                trend=self._trend(subject, score - earlier, as_of - WEEK, since),
                explanation=self._explainer.explanation(values, told.base, shares, limit, logit),
                reasons=reasons(self._explainer.concepts(values, shares, MOST_REASONS), MOST_REASONS),
                actions=advice.actions,
                actions_reason=advice.reason,
                model=self.reference,
            )

    def _stage(self, subject: Subject, counts: Sequence[Sequence[int]], as_of: int) -> Stage | None:
        if not any(self.families):
            return None
        # A lead's first week is seldom whole. It is read as one all the same: otherwise three busy days would
        # count as nothing known.
        weeks = max(0, -(-age(subject.created, as_of) // WEEK))
        return stage_of(counts, weeks, self.scoring.stages)

    def _curve(self, logit: float) -> tuple[tuple[HorizonProbability, ...], float | None]:
        """Probabilities of every horizon and the expected days; nothing where no curve was learned."""
        curve = self.scoring.curve
        if curve is None:
            return (), None
        probabilities, expected = curve.told(logit)
        horizons = zip(curve.horizons_days, probabilities, strict=True)
        return tuple(HorizonProbability(days=days, probability=p) for days, p in horizons), round(expected, 1)

    def _evidence(self, size: float) -> Evidence | None:
        rests_on = self.scoring.model.evidence
        if rests_on is None:
            return None
        return Evidence(
            basis=rests_on.basis,
            conversions=rests_on.conversions,
            effective_sample_size=None if size != size else round(size, 1),
        )

    def _refusal(self, subject: Subject, values: Mapping[str, Value], as_of: int) -> tuple[str, str] | None:
        """(status, reason) of a lead that gets no score, or None."""
        contact, event = self.scoring.project.contact, self.scoring.project.conversion.event
        if contact.opted_out and subject.attributes.get(contact.opted_out):
            return "suppressed", "opted_out"
        if not exists_at(subject.created, as_of):
            return "not_scored", "not_yet_created"
        if event and values.get(f"ever_{event}"):
            return "not_scored", "already_converted"
        return None

    def _unscored(self, lead_id: str, at: str, status: Any, reason: str) -> Score:
        return Score(
            lead_id=lead_id,
            as_of=at,
            status=status,
            status_reason=reason,
            horizon_days=self.scoring.project.conversion.horizon_days,
            model=self.reference,
        )

    def _trend(self, subject: Subject, change: int, since: int, told: str) -> Trend | None:
        if self.scoring.project.is_snapshot or not exists_at(subject.created, since):
            return None
        direction = "steady" if abs(change) <= STEADY else "rising" if change > 0 else "falling"
        return Trend(direction=direction, change=change, since=told)

    def _advice(
        self, subject: Subject, values: Mapping[str, Value], stage: Stage | None, logit: float, as_of: int
    ) -> Recommendation:
        playbook, contact = self.scoring.playbook, self.scoring.project.contact
        if playbook is None:
            return Recommendation((), "no_playbook")
        consents: dict[str, bool | None] = {
            channel: _flag(subject.attributes.get(column)) for channel, column in contact.consent.items()
        }
        for channel, name in self._withdrawals:
            if values.get(name):
                consents[channel] = False
        context = NurtureContext(
            lead_id=subject.lead_id,
            as_of=as_of,
            stage=stage or "awareness",
            logit=logit,
            features=values,
            consents=consents,
            do_not_contact=bool(contact.do_not_contact and subject.attributes.get(contact.do_not_contact)),
            time_zone=subject.attributes.get(contact.time_zone) if contact.time_zone else None,
            touches=tuple(
                touch for touch in subject.touches if in_feature_window(age(touch.occurred, as_of), None)
            ),
        )
        return recommend(context, playbook, labels=self._labels)

    @cached_property
    def _withdrawals(self) -> tuple[tuple[str, str], ...]:
        """Each channel with the feature that says whether its consent was taken back."""
        withdrawn_by = self.scoring.project.contact.withdrawn_by
        return tuple((channel, _standing_feature(events).name) for channel, events in withdrawn_by.items())

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {feature.name: feature.label for feature in self.scoring.features}


def champion_scorer(store: BundleStore) -> Scorer:
    """The scorer of a project's champion, its bundle verified. Raises UnknownModel and CorruptBundle."""
    promotion = store.champion()
    bundle = read_bundle(store.path(promotion.bundle))
    return Scorer(bundle.scoring_model(), bundle.identity, promotion.version, bundle.manifest)


@dataclass(frozen=True)
class _Readings:
    """What was read of some leads: values now by name, the model's encoded columns (n, k) now and a week earlier, and
    the weekly counts (n, STAGE_WEEKS, families)."""

    rows: Sequence[Mapping[str, Value]]
    now: np.ndarray
    before: np.ndarray
    counts: Sequence[Sequence[Sequence[int]]]


def _observations(leads: pd.DataFrame, cutoff: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "observation_id": np.arange(len(leads), dtype=np.int64),
            "lead_id": leads["lead_id"],
            "cutoff": np.int64(cutoff),
        }
    )


def _standing_feature(events: Sequence[str]) -> EventFeature:
    return EventFeature("ever", tuple(events), "standing", "standing")


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)
