"""Codes of the Score document in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from predictive_scoring.nurture.gate import REASONS
from predictive_scoring.schema import Score

STATUS_REASONS: Mapping[str, str] = {
    "opted_out": "Opted out: neither scored nor used for learning",
    "not_yet_created": "Not yet known at this date",
    "already_converted": "Already converted",
}
ACTION_REASONS: Mapping[str, str] = {
    **REASONS,
    "ready": "Ready: hand over to sales",
    "no_playbook": "This project has no playbook of actions",
}
STAGES: Mapping[str, str] = {
    "dormant": "Dormant",
    "awareness": "Awareness",
    "consideration": "Consideration",
    "decision": "Decision",
}
STAGE_MEANINGS: Mapping[str, str] = {
    "dormant": "no sign of interest lately",
    "awareness": "looking around",
    "consideration": "comparing solutions",
    "decision": "close to choosing",
}
THIRDS: Mapping[str, str] = {
    "A": "the best third",
    "B": "the middle third",
    "C": "the lowest third",
    "1": "the best third",
    "2": "the middle third",
    "3": "the lowest third",
}
EVIDENCE: Mapping[str, str] = {
    "playbook": "From the playbook, not yet tested on your leads",
    "testing": "Being tested on your leads",
    "proven here": "Measured on your leads",
}


def spoken_status(reason: str | None) -> str:
    """Why a lead has no score."""
    return STATUS_REASONS.get(reason or "", reason or "No score")


def spoken_action_reason(reason: str | None) -> str:
    """Why no action is recommended."""
    return ACTION_REASONS.get(reason or "", "No action is recommended")


def next_action(score: Score) -> str | None:
    """What to do next with a scored lead, in words; None without a score."""
    if score.status != "scored":
        return None
    return score.actions[0].label if score.actions else spoken_action_reason(score.actions_reason)


def spoken_grade(grade: str) -> str:
    """`B1` in words."""
    return f"Fit {grade[0]}: {THIRDS[grade[0]]} by who they are. Engagement {grade[1]}: {THIRDS[grade[1]]} by what they did."
