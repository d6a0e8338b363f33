"""Keeping a candidate: its bundle, its MLflow run with report and pictures, its registered version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from predictive_scoring import __version__
from predictive_scoring.data.sources import ProjectFile, Tables
from predictive_scoring.features.definitions import fingerprint
from predictive_scoring.keeping.bundle import Bundle, read_bundle, try_bundle, write_bundle
from predictive_scoring.keeping.card import model_card
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import golden_lines
from predictive_scoring.keeping.run_report import report_of
from predictive_scoring.model.evaluation import calibration_table, gain_table
from predictive_scoring.model.reference import synthetic_frame
from predictive_scoring.model.tuning import Tuning
from predictive_scoring.training.candidate import Candidate, Say, fit_candidate

SHOWN_ROWS = 2000
"""Rows from which MLflow makes the profile of the data set."""


@dataclass(frozen=True)
class Trained:
    """A candidate that was kept: its bundle, its MLflow run, its registered version and its report (HTML)."""

    candidate: Candidate
    bundle: Bundle
    run_id: str
    version: str
    report: str

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
            "evidence": self.candidate.evidence,
            "metrics": dict(self.candidate.scoring.metrics),
        }


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
    tuning: Tuning | None = None,
) -> Trained:
    """Fit, judge, bundle, trial-load and register one candidate. It serves only once promoted.

    Raises the errors of `fit_candidate`; CorruptBundle when its own trial load fails."""
    # MLflow is heavy; only training, promotion and rollback need it.
    from predictive_scoring.keeping.registry import Registry, RunRecord

    registry = Registry(tracking_uri)
    champion = current_champion(store)
    candidate = fit_candidate(loaded, tables, champion.scoring_model() if champion else None, say, tuning)
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
                "judged_against": champion.identity if champion else None,
                **candidate.verdict.to_document(),
            },
        )
        try_bundle(bundle.path)
        report = report_of(
            scoring,
            dataset,
            candidate.verdict,
            candidate.selection,
            evidence=candidate.evidence,
            set_aside=candidate.set_aside,
            manifest=bundle.manifest,
        )
        version = registry.record(
            scoring.project.name,
            bundle.path,
            bundle.identity,
            candidate.verdict.name,
            RunRecord(
                params=_params(candidate),
                metrics=_flat_metrics(scoring.metrics),
                figures=_figures(candidate),
                texts={"model_card.md": bundle.files["model_card.md"], "report.html": report},
                # A float, because MLflow warns people about integer columns that may go missing one day.
                dataset=dataset.frame.assign(
                    label=dataset.observations["label"].to_numpy(dtype=np.float64)
                ).iloc[:SHOWN_ROWS],
                dataset_name=f"{scoring.project.name}-{dataset.data_hash[:12]}",
                label="label",
                inputs=[(column.name, column.kind) for column in scoring.model.columns],
                example=synthetic_frame(scoring.reference, 3, scoring.project.seed)[
                    [column.name for column in scoring.model.columns]
                ],
                trials=[
                    (trial.parameters(), trial.log_loss)
                    for trial in (candidate.selection.trials if candidate.selection else ())
                ],
            ),
            judged_against=champion.identity if champion else None,
        )
    return Trained(candidate, bundle, run_id, version.version, report)


def current_champion(store: BundleStore) -> Bundle | None:
    """The bundle of the project's champion, if there is one. Raises CorruptBundle and UnknownModel."""
    promotion = store.succession().champion
    return None if promotion is None else read_bundle(store.path(promotion.bundle))


def _params(candidate: Candidate) -> Mapping[str, Any]:
    scoring = candidate.scoring
    return {
        "seed": scoring.project.seed,
        "horizon_days": scoring.project.conversion.horizon_days,
        "features": len(scoring.model.columns),
        "feature_fingerprint": fingerprint(scoring.views),
        "data_hash": candidate.dataset.data_hash,
        **candidate.evidence,
        **(candidate.selection.chosen.parameters() if candidate.selection else {}),
        "calibration_slope": scoring.model.calibration.slope,
        "calibration_intercept": scoring.model.calibration.intercept,
        "ready_probability": scoring.grading.ready_probability,
        "predictive_scoring": __version__,
    }


def _flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of each period as MLflow takes them; a period without figures has none."""
    return {
        f"{period}_{name}": float(value)
        for period in ("test", "calibrate")
        for name, value in (metrics[period] or {}).items()
        if value is not None
    }


def _figures(candidate: Candidate) -> dict[str, Any]:
    if candidate.test_probability is None:
        return {}
    # matplotlib takes a second to load, which a refusal of bad input should not wait for.
    from predictive_scoring.insight.plots import calibration_plot, gain_plot, score_plot

    frame, labels, _ = candidate.dataset.rows("test")
    probability, grading = candidate.test_probability, candidate.scoring.grading
    ready = float((probability >= grading.ready_probability).mean())
    scores = grading.scores(candidate.scoring.model.logit(frame))
    return {
        "plots/calibration.png": calibration_plot(calibration_table(labels, probability)),
        "plots/gain.png": gain_plot(gain_table(labels, probability), ready),
        "plots/scores.png": score_plot(scores.tolist(), labels.tolist()),
    }
