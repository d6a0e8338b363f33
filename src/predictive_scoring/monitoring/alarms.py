"""What counts as an alarm, under which code, and what to do about it (docs/monitoring.md).

An alarm needs two things: a change that is large enough to matter, and one that chance does not explain. The tests on
inputs, on outcomes and on segments are each corrected for their number (Holm, 1979), so that a run in which nothing has
changed alarms with a probability of about three in a hundred at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from predictive_scoring.model.drift import LEVEL, FeatureDrift, Finding, findings, holm
from predictive_scoring.model.performance import Standing, hanley_mcneil, one_sided, two_sided

Action = Literal["look at the source", "recalibrate", "retrain"]

CALIBRATION_OFF = 1.25
"""Conversions over expected ones (or the other way round) from which calibration counts as off."""
SEGMENT_OFF = 1.5
"""The same for a segment, beside the whole."""
RANKING_LOST = 0.03
"""AUC points below the test period's from which the ranking counts as lost."""

CODES: Mapping[str, tuple[str, Action]] = {
    "MO101": ("a feature has moved", "retrain"),
    "MO102": ("values are missing more often, or less", "look at the source"),
    "MO103": ("levels that training never saw", "look at the source"),
    "MO104": ("the scores have moved", "look at the source"),
    "MO105": ("the probabilities are off", "recalibrate"),
    "MO106": ("the ranking has become weaker", "retrain"),
    "MO107": ("the model no longer beats the known rate", "retrain"),
    "MO108": ("the probabilities are off in a segment", "retrain"),
}
"""Code -> (what it means, what to do first)."""


@dataclass(frozen=True)
class Alarm:
    """Something to act on: `what` with its numbers, `where`, and `remedy` in a sentence; `p_value` is corrected."""

    code: str
    what: str
    where: str
    remedy: str
    action: Action
    p_value: float

    @property
    def title(self) -> str:
        return CODES[self.code][0]

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "title": self.title}


@dataclass(frozen=True)
class Promise:
    """What the model said of itself when it was trained: the standard deviation of the level of its probabilities
    (log-odds), its AUC on the test period (NaN: unknown) and that AUC's standard error, and the number of converted
    leads that it learned from."""

    level_error: float
    auc: float
    auc_error: float
    conversions: float


def promise_of(metrics: Mapping[str, Any], overlap: float) -> Promise:
    """The promise in a bundle's metrics. Several rows of one lead count as one; `overlap` is how many examples one
    conversion is the outcome of."""
    periods, test = metrics["periods"], metrics["test"] or {}
    learned = sum(part["conversions"] for name, part in periods.items() if name != "test") / overlap
    # The level was fitted on the newest period that the model knows: n conversions leave it uncertain by 1/sqrt(n).
    newest = periods.get("recalibrate") or periods.get("calibrate") or {}
    level_error = max((newest.get("conversions") or learned * overlap) / overlap, 1.0) ** -0.5
    auc, n, conversions = test.get("auc"), test.get("n"), test.get("conversions")
    leads = periods.get("test", {}).get("leads")
    if auc is None or not n or not conversions:
        return Promise(level_error, math.nan, math.nan, learned)
    share = min(1.0, (leads or n) / n)
    error = hanley_mcneil(float(auc), max(conversions * share, 1.0), max((n - conversions) * share, 1.0))
    return Promise(level_error, float(auc), error, learned)


def input_alarms(
    drifts: Sequence[FeatureDrift], score: FeatureDrift | None, psi: float, labels: Mapping[str, str]
) -> tuple[Alarm, ...]:
    """Alarms of features and scores; `labels` are what people call the features."""
    among = [*drifts, *([] if score is None else [score])]
    return tuple(_input_alarm(found, psi, labels) for found in findings(among, psi=psi))


def _input_alarm(found: Finding, psi: float, labels: Mapping[str, str]) -> Alarm:
    drift = found.drift
    label = labels.get(drift.name, drift.name)
    if found.kind == "missing":
        shift = drift.missing
        return _alarm(
            "MO102",
            f"{shift.now:.0%} of the values of {label} are missing; {shift.before:.0%} were in training",
            f"feature {drift.name}",
            "Find out whether the form, the tracking or the import has changed; where it is meant to be so, retrain.",
            found.p_value,
        )
    if found.kind == "new_levels" and drift.unlisted is not None:
        named = ", ".join(f"{level} ({share:.0%})" for level, share in drift.new_levels)
        return _alarm(
            "MO103",
            f"{drift.unlisted.now:.0%} of the leads have a {label} that training did not know"
            + (f": {named}" if named else ""),
            f"feature {drift.name}",
            "If a spelling has changed, put it right at the source; if the levels are really new, retrain once their "
            "outcomes are known. Until then they count as an unknown level.",
            found.p_value,
        )
    if drift.kind == "score":
        return _alarm(
            "MO104",
            f"The scores are distributed differently than in training: PSI {drift.psi:.2f} "
            f"({drift.by_chance:.3f} by chance, alarm from {psi:g})",
            "scores of the present population",
            "See which features have moved, and whether the mix of leads is meant to be another one.",
            found.p_value,
        )
    return _alarm(
        "MO101",
        f"{label} is distributed differently than in training: PSI {drift.psi:.2f} "
        f"({drift.by_chance:.3f} by chance, alarm from {psi:g})",
        f"feature {drift.name}",
        "Make sure that the source still means the same (unit, tracking, spelling); if it does, retrain once enough "
        "outcomes of the new leads are known.",
        found.p_value,
    )


