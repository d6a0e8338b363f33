"""The report of a run, told of a scoring model and the dataset it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from predictive_scoring.data.dataset import Dataset
from predictive_scoring.insight.pages.run_facts import Rows, RunFacts
from predictive_scoring.insight.pages.run_report import run_report
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.evaluation import Verdict
from predictive_scoring.model.selection import Selection, Trial

SHOWN_ROWS = 2000
"""Rows whose contributions are worked out for the pictures."""


def report_of(
    scoring: ScoringModel,
    dataset: Dataset,
    verdict: Verdict,
    selection: Selection | None = None,
    *,
    evidence: Mapping[str, Any] | None = None,
    set_aside: Mapping[str, str] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> str:
    """The report as HTML text.

    `evidence` is what the model rests on (basis, conversions, examples), `set_aside` maps a feature to why it is not
    read, `manifest` is the bundle's once there is one. The report holds no date, run id or path, so that equal runs
    have equal reports."""
    # Without a test period there is only what it learned from.
    held_out = not dataset.observations[dataset.observations["period"] == "test"].empty
    frame, labels, leads = dataset.rows("test" if held_out else "train")
    shown = np.arange(0, len(frame), max(1, -(-len(frame) // SHOWN_ROWS)))
    _, contributions, _, _ = scoring.model.contributions(frame.iloc[shown])
    by_name = {feature.name: feature for feature in scoring.features}
    metrics = scoring.metrics
    return run_report(
        RunFacts(
            project=scoring.project,
            features=[by_name[column.name] for column in scoring.model.columns],
            grading=scoring.grading,
            verdict=verdict.name,
            reasons=verdict.reasons,
            rows=Rows(frame, labels, leads, scoring.model.probability(frame), shown, contributions),
            held_out=held_out,
            measures={
                name: metrics[name]
                for name in ("test", "calibrate")
                if isinstance(metrics.get(name), Mapping)
            },
            periods=metrics["periods"],
            known_base_rate=metrics.get("known_base_rate"),
            evidence=evidence,
            provenance=_provenance(scoring, dataset, manifest or {}),
            trials=[_settings(trial) for trial in selection.trials] if selection else (),
            chosen=_settings(selection.chosen) if selection else None,
            # Bundles made before there was a screen do not have it.
            waived=metrics.get("leak_screen", {}).get("waived", ()),
            set_aside=set_aside or {},
        )
    )


def _settings(trial: Trial) -> dict[str, Any]:
    return {**trial.parameters(), "log_loss": trial.log_loss}


def _provenance(scoring: ScoringModel, dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, str]:
    told = {
        "Seed": str(scoring.project.seed),
        "Data hash": dataset.data_hash[:16],
        "Feature definitions": scoring.fingerprint[:16],
    }
    if "bundle" in manifest:
        told["Bundle"] = str(manifest["bundle"])[:16]
    if "code" in manifest:
        told["Code"] = str(manifest["code"])[:16]
    versions = manifest.get("versions", {})
    if versions:
        told["Made with"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return told
