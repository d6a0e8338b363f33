"""Two versions judged on the same rows of the newest period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictive_scoring.data.dataset import observe
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.sources import Tables
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.model.evaluation import Metrics, Verdict, evaluate, judge

if TYPE_CHECKING:
    from predictive_scoring.keeping.registry import Version


@dataclass(frozen=True)
class Comparison:
    """Metrics of both versions on the same rows, and the verdict on the candidate as a challenger."""

    versions: tuple[Version, Version]
    candidate: Metrics
    other: Metrics
    verdict: Verdict

    def to_document(self) -> dict[str, Any]:
        candidate, other = self.versions
        return {
            "candidate": {"version": candidate.version, "metrics": self.candidate.to_document()},
            "against": {"version": other.version, "metrics": self.other.to_document()},
            "verdict": self.verdict.name,
            "reasons": list(self.verdict.reasons),
        }


def compare_versions(tables: Tables, store: BundleStore, candidate: Version, other: Version) -> Comparison:
    """Score the project's newest period with both versions, each with its own features, and judge.

    Raises UnknownModel where a bundle is gone, and the errors of `observe`."""
    observations = observe(tables)
    known = observations[observations["period"] != "test"]
    test = observations[observations["period"] == "test"].reset_index(drop=True)
    labels = test["label"].to_numpy()
    probabilities = []
    for version in (candidate, other):
        scoring = read_bundle(store.path(version.bundle)).scoring_model()
        probabilities.append(scoring.model.probability(feature_frame(tables, test, scoring.features)))
    return Comparison(
        (candidate, other),
        evaluate(labels, probabilities[0]),
        evaluate(labels, probabilities[1]),
        judge(
            labels,
            probabilities[0],
            known_base_rate=float(known["label"].mean()),
            champion_p=probabilities[1],
        ),
    )
