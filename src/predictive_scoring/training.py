"""From a project to a judged, registered candidate: the training pipeline as plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from predictive_scoring import __version__
from predictive_scoring.data.audit import screen_before_training
from predictive_scoring.data.dataset import (
    PERIODS,
    Dataset,
    build_dataset,
    conversions,
    opted_out,
)
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.sources import ProjectFile, Tables
from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.definitions import Feature, FeatureView, features_of, fingerprint
from predictive_scoring.insight.explanation import fit_and_engagement
from predictive_scoring.insight.stage import StageParameters
from predictive_scoring.keeping.bundle import Bundle, ScoringModel, try_bundle, write_bundle
from predictive_scoring.keeping.card import model_card
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import golden_lines
from predictive_scoring.model.calibrated import CalibratedModel, fit_calibrated
from predictive_scoring.model.columns import learn_columns
from predictive_scoring.model.evaluation import (
    Metrics,
    Verdict,
    calibration_table,
    evaluate,
    gain_table,
    judge,
)
from predictive_scoring.model.grading import Grading, break_even_probability, learn_grading
from predictive_scoring.model.propensity import Selection, Trial
from predictive_scoring.model.reference import learn_reference, synthetic_frame
from predictive_scoring.nurture.playbook import Playbook, check_names, parse_playbook
from predictive_scoring.settings import Project
from predictive_scoring.timeline import DAY, exists_at, format_instant

Say = Callable[[str], None]

INFLOW_DAYS = 90
SHOWN_ROWS = 2000
"""Rows drawn in the picture of feature effects."""


@dataclass(frozen=True)
class Candidate:
    """A trained and judged model, before it is kept anywhere."""

    scoring: ScoringModel
    dataset: Dataset
    test: Metrics
    verdict: Verdict
    selection: Selection
    test_probability: np.ndarray


@dataclass(frozen=True)
class Trained:
    """A candidate that was kept: its bundle, its MLflow run and its registered version."""

    candidate: Candidate
    bundle: Bundle
    run_id: str
    version: str

    def to_document(self) -> dict[str, Any]:
        """What `train --json` prints."""
        return {
            "run_id": self.run_id,
            "model": {
                "name": self.candidate.scoring.project.name,
                "version": self.version,
                "bundle": self.bundle.identity,
                "path": str(self.bundle.path),
            },
            "verdict": self.candidate.verdict.name,
            "reasons": list(self.candidate.verdict.reasons),
            "metrics": dict(self.candidate.scoring.metrics),
        }


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
    loaded: ProjectFile, tables: Tables, champion: ScoringModel | None = None, say: Say = lambda _: None
) -> Candidate:
    """Learn a scoring model from the project's tables and judge it on the newest period.

    `champion`, if any, is judged on the same rows, and its reference odds are kept so that a score of 50
    goes on meaning what it meant. Raises the errors of `build_dataset` and `views_of`, and LeakSuspected
    while a feature seems to know the outcome and the project file does not answer for it."""
    project = loaded.project
    views = views_of(project)
    playbook = read_playbook(loaded, views)
    say("reading features at every cutoff")
    dataset = build_dataset(tables, views)
    views = dataset.views
    say("screening them for leaks")
    screen = screen_before_training(tables, dataset)
    train_frame, train_labels, _ = dataset.rows("train")
    recent_frame, recent_labels, recent_leads = dataset.rows("calibrate")
    test_frame, test_labels, _ = dataset.rows("test")
    known_frame = pd.concat([train_frame, recent_frame], ignore_index=True)
    # The last rate known before the test period: a model has to beat today's rate, not an average of years.
    known_rate = float(recent_labels.mean())
    recent_cutoffs = dataset.observations.loc[dataset.observations["period"] == "calibrate", "cutoff"]
    say("choosing and fitting the model on the newest matured period")
    model, selection = fit_calibrated(
        train_frame,
        train_labels,
        recent_frame,
        recent_labels,
        learn_columns(known_frame, dataset.kinds, directions=directions(features_of(views))),
        seed=project.seed,
        recent_leads=recent_leads,
        # All rows of a snapshot bear the same date; their order is their time.
        recent_times=None if project.is_snapshot else recent_cutoffs.to_numpy(),
    )
    say("judging it on the test period")
    probability = model.probability(test_frame)
    champion_probability = None if champion is None else _champion_probability(champion, tables, dataset)
    test = evaluate(test_labels, probability)
    verdict = judge(test_labels, probability, known_base_rate=known_rate, champion_p=champion_probability)
    grading = _grading(model, tables, views, known_frame, champion)
    metrics = {
        "test": test.to_document(),
        "calibrate": evaluate(
            recent_labels, model.calibration.probability(selection.recent_margin)
        ).to_document(),
        "known_base_rate": known_rate,
        "periods": _periods(dataset, project),
        "leak_screen": {
            "set_aside": dict(project.leaks),
            "waived": [leak.to_document() for leak in screen.findings if leak.verdict == "waived"],
        },
    }
    scoring = ScoringModel(
        project=project,
        views=views,
        model=model,
        grading=grading,
        reference=learn_reference(known_frame, dataset.kinds),
        stages=StageParameters.model_validate(project.journey),
        playbook=playbook,
        metrics=metrics,
    )
    return Candidate(scoring, dataset, test, verdict, selection, probability)


def directions(features: Iterable[Feature]) -> dict[str, int]:
    """+1 for a feature that may only raise the score, -1 for one that may only lower it; others left out."""
    return {
        feature.name: 1 if feature.direction == "raises" else -1
        for feature in features
        if feature.direction is not None and feature.kind == "number"
    }


def _champion_probability(champion: ScoringModel, tables: Tables, dataset: Dataset) -> np.ndarray:
    """The champion's probabilities on the candidate's test rows, with the champion's own features."""
    observations = dataset.observations[dataset.observations["period"] == "test"].reset_index(drop=True)
    return champion.model.probability(feature_frame(tables, observations, champion.features))


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
                if project.is_snapshot
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
    _, contributions, _, logit = model.contributions(known_frame)
    fit, engagement = fit_and_engagement([features[column.name] for column in model.columns], contributions)
    kept = champion.grading.reference_log_odds if champion is not None else None
    if readiness.weekly_capacity is None and readiness.share is not None:
        return learn_grading(logit, fit, engagement, ready_share=readiness.share, reference_log_odds=kept)
    if readiness.weekly_capacity is not None:
        line = _capacity_line(model, tables, views, readiness.weekly_capacity)
    else:
        line = break_even_probability(
            float(readiness.cost_per_lead or 0),
            float(readiness.win_rate or 0),
            float(readiness.value_per_win or 0),
        )
    return learn_grading(logit, fit, engagement, ready_probability=line, reference_log_odds=kept)


