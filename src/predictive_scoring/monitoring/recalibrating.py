"""A new version that is the champion with another level of its probabilities: same trees, same order of leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from predictive_scoring import __version__
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.keeping.bundle import Bundle, ScoringModel, try_bundle, write_bundle
from predictive_scoring.keeping.card import model_card
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import golden_lines
from predictive_scoring.model.evaluation import Verdict, calibration_table, evaluate, judge
from predictive_scoring.model.grading import HIGHEST, LOWEST, Grading
from predictive_scoring.model.performance import FEWEST_CONVERSIONS
from predictive_scoring.model.recalibration import recalibrated, shift_error
from predictive_scoring.model.reference import Reference, synthetic_frame
from predictive_scoring.monitoring.matured import Matured, matured_rows
from predictive_scoring.schema import SCORE_POINTS_PER_LOG_ODDS
from predictive_scoring.settings import Project
from predictive_scoring.timeline import format_instant

Say = Callable[[str], None]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Proposed:
    """A recalibrated model that is not kept anywhere yet. `judged` marks the matured rows that judged it."""

    scoring: ScoringModel
    shift: float
    verdict: Verdict
    matured: Matured
    judged: Mask


@dataclass(frozen=True)
class Recalibrated:
    """A recalibrated model that was kept: its bundle, its MLflow run and its registered version."""

    proposed: Proposed
    bundle: Bundle
    run_id: str
    version: str

    def to_document(self) -> dict[str, Any]:
        """What `recalibrate --json` prints."""
        scoring, verdict = self.proposed.scoring, self.proposed.verdict
        return {
            "run_id": self.run_id,
            "model": {
                "name": scoring.project.name,
                "version": self.version,
                "bundle": self.bundle.identity,
                "path": str(self.bundle.path),
            },
            "verdict": verdict.name,
            "reasons": list(verdict.reasons),
            "recalibration": dict(scoring.metrics["recalibration"]),
        }


def propose(scoring: ScoringModel, tables: Tables, *, source: str = "") -> Proposed:
    """Refit the level on older matured rows and judge it on newer ones, beside the model as it is.

    `source` names the model that is recalibrated. Raises TrainingImpossible where too few outcomes are known, and the
    errors of `matured_rows`."""
    matured = matured_rows(scoring, tables)
    parts = matured.split()
    if parts is None:
        raise TrainingImpossible(
            what=f"{int(matured.label.sum())} of {len(matured.label)} matured leads that the model has not learned "
            "from converted, too few to refit a level on some and judge it on newer ones",
            where=f"project {scoring.project.name}",
            remedy=f"Wait until each part holds {FEWEST_CONVERSIONS} conversions, or train again.",
        )
    fitted, judged = parts
    before = scoring.model.calibration
    calibration = recalibrated(
        before,
        matured.margin[fitted],
        matured.label[fitted],
        groups=matured.leads[fitted],
        seed=scoring.project.seed,
    )
    shift = calibration.intercept - before.intercept
    rate = float(matured.label[fitted].mean())
    after = expit(calibration.logit(matured.margin[judged]))
    verdict = judge(
        matured.label[judged],
        after,
        known_base_rate=rate,
        champion_p=matured.probability[judged],
        leads=matured.leads[judged],
    )
    metrics = {
        **scoring.metrics,
        "test": evaluate(matured.label[judged], after).to_document(),
        "known_base_rate": rate,
        "periods": {
            **scoring.metrics["periods"],
            "recalibrate": _period(matured, fitted),
            "test": _period(matured, judged),
        },
        "recalibration": {
            "of": source,
            "shift": shift,
            "error": shift_error(matured.logit[fitted], matured.label[fitted], groups=matured.leads[fitted]),
            "log_loss_before": evaluate(matured.label[judged], matured.probability[judged]).log_loss,
        },
    }
    moved = replace(
        scoring,
        model=replace(scoring.model, calibration=calibration),
        grading=_moved_grading(scoring.grading, shift, scoring.project),
        reference=_moved_reference(scoring.reference, shift),
        metrics=metrics,
    )
    return Proposed(moved, shift, verdict, matured, judged)


def recalibrate(
    tables: Tables,
    store: BundleStore,
    champion: tuple[str, Bundle],
    tracking_uri: str,
    say: Say = lambda _: None,
) -> Recalibrated:
    """Propose, bundle, trial-load and register the champion (version, bundle) with a new level. It serves only once
    promoted. Raises the errors of `propose`; CorruptBundle when its own trial load fails."""
    # MLflow is heavy, and a refusal should not wait for it.
    from predictive_scoring.insight.plots import calibration_plot
    from predictive_scoring.keeping.registry import Registry, RunRecord

    version, earlier = champion
    say("refitting the level on matured rows and judging it on newer ones")
    proposed = propose(
        earlier.scoring_model(), tables, source=f"version {version}, bundle {earlier.identity}"
    )
    scoring, name = proposed.scoring, proposed.scoring.project.name
    registry = Registry(tracking_uri)
    say("writing the bundle and recording the run in MLflow")
    with registry.run(name, "recalibrate") as run_id:
        bundle = write_bundle(
            store.bundles,
            bundle_files(proposed, earlier),
            {
                "name": name,
                "run_id": run_id,
                "data_hash": earlier.manifest.get("data_hash", ""),
                "features": scoring.fingerprint,
                "seed": scoring.project.seed,
                "recalibrated_from": earlier.identity,
                **proposed.verdict.to_document(),
            },
        )
        try_bundle(bundle.path)
        rows, judged = proposed.matured, proposed.judged
        label = rows.label[judged]
        table = calibration_table(label, scoring.model.calibration.probability(rows.margin[judged]))
        registered = registry.record(
            name,
            bundle.path,
            bundle.identity,
            proposed.verdict.name,
            RunRecord(
                params={
                    "recalibrated_from": f"{version} ({earlier.identity})",
                    "shift": proposed.shift,
                    "seed": scoring.project.seed,
                    "predictive_scoring": __version__,
                },
                metrics=_numbers("test", scoring.metrics["test"]),
                figures={"plots/calibration.png": calibration_plot(table)},
                texts={"model_card.md": bundle.files["model_card.md"]},
                dataset=rows.frame[judged].assign(label=label.astype(np.float64)).head(2000),
                dataset_name=f"{name}-matured",
                label="label",
                inputs=[(column.name, column.kind) for column in scoring.model.columns],
                example=synthetic_frame(scoring.reference, 3, scoring.project.seed)[
                    [column.name for column in scoring.model.columns]
                ],
                trials=[],
            ),
            judged_against=earlier.identity,
        )
    return Recalibrated(proposed, bundle, run_id, registered.version)


def bundle_files(proposed: Proposed, earlier: Bundle) -> dict[str, str]:
    """Every file of the new bundle except the manifest; the card ends with what was done."""
    scoring = proposed.scoring
    card = model_card(scoring, str(earlier.manifest.get("data_hash", "")))
    done: Mapping[str, Any] = scoring.metrics["recalibration"]
    note = f"""