def outcome_alarms(
    newest: Standing | None, segments: Sequence[tuple[str, Standing]], promise: Promise, *, fresh: bool
) -> tuple[Alarm, ...]:
    """Alarms of matured rows. `fresh` says that the newest rows lie after the test period: only then is their AUC
    compared with the test period's. Segments are (column, standing) pairs."""
    if newest is None or not newest.judgeable:
        return ()
    tests = [_calibration(newest, promise), _against_known(newest)]
    if fresh:
        tests.append(_ranking(newest, promise))
    among = [_segment(column, one, newest, promise) for column, one in segments if one.judgeable]
    return (*_beyond_chance(tests), *_beyond_chance(among))


def _beyond_chance(tests: Sequence[tuple[Alarm, bool]]) -> tuple[Alarm, ...]:
    corrected = holm([alarm.p_value for alarm, _ in tests])
    return tuple(
        replace(alarm, p_value=float(p))
        for (alarm, large), p in zip(tests, corrected, strict=True)
        if large and p <= LEVEL
    )


def _calibration(newest: Standing, promise: Promise) -> tuple[Alarm, bool]:
    ratio = newest.ratio
    off = _log(ratio.value)
    p_value = two_sided(off / math.hypot(ratio.error, promise.level_error)) if off else 1.0
    return _alarm(
        "MO105",
        f"{newest.conversions:,} leads converted where {newest.expected:,.0f} were expected: {ratio.value:.2f} times "
        f"as many (90 % range {ratio.low:.2f} to {ratio.high:.2f})",
        newest.name,
        "Run predictive-scoring recalibrate, which moves the level of all probabilities and leaves the order alone.",
        p_value,
    ), abs(off) >= math.log(CALIBRATION_OFF)


def _against_known(newest: Standing) -> tuple[Alarm, bool]:
    gap = newest.versus_known
    return _alarm(
        "MO107",
        f"Log-loss {newest.log_loss:.4f} is {gap.value:.4f} worse than that of answering the rate known at training",
        newest.name,
        "Recalibrate if MO105 is there too; otherwise retrain, and do not rely on the probabilities until then.",
        one_sided(gap.value / gap.error) if gap.error else 1.0,
    ), gap.value > 0.0


def _ranking(newest: Standing, promise: Promise) -> tuple[Alarm, bool]:
    lost = promise.auc - newest.auc.value
    return _alarm(
        "MO106",
        f"AUC {newest.auc.value:.3f} (90 % range {newest.auc.low:.3f} to {newest.auc.high:.3f}) after "
        f"{promise.auc:.3f} on the test period",
        newest.name,
        "What speaks for a conversion has changed: train again. Recalibration cannot mend an order.",
        one_sided(lost / math.hypot(newest.auc.error, promise.auc_error)),
    ), lost >= RANKING_LOST


def _segment(column: str, one: Standing, newest: Standing, promise: Promise) -> tuple[Alarm, bool]:
    # The model knew the segment from so many conversions only: its own level there is as uncertain as they are few.
    learned = promise.conversions * one.expected / newest.expected
    error = math.hypot(one.ratio.error, max(learned, 1.0) ** -0.5)
    beside = _log(one.ratio.value) - _log(newest.ratio.value)
    return _alarm(
        "MO108",
        f"{one.conversions:,} of {one.rows:,} leads converted where {one.expected:,.0f} were expected: "
        f"{one.ratio.value:.2f} times as many, against {newest.ratio.value:.2f} among all",
        f"segment {column}: {one.name}",
        "Give the model an attribute or feature that tells this segment apart, and train again.",
        two_sided(beside / error),
    ), abs(beside) >= math.log(SEGMENT_OFF)


def _alarm(code: str, what: str, where: str, remedy: str, p_value: float) -> Alarm:
    return Alarm(code, what, where, remedy, CODES[code][1], p_value)


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0.0 else math.nan
