"""Traits as they arrive, merged into the history of a lead's attributes. Pure functions.

A history holds changes, not repetitions: a CRM that sends all fields with every update adds nothing while
they stay the same. Messages may come late and in any order; today's value is the one of the newest instant
(two values of one second: the greatest text), exactly as the features read it. Between two changes only the
last confirmation of today's value is known, so a value that is told late, into a time for which another one was
confirmed, counts until the next change or until that confirmation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predictive_scoring.schema import AttributeChange


@dataclass(frozen=True, slots=True)
class Held:
    """Today's value of an attribute: since when it holds and when it was last confirmed (epoch seconds)."""

    value: Any
    since: int
    confirmed: int


def spelled(value: Any) -> str:
    """A value as histories hold it: text; the empty text for none; `true` and `false`; JSON for lists."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        # 240.0 and 240 are one number.
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def told(
    held: Held | None, attribute: str, value: Any, occurred: int, known: int
) -> tuple[Held, tuple[AttributeChange, ...]]:
    """What is held once `value` was told to hold at `occurred`, and the changes that are new to the history.

    Told late, and into a time for which another value was confirmed, the value in between is a change and so is
    the return to the confirmed one."""
    text = spelled(value)
    change = AttributeChange(attribute, text, occurred, known)
    if held is None:
        return Held(value, occurred, occurred), (change,)
    standing = spelled(held.value)
    if text == standing:
        if occurred < held.since:
            return held, (change,)
        return Held(held.value, held.since, max(held.confirmed, occurred)), ()
    if (occurred, text) > (held.confirmed, standing):
        return Held(value, occurred, occurred), (change,)
    if occurred < held.since or held.confirmed == held.since:
        return held, (change,)
    again = AttributeChange(attribute, standing, held.confirmed, known)
    return Held(held.value, held.confirmed, held.confirmed), (change, again)


def read_held(values: str, times: str) -> dict[str, Held]:
    """The two JSON columns of a lead as one."""
    dates: Mapping[str, list[int]] = json.loads(times)
    return {name: Held(value, *dates[name]) for name, value in json.loads(values).items()}


def written(held: Mapping[str, Held]) -> tuple[str, str]:
    """The two JSON columns: values, and times."""
    values = {name: one.value for name, one in held.items()}
    times = {name: (one.since, one.confirmed) for name, one in held.items()}
    return (
        json.dumps(values, ensure_ascii=False, separators=(",", ":")),
        json.dumps(times, separators=(",", ":")),
    )


def change_row(lead_id: str, change: AttributeChange) -> dict[str, Any]:
    """A change as a row of `attribute_changes`."""
    return {
        "lead_id": lead_id,
        "attribute": change.attribute,
        "occurred": change.occurred,
        "value_hash": hashlib.sha256(change.value.encode()).hexdigest()[:32],
        "value": change.value,
        "known": change.known,
    }


def merged(into: Mapping[str, Held], other: Mapping[str, Held]) -> dict[str, Held]:
    """Today's values of two leads that are one: of each attribute the newer (ties: the greatest text)."""
    answer = dict(into)
    for name, one in other.items():
        mine = answer.get(name)
        if mine is None or (one.confirmed, spelled(one.value)) > (mine.confirmed, spelled(mine.value)):
            answer[name] = one
    return answer
