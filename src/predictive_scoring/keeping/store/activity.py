"""What is told about a lead besides its events: touches, consents, feedback and outcomes.

Each has an id of its sender's (consents: lead, channel and instant), and is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Table, select

from predictive_scoring.errors import InvalidValue
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import lead_of
from predictive_scoring.keeping.store.messages import EARLIEST, LATEST, check_text
from predictive_scoring.keeping.store.observed import raise_observed
from predictive_scoring.keeping.store.rescoring import mark
from predictive_scoring.keeping.store.tables import MOST_ID, MOST_NAME

MOST_NOTE = 2000


@dataclass(frozen=True, slots=True)
class TouchMade:
    """A nurture action that was done to a lead; `propensity` and `holdout` are those of the experiment."""

    touch_id: str
    lead_id: str
    action_id: str
    channel: str
    occurred: int
    known: int
    propensity: float | None = None
    holdout: bool | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """From `occurred` on a channel may be used, or may not. `source` says how we know: `form`, `crm`, …"""

    lead_id: str
    channel: str
    granted: bool
    occurred: int
    known: int
    source: str = "api"


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person says of a lead: `good` or `bad`. `score_cursor` is the score that they saw."""

    feedback_id: str
    lead_id: str
    verdict: Literal["good", "bad"]
    occurred: int
    actor: str
    note: str | None = None
    score_cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: `won`, `lost`, … Money is in the currency's smallest unit."""

    outcome_id: str
    lead_id: str
    kind: str
    occurred: int
    known: int
    amount_minor: int | None = None
    currency: str | None = None


Told = TouchMade | Consent | Feedback | Outcome

_TABLES: dict[type, Table] = {
    TouchMade: tables.touches,
    Consent: tables.consents,
    Feedback: tables.feedback,
    Outcome: tables.outcomes,
}
_NAMES = {"action_id", "channel", "kind"}


def record(tx: Transaction, told: Sequence[Told], now: int) -> tuple[bool, ...]:
    """Keep what was told; for each, whether it is new (False: its id was kept before, and stays as it was).

    Touches and consents may change a score's advice, so their leads are scored again. Raises UnknownLead and
    InvalidValue; then nothing is kept."""
    for one in told:
        _check(one)
    tx.lock("history")
    known: dict[str, str] = {}
    answers = []
    for one in told:
        lead_id = known.get(one.lead_id)
        if lead_id is None:
            lead_id = known[one.lead_id] = lead_of(tx, one.lead_id)
        table = _TABLES[type(one)]
        insert = tx.insert(table).values(**{**asdict(one), "lead_id": lead_id}).on_conflict_do_nothing()
        answers.append(bool(tx.execute(insert.returning(table.c.lead_id)).all()))
    mark(tx, (known[one.lead_id] for one in told if isinstance(one, TouchMade | Consent)), now)
    newest = [one.known for one in told if not isinstance(one, Feedback)]
    if newest:
        raise_observed(tx, max(newest) + 1)
    return tuple(answers)


def latest_feedback(tx: Transaction, lead_id: str) -> Feedback | None:
    """What was last said of a lead, by its own id."""
    said = tables.feedback
    newest = select(said).where(tx.among(said.c.lead_id, [lead_id]))
    found = tx.rows(newest.order_by(said.c.occurred.desc(), said.c.feedback_id.desc()).limit(1))
    return Feedback(**found[0]._mapping) if found else None


def _check(one: Told) -> None:
    values: dict[str, Any] = asdict(one)
    for place, value in values.items():
        if place == "note":
            if value is not None:
                check_text(value, place, MOST_NOTE)
        elif place == "verdict":
            if value not in ("good", "bad"):
                raise InvalidValue(what="the verdict is another word", where=place, remedy="Say good or bad.")
        elif place == "currency":
            if value is not None and not (len(value) == 3 and value.isascii() and value.isalpha()):
                raise InvalidValue(what="it is no currency", where=place, remedy="Write it like EUR.")
        elif place in ("amount_minor", "score_cursor"):
            if value is not None and abs(value) >= 2**62:
                raise InvalidValue(what="the number is too large", where=place, remedy="Check it.")
        elif isinstance(value, str):
            check_text(value, place, MOST_NAME if place in _NAMES else MOST_ID)
        elif place in ("occurred", "known") and not EARLIEST <= value < LATEST:
            raise InvalidValue(
                what="the time lies outside 1970 to 2199", where=place, remedy="Check the sender's clock."
            )
        elif place == "propensity" and value is not None and not 0 <= value <= 1:
            raise InvalidValue(what="it is no probability", where=place, remedy="Send 0 to 1.")
