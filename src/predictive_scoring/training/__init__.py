"""From a project to a judged, registered candidate: the training pipeline as plain functions."""

from predictive_scoring.training.candidate import Candidate, Say, fit_candidate, read_playbook
from predictive_scoring.training.recording import (
    Trained,
    bundle_files,
    current_champion,
    train,
)

__all__ = [
    "Candidate",
    "Say",
    "Trained",
    "bundle_files",
    "current_champion",
    "fit_candidate",
    "read_playbook",
    "train",
]