def _capacity_line(
    model: CalibratedModel, tables: Tables, views: tuple[FeatureView, ...], weekly_capacity: int
) -> float:
    """The probability above which as many open leads of the trailing 90-day inflow lie as sales can work
    in 90 days (METHODS: capacity grades)."""
    until, project = tables.observed_until, tables.project
    leads = tables.leads
    arrived = exists_at(leads["created"], until) & (leads["created"] > until - INFLOW_DAYS * DAY)
    inflow = int(arrived.sum())
    if inflow == 0:
        raise TrainingImpossible(
            what=f"no lead arrived in the {INFLOW_DAYS} days before {format_instant(until)}",
            where="readiness.weekly_capacity",
            remedy="Correct `observed_until`, or draw the line with readiness.share.",
        )
    converted = leads["lead_id"].isin(conversions(tables).index)
    open_leads = leads[arrived & ~converted & ~opted_out(leads, project)].reset_index(drop=True)
    observations = pd.DataFrame(
        {
            "observation_id": np.arange(len(open_leads), dtype=np.int64),
            "lead_id": open_leads["lead_id"],
            "cutoff": np.int64(until),
        }
    )
    frame = feature_frame(tables, observations, features_of(views))
    slots = round(weekly_capacity * INFLOW_DAYS / 7)
    probability = np.sort(model.probability(frame))[::-1]
    if slots >= len(probability):
        return float(probability[-1]) if len(probability) else 0.5
    return float(probability[slots - 1])


def bundle_files(candidate: Candidate) -> dict[str, str]:
    """Every file of the candidate's bundle except the manifest."""
    scoring = candidate.scoring
    return {
        **scoring.to_files(),
        GOLDEN: golden_lines(scoring, scoring.project.seed),
        "model_card.md": model_card(scoring, candidate.dataset.data_hash),
    }


