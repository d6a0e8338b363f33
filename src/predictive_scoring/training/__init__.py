"""From a project to a judged, registered candidate: the training pipeline as plain functions."""

from predictive_scoring.training.candidate import Candidate, Say, fit_candidate, read_playbook
from predictive_scoring.training.recording import (
    Trained,
    bundle_files,
    current_champion,
    flat_metrics,
    train,
)

__all__ = [
    "Candidate",
    "Say",
    "Trained",
    "bundle_files",
    "current_champion",
    "fit_candidate",
    "flat_metrics",
    "read_playbook",
    "train",
]
