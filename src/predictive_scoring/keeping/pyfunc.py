"""The loader that stock `mlflow.pyfunc.load_model` calls for a bundle: code-free and pickle-free.

Input: a frame of feature values (strings for categories, doubles for numbers, by feature name).
Output: a frame with `probability`, `log_odds` and `score`, row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from predictive_scoring.keeping.bundle import ScoringModel, read_bundle
from predictive_scoring.model.logistic import expit


class BundlePredictor:
    """A ScoringModel behind MLflow's `predict`."""

    def __init__(self, scoring: ScoringModel) -> None:
        self.scoring = scoring

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Scores of feature rows (see the module). `params` is MLflow's and has no meaning here."""
        frame = model_input.reset_index(drop=True)
        for column in self.scoring.model.columns:
            if column.kind == "number":
                frame[column.name] = frame[column.name].astype("float64")
        logits = self.scoring.model.logit(frame)
        return pd.DataFrame(
            {"probability": expit(logits), "log_odds": logits, "score": self.scoring.grading.scores(logits)}
        )


def _load_pyfunc(path: str) -> BundlePredictor:
    """MLflow's entry point: `path` is the bundle folder."""
    return BundlePredictor(read_bundle(Path(path)).scoring_model())
