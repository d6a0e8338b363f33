"""Codes of the Score document in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from predictive_scoring.nurture.gate import REASONS
from predictive_scoring.schema import Evidence, Score
from predictive_scoring.timeline import parse_instant, to_datetime

STATUS_REASONS: Mapping[str, str] = {
    "opted_out": "Opted out: neither scored nor used for learning",
    "not_yet_created": "Not yet known at this date",
    "already_converted": "Already converted",
    "scoring_failed": "Scoring failed; the log of the worker says why",
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
    fit, engagement = grade[0], grade[1]
    return f"Fit {fit}: {THIRDS[fit]} by who they are. Engagement {engagement}: {THIRDS[engagement]} by what they did."


def spoken_evidence(evidence: Evidence) -> str:
    """What a score rests on, in a sentence."""
    if evidence.basis == "points_card":
        return (
            f"From the points card: {evidence.conversions:,} conversions are too few to learn from, so this is what "
            "your rules say, not what your leads did."
        )
    if evidence.effective_sample_size is None:
        return f"Learned from {evidence.conversions:,} conversions."
    return f"As sure as the rate of {round(evidence.effective_sample_size):,} leads with a known outcome."


def spoken_percentile(percentile: int) -> str:
    """Where the score stands among the leads the model was trained on."""
    if percentile >= 100:
        return "Higher than nearly all leads"
    return f"Higher than {percentile} % of leads" if percentile > 0 else "Lower than nearly all leads"


def percent(probability: float) -> str:
    """`18.3 %`; very small ones keep one digit that is not 0."""
    share = 100.0 * probability
    return f"{share:.1f} %" if share >= 0.1 else "under 0.1 %"


def day(instant: str) -> str:
    """`2026-06-30T00:00:00Z` -> `30 June 2026`."""
    moment = _parsed(instant)
    return f"{moment.day} {moment:%B %Y}"


def moment(instant: str) -> str:
    """`2026-06-30T09:05:00Z` -> `30 Jun 2026, 09:05`."""
    parsed = _parsed(instant)
    return f"{parsed.day} {parsed:%b %Y, %H:%M}"


def _parsed(instant: str) -> datetime:
    return to_datetime(parse_instant(instant))


def value(found: object) -> str:
    """A feature's or attribute's value as people write it."""
    if found is None:
        return "unknown"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int | float):
        return (
            f"{found:,.0f}"
            if found == int(found)
            else f"{found:,.2f}"
            if abs(found) < 10
            else f"{found:,.1f}"
        )
    return str(found)


def signed(points: float) -> str:
    """`+1.4` or `−0.3`."""
    return f"{'−' if points < 0 else '+'}{abs(points):.1f}"


def properties(found: Mapping[str, object]) -> str:
    """`topic: integration · 1 min 23 s`."""
    spoken = []
    for name, held in found.items():
        if held is None:
            continue
        if name.endswith("_seconds") and isinstance(held, int | float):
            minutes, seconds = divmod(round(held), 60)
            spoken.append(f"{minutes} min {seconds} s" if minutes else f"{seconds} s")
        else:
            spoken.append(f"{name.replace('_', ' ')}: {value(held)}")
    return " · ".join(reversed(spoken))
