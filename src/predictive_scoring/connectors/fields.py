"""What is written of a Score into a CRM: score, grade, reasons and next action, as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from predictive_scoring.connectors.written import WrittenScores
from predictive_scoring.schema import Score

FIELDS = ("score", "grade", "reasons", "next_action")
HUBSPOT_NAMES = {
    "score": "predictive_score",
    "grade": "predictive_grade",
    "reasons": "predictive_reasons",
    "next_action": "predictive_next_action",
}
SALESFORCE_NAMES = {
    "score": "Predictive_Score__c",
    "grade": "Predictive_Grade__c",
    "reasons": "Predictive_Reasons__c",
    "next_action": "Predictive_Next_Action__c",
}
BLANK = dict.fromkeys(FIELDS, "")
"""What a CRM shows of a lead of which nothing was ever written."""
LONGEST = 1000
"""Characters of the reasons: enough for five sentences."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Change:
    """What a lead's fields are to become, and the mark by which it is known that they did."""

    lead_id: str
    values: Mapping[str, str]
    mark: str


def field_values(score: Score) -> dict[str, str]:
    """The four fields of a Score. A lead without a score has empty fields, never 0: what was written before it opted
    out goes."""
    if score.status != "scored" or score.score is None:
        return dict(BLANK)
    action = score.actions[0].label if score.actions else ""
    return {
        "score": str(score.score),
        "grade": score.grade or "",
        "reasons": "; ".join(f"{reason.text} ({reason.points:+d})" for reason in score.reasons)[:LONGEST],
        "next_action": action or ("Hand to sales" if score.readiness == "ready" else ""),
    }


def changes(scores: Iterable[Score], names: Mapping[str, str], written: WrittenScores) -> list[Change]:
    """The leads whose fields are not as they were last written, in the order of the scores; of a lead that comes twice
    the last score counts. `names` are the CRM's names of the fields: under other names everything is written again."""
    newest = {score.lead_id: score for score in scores}
    blank = mark_of(BLANK, names)
    found = []
    for lead_id, score in newest.items():
        values = field_values(score)
        mark = mark_of(values, names)
        if mark != (written.last(lead_id) or blank):
            found.append(Change(lead_id, values, mark))
    return found


def mark_of(values: Mapping[str, str], names: Mapping[str, str]) -> str:
    """A hash of the fields under the CRM's names."""
    named = json.dumps({names[field]: values[field] for field in FIELDS}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
