"""What a feature does while a lead is silent, and which features a model may read so that silence never raises a score.

A lead is silent from one instant to a later one when no further fact about it becomes visible in between: nothing
occurs, and nothing that occurred earlier is learned of. Its events stay the same; only their ages grow, and with a
window the oldest of them drop out. From that alone follows, for each aggregate, whether its value can only fall, can
only rise, stays, or may do either:

    aggregate                                no window   with a window
    count ever distinct                      constant    falls
    sum of a column that is never negative   constant    falls
    sum of any other column                  constant    anything
    max                                      constant    falls, then is missing
    days_since                               rises       rises, then is missing
    days_since_first                         rises       anything: the oldest event drops out
    decayed                                  falls       falls
    gap repeat mean share rate latest        constant    anything
    trend                                                anything

A value that falls may only raise a score (+1), one that rises may only lower it (-1); a constant one is free. A missing
value counts as the least favourable one of a column with a direction (`model.columns`), so "then is missing" cannot
raise a score either. Proved on random histories in `tests/unit/features/test_silence.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from predictive_scoring.features.definitions import EventFeature, Feature
from predictive_scoring.timeline import spoken_duration

SilenceDirection = Literal["falls", "rises", "constant", "anything"]

_FALLS = frozenset({"count", "ever", "distinct", "max"})
_SIGN = {"falls": 1, "rises": -1}


def silence_direction(feature: EventFeature, *, never_negative: Collection[str] = ()) -> SilenceDirection:
    """What the feature's value does while a lead is silent.

    `never_negative` are the event properties that hold no number below zero: only of those (and of one that the
    feature's own `where` keeps at zero or above) is a windowed sum sure to fall."""
    aggregate = feature.aggregate
    if aggregate == "decayed":
        return "falls"
    if aggregate == "days_since":
        return "rises"
    if aggregate == "trend":
        return "anything"
    if feature.window is None:
        return "rises" if aggregate == "days_since_first" else "constant"
    if aggregate in _FALLS:
        return "falls"
    if aggregate == "sum" and _is_never_negative(feature, never_negative):
        return "falls"
    return "anything"


def _is_never_negative(feature: EventFeature, never_negative: Collection[str]) -> bool:
    return feature.column in never_negative or any(
        one.column == feature.column and not one.drop and one.low is not None and one.low >= 0.0
        for one in feature.where
    )


def sums_to_check(features: Sequence[Feature]) -> tuple[str, ...]:
    """The event properties of which it matters whether they are ever negative, in order, each once."""
    return tuple(
        dict.fromkeys(
            feature.column
            for feature in features
            if isinstance(feature, EventFeature)
            and feature.aggregate == "sum"
            and feature.window is not None
            and feature.column is not None
        )
    )


def model_features(
    features: Sequence[Feature], *, may_raise: bool, never_negative: Collection[str] = ()
) -> tuple[tuple[Feature, ...], dict[str, int], dict[str, str]]:
    """What the model may read: (features kept, in order; directions; reasons why others are set aside, by name).

    A direction is +1 for a feature that may only raise a score and -1 for one that may only lower it: the declared
    one, and for event features also the one that silence implies. Unless `may_raise`, a feature is set aside if its
    value may move either way in silence, or if it is declared to act against the direction that silence implies. With
    `may_raise` every feature is kept, and only declared directions hold. Attributes change by being edited, never by
    silence. `never_negative` as in `silence_direction` (`Dataset.never_negative`)."""
    kept: list[Feature] = []
    directions: dict[str, int] = {}
    set_aside: dict[str, str] = {}
    for feature in features:
        declared = 0
        if feature.direction is not None and feature.kind == "number":
            declared = 1 if feature.direction == "raises" else -1
        implied = 0
        if isinstance(feature, EventFeature) and not may_raise:
            moves = silence_direction(feature, never_negative=never_negative)
            implied = _SIGN.get(moves, 0)
            reason = _reason(feature, moves, declared * implied < 0)
            if reason is not None:
                set_aside[feature.name] = reason
                continue
        kept.append(feature)
        if declared or implied:
            directions[feature.name] = declared or implied
    return tuple(kept), directions, set_aside


def _reason(feature: EventFeature, moves: SilenceDirection, contradicts: bool) -> str | None:
    """Why the feature could raise the score of a silent lead; None if it could not."""
    if moves == "anything":
        return f"may rise while a lead is silent: {_described(feature)}"
    if contradicts:
        told = "raise" if feature.direction == "raises" else "lower"
        return f"would raise the score of a silent lead: it {moves} with time and is declared to {told} the score"
    return None


def _described(feature: EventFeature) -> str:
    window = "" if feature.window is None else f" over a window of {spoken_duration(feature.window)}"
    if feature.aggregate == "sum":
        return f"a sum{window} of {feature.column!r}, which may be negative"
    names = {
        "mean": "a mean",
        "share": "a share",
        "rate": "a rate",
        "gap": "a mean gap",
        "repeat": "a share of repeats",
        "latest": "the latest category",
        "days_since_first": "the age of the oldest event",
        "trend": "a comparison of two windows",
    }
    return f"{names[feature.aggregate]}{'' if feature.aggregate == 'trend' else window}"
