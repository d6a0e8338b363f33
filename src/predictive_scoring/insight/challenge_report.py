"""A comparison as one HTML page: the verdict, calibration and gain of both models, segments, and what would change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.insight.challenge_plots import (
    SHOWN_SEGMENTS,
    calibration_of_both,
    gain_of_both,
    score_changes,
    segment_differences,
)
from predictive_scoring.insight.pages import MISSING, figure_svg, render
from predictive_scoring.model.challenge import Challenge
from predictive_scoring.model.evaluation import Metrics, Verdict
from predictive_scoring.model.paired import Difference

SHOWN_LEADS = 25
FURTHER = (
    ("Average precision", "pr_auc"),
    ("Brier score", "brier"),
    ("Conversions found in the top tenth", "capture_at_10"),
)


@dataclass(frozen=True)
class Both:
    """What the page compares: the challenger first, the champion second. ``labels`` and ``probabilities`` (n,) are
    those of the rows that `rows` describes in words."""

    project: str
    versions: tuple[str, str]
    rows: str
    labels: npt.NDArray[np.int64]
    probabilities: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    metrics: tuple[Metrics, Metrics]
    verdict: Verdict


def challenge_report(
    both: Both,
    challenge: Challenge,
    *,
    recorded: str,
    open_leads: Mapping[str, Any] | None = None,
    change: npt.ArrayLike | None = None,
) -> str:
    """The page as HTML text. ``recorded`` says what became of the verdict; ``open_leads`` is the document of the open
    leads in the champion's shadow, ``change`` (n,) how far each of their scores would move."""
    names = (f"version {both.versions[0]}", f"version {both.versions[1]}")
    segments = challenge.segments
    return render(
        "challenge_report.html",
        both=both,
        challenge=challenge,
        recorded=recorded,
        calibration=figure_svg(calibration_of_both(both.labels, *both.probabilities, names)),
        gain=figure_svg(gain_of_both(both.labels, *both.probabilities, names)),
        segments=figure_svg(segment_differences(segments)) if segments else None,
        segment_rows=[
            [
                f"{one.column} = {one.level}",
                f"{one.rows:,}",
                f"{one.conversions:,}",
                f"{one.log_loss.challenger:.4f}",
                f"{one.log_loss.champion:.4f}",
                f"{one.log_loss.difference:+.4f}",
                f"{one.log_loss.low:+.4f} to {one.log_loss.high:+.4f}",
                f"{one.p_holm:.3f}",
            ]
            for one in segments
        ],
        hidden_segments=max(0, len(segments) - SHOWN_SEGMENTS),
        figures=[
            _figure("Log-loss", challenge.log_loss),
            _figure("AUC", challenge.auc),
            _figure("Mean prediction away from the rate", challenge.in_the_large),
            _figure("ECE", challenge.ece),
            *(_further(name, *(getattr(one, key) for one in both.metrics)) for name, key in FURTHER),
        ],
        open_leads=open_leads,
        changes=figure_svg(score_changes(change)) if change is not None else None,
        shown_leads=SHOWN_LEADS,
    )


def _figure(name: str, figure: Difference) -> list[str]:
    return [
        name,
        f"{figure.challenger:.4f}",
        f"{figure.champion:.4f}",
        f"{figure.difference:+.4f}",
        f"{figure.low:+.4f} to {figure.high:+.4f}",
    ]


def _further(name: str, challenger: float, champion: float) -> list[str]:
    """A figure whose range nobody worked out."""
    return [name, f"{challenger:.4f}", f"{champion:.4f}", f"{challenger - champion:+.4f}", MISSING]
