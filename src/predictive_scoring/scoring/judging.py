"""From what was read of leads to their scores: what a lead is told to be, why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.definitions import EventFeature, Feature
from predictive_scoring.insight.explanation import Explainer, reasons
from predictive_scoring.insight.stage import stage_of
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.grading import Readiness
from predictive_scoring.nurture.recommendation import recommend
from predictive_scoring.schema import (
    Evidence,
    HorizonProbability,
    ModelReference,
    NurtureContext,
    Recommendation,
    Score,
    Stage,
    Touch,
    Trend,
)
from predictive_scoring.timeline import WEEK, age, exists_at, format_instant, in_feature_window

STEADY = 3
"""A change of the score within this many points is `steady`."""

MOST_REASONS = 5

Sides = Mapping[str, Readiness]
"""Lead id -> the side of the line of readiness on which the lead stood."""


@dataclass(frozen=True)
class Subject:
    """What is known about one lead besides its feature vector."""

    lead_id: str
    created: int
    attributes: Mapping[str, Any]
    touches: tuple[Touch, ...]


@dataclass(frozen=True)
class Readings:
    """What was read of some leads: values now by name, the model's encoded columns (n, k) now and a week earlier, and
    the weekly counts (n, STAGE_WEEKS, families)."""

    rows: Sequence[Mapping[str, Value]]
    now: np.ndarray
    before: np.ndarray
    counts: Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Judge:
    """A scoring model and what it is called. `features` are the model's, in the order of its columns; `families` the
    types of the events that count for each stage."""

    scoring: ScoringModel
    reference: ModelReference
    features: tuple[Feature, ...]
    families: tuple[frozenset[str], ...]

    def scores(
        self,
        subjects: Sequence[Subject],
        readings: Readings,
        as_of: int,
        sides: Sides,
    ) -> list[Score]:
        """Scores of leads in their order; a lead that `sides` knows changes side only by a clear crossing."""
        at = format_instant(as_of)
        documents: list[Score | None] = []
        for subject, values in zip(subjects, readings.rows, strict=True):
            refusal = self._refusal(subject, values, as_of)
            documents.append(None if refusal is None else self._unscored(subject.lead_id, at, *refusal))
        open_ = [number for number, document in enumerate(documents) if document is None]
        judged = self._judged(subjects, readings, open_, as_of, sides)
        for number, score in zip(open_, judged, strict=True):
            documents[number] = score
        return [document for document in documents if document is not None]

    def _judged(
        self,
        subjects: Sequence[Subject],
        readings: Readings,
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
    def _explainer(self) -> Explainer:
        return Explainer(self.features)

    @cached_property
    def _withdrawals(self) -> tuple[tuple[str, str], ...]:
        """Each channel with the feature that says whether its consent was taken back."""
        withdrawn_by = self.scoring.project.contact.withdrawn_by
        return tuple((channel, standing_feature(events).name) for channel, events in withdrawn_by.items())

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {feature.name: feature.label for feature in self.scoring.features}


def standing_feature(events: Sequence[str]) -> EventFeature:
    """Whether one of the events was ever seen: what says where a lead stands, whatever the model reads."""
    return EventFeature("ever", tuple(events), "standing", "standing")


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)