def train(
    loaded: ProjectFile,
    tables: Tables,
    store: BundleStore,
    tracking_uri: str,
    say: Say = lambda _: None,
) -> Trained:
    """Fit, judge, bundle, trial-load and register one candidate. It serves only once promoted.

    Raises the errors of `fit_candidate`; CorruptBundle when its own trial load fails."""
    # MLflow is heavy; only training, promotion and rollback need it.
    from predictive_scoring.keeping.registry import Registry, RunRecord

    registry = Registry(tracking_uri)
    champion = current_champion(store)
    candidate = fit_candidate(loaded, tables, champion[1].scoring_model() if champion else None, say)
    scoring, dataset = candidate.scoring, candidate.dataset
    say("writing the bundle and recording the run in MLflow")
    with registry.run(scoring.project.name) as run_id:
        bundle = write_bundle(
            store.bundles,
            bundle_files(candidate),
            {
                "name": scoring.project.name,
                "run_id": run_id,
                "data_hash": dataset.data_hash,
                "features": scoring.fingerprint,
                "seed": scoring.project.seed,
                **candidate.verdict.to_document(),
            },
        )
        try_bundle(bundle.path)
        version = registry.record(
            scoring.project.name,
            bundle.path,
            bundle.identity,
            candidate.verdict.name,
            RunRecord(
                params=_params(candidate),
                metrics=_flat_metrics(scoring.metrics),
                figures=_figures(candidate),
                texts={"model_card.md": bundle.files["model_card.md"]},
                # A float, because MLflow warns people about integer columns that may go missing one day.
                dataset=dataset.frame.assign(
                    label=dataset.observations["label"].to_numpy(dtype=np.float64)
                ).iloc[:SHOWN_ROWS],
                dataset_name=f"{scoring.project.name}-{dataset.data_hash[:12]}",
                label="label",
                inputs=[(column.name, column.kind) for column in scoring.model.columns],
                example=synthetic_frame(scoring.reference, 3, scoring.project.seed),
                trials=[(_settings(trial), trial.log_loss) for trial in candidate.selection.trials],
            ),
        )
    return Trained(candidate, bundle, run_id, version.version)


def current_champion(store: BundleStore) -> tuple[str, Bundle] | None:
    """(version, bundle) of the project's champion, if there is one."""
    from predictive_scoring.keeping.bundle import read_bundle

    promotion = store.succession().champion
    return None if promotion is None else (promotion.version, read_bundle(store.path(promotion.bundle)))


def _params(candidate: Candidate) -> Mapping[str, Any]:
    chosen, project = candidate.selection.chosen, candidate.scoring.project
    return {
        "seed": project.seed,
        "horizon_days": project.conversion.horizon_days,
        "features": len(candidate.scoring.features),
        "feature_fingerprint": fingerprint(candidate.scoring.views),
        "data_hash": candidate.dataset.data_hash,
        **_settings(chosen),
        "calibration_slope": candidate.scoring.model.calibration.slope,
        "calibration_intercept": candidate.scoring.model.calibration.intercept,
        "ready_probability": candidate.scoring.grading.ready_probability,
        "predictive_scoring": __version__,
    }


def _settings(trial: Trial) -> dict[str, Any]:
    return {
        "ridge_penalty": trial.penalty,
        "recency_half_life": trial.half_life,
        "boosting_rounds": trial.rounds,
        "boosting_weight": trial.weight,
    }


def _flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{period}_{name}": float(value)
        for period in ("test", "calibrate")
        for name, value in metrics[period].items()
        if value is not None
    }


def _figures(candidate: Candidate) -> dict[str, Any]:
    # matplotlib takes a second to load, which a refusal of bad input should not wait for.
    from predictive_scoring.insight.plots import calibration_plot, effects_plot, gain_plot, score_plot

    frame, labels, _ = candidate.dataset.rows("test")
    probability, scoring = candidate.test_probability, candidate.scoring
    step = max(1, len(frame) // SHOWN_ROWS)
    shown = frame.iloc[::step].reset_index(drop=True)
    names = {feature.name: feature.label for feature in scoring.features}
    _, contributions, _, logits = scoring.model.contributions(shown)
    columns = [column.name for column in scoring.model.columns]
    return {
        "plots/calibration.png": calibration_plot(calibration_table(labels, probability)),
        "plots/gain.png": gain_plot(gain_table(labels, probability)),
        "plots/scores.png": score_plot(scoring.grading.scores(logits).tolist(), labels[::step].tolist()),
        "plots/feature_effects.png": effects_plot(
            contributions, shown[columns], [names[name] for name in columns]
        ),
    }
