"""Traits as they arrive, merged into the history of a lead's attributes. Pure functions.

A history holds changes, not repetitions: a CRM that sends all fields with every update adds nothing to it while
they stay the same. Messages may come late and in any order; today's value is the one of the newest instant
(two values of one second: the greatest text), exactly as the features read it. A repetition is kept beside the
history: when another value comes late into the time between, it tells until when that one held (see `tellings`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


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


Kind = Literal["new", "late", "confirmed", "repeated"]
"""What a telling is to the history: `new`, a change after all that is known; `late`, a change before some of it;
`confirmed`, another instant at which today's value was told; `repeated`, nothing that is not known."""


def told(held: Held | None, value: Any, occurred: int) -> tuple[Held, Kind]:
    """What is held once `value` was told to hold at `occurred` (epoch seconds), and what that is to the history."""
    text = spelled(value)
    if held is None:
        return Held(value, occurred, occurred), "new"
    standing = spelled(held.value)
    if text == standing and occurred >= held.since:
        if occurred in (held.since, held.confirmed):
            return held, "repeated"
        return Held(held.value, held.since, max(held.confirmed, occurred)), "confirmed"
    if (occurred, text) > (held.confirmed, standing):
        return Held(value, occurred, occurred), "new"
    if occurred < held.since or held.confirmed == held.since:
        return held, "late"
    # Today's value held before this one and holds again since it was last confirmed.
    return Held(held.value, held.confirmed, held.confirmed), "late"


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


def merged(into: Mapping[str, Held], other: Mapping[str, Held]) -> dict[str, Held]:
    """Today's values of two leads that are one: of each attribute the newer (ties: the greatest text). Of one that
    both have, the other's values may lie in between: it holds for certain since it was last confirmed."""
    answer = {**other, **into}
    for name in into.keys() & other.keys():
        newer = max(into[name], other[name], key=lambda one: (one.confirmed, spelled(one.value)))
        answer[name] = Held(newer.value, newer.confirmed, newer.confirmed)
    return answer