## Recalibrated

The level of the probabilities was refitted without retraining: {done["of"]}, all log-odds moved by {done["shift"]:+.3f}
(standard error {done["error"]:.3f}). The ranking of leads is the same. Learned on the period `recalibrate`, judged on
the period `test` above, where the log-loss was {done["log_loss_before"]:.4f} before.
"""
    return {
        **scoring.to_files(),
        GOLDEN: golden_lines(scoring, scoring.project.seed),
        "model_card.md": card + note,
    }


def _period(matured: Matured, chosen: Mask) -> dict[str, Any]:
    rows = matured.observations[chosen]
    told: dict[str, Any] = {
        "examples": len(rows),
        "leads": int(rows["lead_id"].nunique()),
        "conversions": int(rows["label"].sum()),
    }
    if matured.dated:
        told["first_cutoff"] = format_instant(int(rows["cutoff"].min()))
        told["last_cutoff"] = format_instant(int(rows["cutoff"].max()))
    return told


def _moved_grading(grading: Grading, shift: float, project: Project) -> Grading:
    """The line drawn by capacity or share moves along, so that the same leads stay ready; one drawn by value stays."""
    line = grading.ready_probability
    if project.readiness.value_per_win is None and 0.0 < line < 1.0:
        line = float(expit(logit(line) + shift))
    return replace(grading, ready_probability=line, score_shares=_moved_shares(grading.score_shares, shift))


def _moved_reference(reference: Reference, shift: float) -> Reference:
    newcomers = reference.newcomers
    return replace(
        reference,
        score_shares=_moved_shares(reference.score_shares, shift),
        newcomers=None if newcomers is None else _moved_reference(newcomers, shift),
    )


def _moved_shares(shares: tuple[float, ...], shift: float) -> tuple[float, ...]:
    """The distribution of scores after a shift of all log-odds; what falls between two scores is split between them."""
    if not shares:
        return shares
    points = SCORE_POINTS_PER_LOG_ODDS * shift
    place = np.arange(LOWEST, HIGHEST + 1) + points
    low = np.floor(place)
    upper = place - low
    moved = np.zeros(HIGHEST - LOWEST + 1)
    for score, part in ((low, 1.0 - upper), (low + 1.0, upper)):
        np.add.at(moved, np.clip(score, LOWEST, HIGHEST).astype(np.int64) - LOWEST, part * np.asarray(shares))
    return tuple(float(share) for share in moved)


def _numbers(prefix: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    return {f"{prefix}_{name}": float(value) for name, value in metrics.items() if value is not None}
