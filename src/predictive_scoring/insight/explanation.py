"""From contributions to an explanation: rows that add up exactly, and sentences a marketer understands.

With z = a (w z_lgb + (1 - w) z_lr) + b the calibrated log-odds, each feature's contribution is

    phi_j = a (w phi_j^tree + (1 - w) beta_j (x_j - mean_j)),     base = a (w phi_0 + (1 - w) z_lr(mean)) + b

so that base + sum phi_j = z without remainder; in score points a contribution is 10/ln 2 times as large.
Reasons are told per concept, because windows and half-lives of one interest are one thing to a reader.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, Feature
from predictive_scoring.schema import SCORE_POINTS_PER_LOG_ODDS, Explanation, Reason
from predictive_scoring.timeline import spoken_duration

Floats = npt.NDArray[np.float64]

LIMIT_ROW = "probability_limit"
"""Name of the row that takes up the bound on the log-odds where it bites."""

# Aggregates whose value reads naturally in a sentence; others speak only when none of these can.
_PLAIN = frozenset({"count", "days_since", "ever", "attribute"})


@dataclass(frozen=True)
class Concept:
    """What one concept does to one lead's log-odds, and the feature that speaks for it."""

    name: str
    contribution: float
    feature: Feature
    value: Value


@dataclass(frozen=True)
class Explainer:
    """Explains leads by the same features; what depends on the features alone is worked out once."""

    features: tuple[Feature, ...]

    @cached_property
    def _by_name(self) -> tuple[int, ...]:
        """Positions of the features in order of their names."""
        return tuple(sorted(range(len(self.features)), key=lambda at: self.features[at].name))

    @cached_property
    def _told(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((feature.name, feature.label, feature.group) for feature in self.features)

    @cached_property
    def _members(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Each concept with the positions of its features, in order of the concepts' names."""
        members: dict[str, list[int]] = {}
        for at, feature in enumerate(self.features):
            members.setdefault(feature.concept, []).append(at)
        return tuple((name, tuple(members[name])) for name in sorted(members))

    @cached_property
    def _is_plain(self) -> tuple[bool, ...]:
        return tuple(_kind(feature) in _PLAIN for feature in self.features)

    @cached_property
    def _groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        groups = np.array([feature.group for feature in self.features])
        return np.flatnonzero(groups == "fit"), np.flatnonzero(groups == "engagement")

    def explanation(
        self,
        values: Mapping[str, Value],
        base: float,
        contributions: Sequence[float],
        limit: float,
        output: float,
    ) -> Explanation:
        """The rows of one lead, largest first; features that contribute exactly nothing are left out.

        `contributions` runs parallel to the features (log-odds); `limit` is the share of the bound."""
        sizes = [-abs(contributions[at]) for at in self._by_name]
        rows: list[dict[str, Any]] = []
        # Equal ones stay in order of their names.
        for place in sorted(range(len(sizes)), key=sizes.__getitem__):
            at = self._by_name[place]
            contribution = contributions[at]
            if contribution == 0.0:
                continue
            name, label, group = self._told[at]
            rows.append(
                {
                    "feature": name,
                    "label": label,
                    "value": values[name],
                    "group": group,
                    "contribution": contribution,
                }
            )
        if limit != 0.0:
            rows.append(
                {
                    "feature": LIMIT_ROW,
                    "label": "Limit on how sure a score may be",
                    "value": None,
                    "group": "limit",
                    "contribution": limit,
                }
            )
            rows.sort(key=lambda row: (-abs(row["contribution"]), row["feature"]))
        # Checked as a whole: row by row it takes twice as long.
        return Explanation.model_validate({"base": base, "output": output, "rows": rows})

    def concepts(
        self, values: Mapping[str, Value], contributions: Sequence[float], most: int | None = None
    ) -> tuple[Concept, ...]:
        """Contributions summed per concept, largest first; with `most`, those that `reasons` tells of. The feature
        that speaks does most in the concept's own direction, and is a plainly worded one where there is any."""
        totals = [
            (math.fsum([contributions[at] for at in members]), name, members)
            for name, members in self._members
        ]
        found = [one for one in totals if one[0] != 0.0]
        # Equal ones stay in order of their names.
        found.sort(key=_size)
        if most is not None:
            found = ([one for one in found if _points(one[0])] or found[:1])[:most]
        answer = []
        for total, name, members in found:
            speaker = self.features[max(members, key=self._voice(contributions, total))]
            answer.append(Concept(name, total, speaker, values[speaker.name]))
        return tuple(answer)

    def _voice(
        self, contributions: Sequence[float], total: float
    ) -> Callable[[int], tuple[bool, bool, float, str]]:
        return lambda at: (
            contributions[at] * total > 0,
            self._is_plain[at],
            abs(contributions[at]),
            self._told[at][0],
        )

    def fit_and_engagement(self, contributions: Floats) -> tuple[Floats, Floats]:
        """Sums (n,) of the contributions (n, k) from who the leads are, and from what they did."""
        fit, engagement = (contributions.take(group, axis=1).sum(axis=1) for group in self._groups)
        return fit, engagement


def _size(total: tuple[float, str, tuple[int, ...]]) -> float:
    return -abs(total[0])


def _points(contribution: float) -> int:
    return round(contribution * SCORE_POINTS_PER_LOG_ODDS)


def probability_points(explanation: Explanation) -> dict[str, float]:
    """Each row's share of the way from the typical lead's probability p0 to this lead's p, by feature.

        points_j = phi_j (p - p0) / (z - z0),      phi_j p0 (1 - p0) where z = z0

    They sum to p - p0 exactly and keep the signs and the order of the contributions: log-odds are shared out
    in proportion, because probability itself is not additive (docs/methods.md)."""
    p0, p = (1.0 / (1.0 + math.exp(-log_odds)) for log_odds in (explanation.base, explanation.output))
    distance = explanation.output - explanation.base
    # Below 1e-9 the quotient is rounding noise, and the limit is right to nine digits.
    slope = (p - p0) / distance if abs(distance) > 1e-9 else p0 * (1.0 - p0)
    return {row.feature: row.contribution * slope for row in explanation.rows}


def reasons(found: Sequence[Concept], most: int = 5) -> tuple[Reason, ...]:
    """Sentences for the concepts worth at least one score point, at most `most`; always at least one
    where there is any concept at all."""
    telling = [concept for concept in found if _points(concept.contribution)] or found[:1]
    return tuple(
        Reason(
            text=sentence(concept.feature, concept.value),
            direction="raises" if concept.contribution > 0 else "lowers",
            points=_points(concept.contribution),
        )
        for concept in telling[:most]
    )


def sentence(feature: Feature, value: Value) -> str:
    """One fact about the lead in words."""
    if isinstance(feature, AttributeFeature):
        words = "" if value is None else _spoken(value)
        return f"{feature.label}: {words}" if words else f"{feature.label} is unknown"
    span = f" in the last {spoken_duration(feature.window)}" if feature.window else ""
    subject = feature.none or _subject(feature.label)
    if feature.aggregate == "count":
        if not value:
            return f"No {subject}{span or ' so far'}"
        return (
            f"{feature.said} {_times(int(float(value)))}{span}"
            if feature.said
            else f"{feature.label}: {value}"
        )
    if feature.aggregate == "days_since":
        if value is None:
            return f"No {feature.none or subject.removeprefix('days since the last ')} so far"
        days = math.floor(float(value))
        ago = "within the last day" if days == 0 else f"{days} day{'' if days == 1 else 's'} ago"
        return f"{feature.said} {ago}" if feature.said else f"{feature.label}: {days}"
    if feature.aggregate == "ever":
        return (feature.said or feature.label) + span if value else f"Not so far: {subject}"
    return f"{feature.label}: {spoken_value(feature, value)}"


def spoken_value(feature: Feature, value: Value) -> str:
    """A feature's value for people: times in minutes, rates in percent, no needless decimals."""
    if value is None:
        return "unknown"
    if isinstance(feature, EventFeature):
        return _measured(feature, value)
    return _spoken(value)


def _kind(feature: Feature) -> str:
    return feature.aggregate if isinstance(feature, EventFeature) else "attribute"


def _subject(label: str) -> str:
    """`Pricing page views, last 30 days` -> `pricing page views`."""
    stem = label.rsplit(", last ", 1)[0].split(", fading ", 1)[0]
    return stem[:1].lower() + stem[1:]


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _measured(feature: EventFeature, value: Value) -> str:
    number = float(value) if isinstance(value, (int, float)) else None
    if number is None:
        return _brief(str(value))
    if feature.aggregate in ("rate", "share", "repeat"):
        return f"{100 * number:.0f} %"
    if feature.aggregate in ("days_since", "days_since_first", "gap"):
        return f"{number:.0f} day{'' if round(number) == 1 else 's'}"
    if feature.column and feature.column.endswith("_seconds") and feature.aggregate in ("sum", "mean", "max"):
        return f"{number / 60:.0f} minutes" if number >= 90 else f"{number:.0f} seconds"
    if feature.aggregate == "trend":
        return "rising" if number > 0.1 else "falling" if number < -0.1 else "steady"
    return _spoken(number)


def _spoken(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return _brief(str(value))


def _brief(text: str) -> str:
    """A value somebody typed, on one line and short enough for a sentence."""
    words = text.split()
    short = " ".join(words[:8])[:60]
    return short if short == " ".join(words) else f"{short.rstrip()}…"
