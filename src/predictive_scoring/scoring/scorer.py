"""Leads read, by `fold` in hand or by `expression` from stored tables, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.definitions import EventFeature, Feature
from predictive_scoring.features.online import FeatureReader, WeekCounter, seen_events
from predictive_scoring.insight.stage import FAMILIES
from predictive_scoring.keeping.bundle import ScoringModel, read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.model.columns import encode, encode_values
from predictive_scoring.schema import Lead, ModelReference, Score
from predictive_scoring.scoring.judging import Judge, Readings, Sides, Subject, standing_feature
from predictive_scoring.timeline import WEEK

if TYPE_CHECKING:
    # Frames and engines take a second and 150 MB to load, and a lead in hand needs neither.
    import pandas as pd

    from predictive_scoring.data.sources import Tables

STAGE_WEEKS = 26
"""Weeks of history that the journey stage reads."""

Progress = Callable[[int, int], None]
Served = Callable[[Sequence[Score], Sequence[Mapping[str, Value]]], None]
"""Is told scores and, one by one, the values of the model's features by name that they were made of."""


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
        standing = [standing_feature(group) for group in groups]
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
        readings = Readings(rows, encode_values(rows, columns), encode_values(before, columns), counts)
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
    def _judge(self) -> Judge:
        return Judge(self.scoring, self.reference, self.features, self.families)

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
        readings = Readings(records(now), encode(now, columns), encode(before, columns), counts.tolist())
        return self._scores(subjects, readings, as_of, served, previous)

    def _scores(
        self,
        subjects: Sequence[Subject],
        readings: Readings,
        as_of: int,
        served: Served | None,
        previous: Sides | None,
    ) -> list[Score]:
        """Scores of leads in their order, however their features were read."""
        answer = self._judge.scores(subjects, readings, as_of, previous or {})
        if served is not None:
            names = [feature.name for feature in self.features]
            served(answer, [{name: values[name] for name in names} for values in readings.rows])
        return answer


def champion_scorer(store: BundleStore) -> Scorer:
    """The scorer of a project's champion, its bundle verified. Raises UnknownModel and CorruptBundle."""
    promotion = store.champion()
    bundle = read_bundle(store.path(promotion.bundle))
    return Scorer(bundle.scoring_model(), bundle.identity, promotion.version, bundle.manifest)


def _observations(leads: pd.DataFrame, cutoff: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "observation_id": np.arange(len(leads), dtype=np.int64),
            "lead_id": leads["lead_id"],
            "cutoff": np.int64(cutoff),
        }
    )
