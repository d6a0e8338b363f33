"""Fitting and judging a candidate: examples, leak screen, rung of the ladder, verdict, line of readiness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.audit import screen_before_training
from predictive_scoring.data.dataset import PERIODS, Dataset, build_dataset
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.inflow import INFLOW_DAYS, open_inflow
from predictive_scoring.data.leak_screen import LeakScreen
from predictive_scoring.data.population import newcomers
from predictive_scoring.data.segments import segment_columns
from predictive_scoring.data.sources import ProjectFile, Tables
from predictive_scoring.errors import MissingColumn
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.definitions import Feature, FeatureView, features_of
from predictive_scoring.features.silence import model_features
from predictive_scoring.insight.explanation import Explainer
from predictive_scoring.insight.stage import StageParameters
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.calibrated import CalibratedModel
from predictive_scoring.model.capacity import capacity_line
from predictive_scoring.model.challenge import Check
from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.curve import ConversionCurve, fit_curve
from predictive_scoring.model.evaluation import Verdict, evaluate, judge
from predictive_scoring.model.fitting import fit_calibrated, fit_points_card
from predictive_scoring.model.grading import Grading, break_even_probability, learn_grading
from predictive_scoring.model.points import PointsCard, learn_card, named_levels
from predictive_scoring.model.reference import Reference, learn_reference
from predictive_scoring.model.selection import Selection
from predictive_scoring.model.tuning import Tuning
from predictive_scoring.nurture.playbook import Playbook, check_names, parse_playbook
from predictive_scoring.settings import Project
from predictive_scoring.timeline import format_instant

Say = Callable[[str], None]
Floats = npt.NDArray[np.float64]

GRADED_ROWS = 2500
"""Rows (about) from which the cuts of the grades are taken."""


@dataclass(frozen=True)
class Candidate:
    """A trained and judged model, before it is kept anywhere.

    `set_aside` says why features are not read, `screen` what the leak screen found. Of a cold start, which holds
    nothing out, `selection` and `test_probability` are None."""

    scoring: ScoringModel
    dataset: Dataset
    screen: LeakScreen
    verdict: Verdict
    set_aside: Mapping[str, str]
    selection: Selection | None = None
    test_probability: Floats | None = None

    @property
    def evidence(self) -> dict[str, Any]:
        """What the model rests on: basis, conversions, examples."""
        evidence = self.scoring.model.evidence
        return {} if evidence is None else evidence.to_document()


@dataclass(frozen=True)
class _Examples:
    """The rows of one period, oldest first."""

    frame: pd.DataFrame
    labels: npt.NDArray[np.int64]
    leads: npt.NDArray[np.object_]
    observations: pd.DataFrame

    @classmethod
    def of(cls, dataset: Dataset, period: str) -> _Examples:
        chosen = dataset.observations["period"] == period
        return cls(*dataset.rows(period), dataset.observations[chosen].reset_index(drop=True))

    @property
    def weight(self) -> Floats:
        return self.observations["weight"].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class _Fitted:
    """A model and what was learned beside it. `verdict` and the metrics are about the test period, if there is one."""

    model: CalibratedModel
    verdict: Verdict
    known_frame: pd.DataFrame
    metrics: Mapping[str, Any]
    curve: ConversionCurve | None = None
    selection: Selection | None = None
    test_probability: Floats | None = None


def read_playbook(loaded: ProjectFile, views: tuple[FeatureView, ...]) -> Playbook | None:
    """The project's playbook, its conditions checked against the features that exist.

    Raises UnreadableFile and InvalidDocument (with line)."""
    name = loaded.project.playbook
    if name is None:
        return None
    playbook = parse_playbook(loaded.read_beside(name), name)
    check_names(playbook, [feature.name for feature in features_of(views)])
    return playbook


def fit_candidate(
    loaded: ProjectFile,
    tables: Tables,
    champion: ScoringModel | None = None,
    say: Say = lambda _: None,
    tuning: Tuning | None = None,
) -> Candidate:
    """Learn a scoring model from the project's tables and judge it on the newest period.

    `champion`, if any, is judged on the same rows, and its reference odds are kept so that a score of 50
    goes on meaning what it meant. `tuning` searches for better settings within a budget. Raises the errors of
    `build_dataset` and `views_of`, and LeakSuspected while a feature seems to know the outcome and the project
    file does not answer for it."""
    project = loaded.project
    views = views_of(project)
    playbook = read_playbook(loaded, views)
    say("reading features at every cutoff")
    dataset = build_dataset(tables, views)
    say("screening them for leaks")
    screen = screen_before_training(tables, dataset)
    kept, directions, set_aside = model_features(
        dataset.features, may_raise=project.silence_may_raise, never_negative=dataset.never_negative
    )
    if dataset.is_cold_start:
        say("too few conversions to learn from: fitting the level of the points card")
        fitted = _cold_start(dataset, kept, directions, project, champion)
    else:
        fitted = _learned(dataset, kept, directions, tables, champion, say, tuning)
    grading = _grading(fitted.model, tables, dataset.views, fitted.known_frame, champion)
    scoring = ScoringModel(
        project=project,
        views=dataset.views,
        model=fitted.model,
        grading=grading,
        reference=_reference(fitted, dataset, tables, grading),
        stages=StageParameters.model_validate(project.journey),
        playbook=playbook,
        metrics={
            **fitted.metrics,
            "periods": _periods(dataset, project),
            "arrangement": dataset.arrangement,
            "set_aside": dict(set_aside),
            "leak_screen": {
                "set_aside": dict(project.leaks),
                "waived": [leak.to_document() for leak in screen.findings if leak.verdict == "waived"],
            },
        },
        curve=fitted.curve,
    )
    return Candidate(
        scoring, dataset, screen, fitted.verdict, set_aside, fitted.selection, fitted.test_probability
    )


def _columns(
    frame: pd.DataFrame, kept: tuple[Feature, ...], directions: Mapping[str, int], project: Project
) -> tuple[tuple[Column, ...], PointsCard]:
    columns = learn_columns(
        frame,
        {feature.name: feature.kind for feature in kept},
        directions=directions,
        always=named_levels(project.points),
    )
    return columns, learn_card(project.points, columns, encode(frame, columns))


def _learned(
    dataset: Dataset,
    kept: tuple[Feature, ...],
    directions: Mapping[str, int],
    tables: Tables,
    champion: ScoringModel | None,
    say: Say,
    tuning: Tuning | None,
) -> _Fitted:
    project = tables.project
    train, recent, test = (_Examples.of(dataset, period) for period in PERIODS)
    known_frame = pd.concat([train.frame, recent.frame], ignore_index=True)
    # The last rate known before the test period: a model has to beat today's rate, not an average of years.
    known_rate = float(np.average(recent.labels, weights=recent.weight))
    columns, card = _columns(known_frame, kept, directions, project)
    say("choosing and fitting the model on the newest matured period")
    model, selection = fit_calibrated(
        train.frame,
        train.labels,
        recent.frame,
        recent.labels,
        columns,
        seed=project.seed,
        train_leads=train.leads,
        recent_leads=recent.leads,
        # All rows of a snapshot bear the same date; their order is their time.
        recent_times=None if project.is_snapshot else recent.observations["cutoff"].to_numpy(),
        recent_ends=None
        if project.is_snapshot
        else (recent.observations["cutoff"] + recent.observations["horizon"]).to_numpy(),
        train_weight=train.weight,
        recent_weight=recent.weight,
        card=card,
        tuning=tuning,
    )
    say("judging it on the test period")
    probability = model.probability(test.frame)
    champion_p, unread = _champion_probability(champion, tables, test.observations)
    verdict = judge(
        test.labels,
        probability,
        known_base_rate=known_rate,
        champion_p=champion_p,
        leads=test.leads,
        segments=segment_columns(project, test.frame),
        weight=test.weight,
    )
    verdict = Verdict((*verdict.checks, *unread))
    recent_logit = model.calibration.logit(selection.recent_margin)
    metrics = {
        "test": evaluate(test.labels, probability, test.weight).to_document(),
        "calibrate": evaluate(
            recent.labels, model.calibration.probability(selection.recent_margin), recent.weight
        ).to_document(),
        "known_base_rate": known_rate,
    }
    curve = None
    if not project.is_snapshot:
        curve = fit_curve(
            recent_logit,
            recent.observations["converted_after"],
            recent.observations["followed"],
            project.conversion.horizons,
            project.conversion.horizon,
            recent.weight,
        )
    return _Fitted(model, verdict, known_frame, metrics, curve, selection, probability)


def _cold_start(
    dataset: Dataset,
    kept: tuple[Feature, ...],
    directions: Mapping[str, int],
    project: Project,
    champion: ScoringModel | None,
) -> _Fitted:
    rows = _Examples.of(dataset, "train")
    columns, card = _columns(rows.frame, kept, directions, project)
    model = fit_points_card(
        rows.frame,
        rows.labels,
        columns,
        card,
        seed=project.seed,
        expected_rate=project.conversion.expected_rate,
        weight=rows.weight,
        leads=rows.leads,
    )
    conversions = int(rows.labels.sum())
    told = (
        f"Cold start: {conversions} conversions among {len(rows.labels):,} examples are too few to hold any out. The "
        "points card says what people believe; no outcome has tested it."
    )
    checks = [Check("cold_start", True, told)]
    if champion is not None and not champion.is_points_card:
        checks.append(
            Check(
                "champion", False, "The champion was tested on outcomes; a points card cannot take its place."
            )
        )
    return _Fitted(
        model,
        Verdict(tuple(checks)),
        rows.frame,
        {"test": None, "calibrate": None, "known_base_rate": conversions / len(rows.labels)},
    )


def _champion_probability(
    champion: ScoringModel | None, tables: Tables, observations: pd.DataFrame
) -> tuple[Floats | None, tuple[Check, ...]]:
    """The champion's probabilities on the candidate's test rows, with the champion's own features; or why there are
    none. A champion that cannot score these leads keeps nobody out."""
    if champion is None:
        return None, ()
    try:
        return champion.model.probability(feature_frame(tables, observations, champion.features)), ()
    except MissingColumn as refused:
        told = f"The champion cannot score the present tables, so it was not compared: {refused.what}."
        return None, (Check("champion", True, told),)


def _reference(fitted: _Fitted, dataset: Dataset, tables: Tables, grading: Grading) -> Reference:
    """What the rows of `known_frame` looked like: the yardstick of drift."""
    by_period = (
        dataset.observations[dataset.observations["period"] == period] for period in ("train", "calibrate")
    )
    known = pd.concat(by_period, ignore_index=True)
    return learn_reference(
        fitted.known_frame,
        dataset.kinds,
        leads=known["lead_id"].to_numpy(),
        scores=grading.scores(fitted.model.logit(fitted.known_frame)),
        newcomers=newcomers(tables, known),
    )


def _periods(dataset: Dataset, project: Project) -> dict[str, Any]:
    periods = {}
    for name in PERIODS:
        rows = dataset.observations[dataset.observations["period"] == name]
        periods[name] = {
            "examples": len(rows),
            "leads": int(rows["lead_id"].nunique()),
            "conversions": int(rows["label"].sum()),
            **(
                {}
                if project.is_snapshot or rows.empty
                else {
                    "first_cutoff": format_instant(int(rows["cutoff"].min())),
                    "last_cutoff": format_instant(int(rows["cutoff"].max())),
                }
            ),
        }
    return periods


def _grading(
    model: CalibratedModel,
    tables: Tables,
    views: tuple[FeatureView, ...],
    known_frame: pd.DataFrame,
    champion: ScoringModel | None,
) -> Grading:
    """Score reference from the rows known at training; the line of readiness from the project's rule."""
    readiness = tables.project.readiness
    features = {feature.name: feature for feature in features_of(views)}
    logit = model.logit(known_frame)
    # Thirds of some thousand rows are those of all; contributions are what costs.
    some = known_frame.iloc[:: max(1, len(known_frame) // GRADED_ROWS)]
    _, contributions, _, _ = model.contributions(some)
    explainer = Explainer(tuple(features[column.name] for column in model.columns))
    fit, engagement = explainer.fit_and_engagement(contributions)
    kept = champion.grading.reference_log_odds if champion is not None else None
    if readiness.weekly_capacity is None and readiness.share is not None:
        return learn_grading(logit, fit, engagement, ready_share=readiness.share, reference_log_odds=kept)
    if readiness.weekly_capacity is not None:
        frame = feature_frame(tables, open_inflow(tables), features_of(views))
        line = capacity_line(model.probability(frame), readiness.weekly_capacity, INFLOW_DAYS)
    else:
        line = break_even_probability(
            float(readiness.cost_per_lead or 0),
            float(readiness.win_rate or 0),
            float(readiness.value_per_win or 0),
        )
    return learn_grading(logit, fit, engagement, ready_probability=line, reference_log_odds=kept)
