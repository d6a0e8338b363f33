"""The readiness report: one HTML page about an audit that stands alone, without network, scripts or fonts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from predictive_scoring.data.audit import Audit, remedies
from predictive_scoring.data.leak_screen import SUSPICIOUS_AUC
from predictive_scoring.insight.pages import render
from predictive_scoring.settings import Project
from predictive_scoring.timeline import DAY, format_instant

SHOWN_TYPES = 24
SHOWN_FEATURES = 30
FIRST_STEPS = 5
HEIGHT = 100
"""Units of a small picture's height; its width is its number of weeks."""


@dataclass(frozen=True)
class Spark:
    """One event type's weeks as a small picture: SVG points of its line, and what they amount to."""

    name: str
    total: int
    busiest: int
    weeks: int
    line: str
    declared: bool


def readiness_report(
    project: Project, audit: Audit, observed_until: int, labels: Mapping[str, str] | None = None
) -> str:
    """The page as HTML text.

    `labels` are what people call the features, by name; `observed_until` (epoch seconds) is how far the data reach.
    Everything that comes from the user's tables and files is escaped."""
    sparks, first_day, last_day = _sparks(audit, project)
    told = labels or {}
    return render(
        "readiness_report.html",
        project=project,
        audit=audit,
        tone={0: "good", 2: "bad", 3: "leak"}[audit.exit_code],
        until=format_instant(observed_until)[:10],
        first_steps=[one for one in audit.findings if one.severity != "info"][:FIRST_STEPS],
        remedies=remedies(project, audit.refused) if audit.refused else None,
        severities={
            name: sum(one.severity == name for one in audit.findings) for name in ("error", "warning", "info")
        },
        waivers={(leak.code, leak.finding.where): leak.waiver for leak in audit.leaks if leak.waiver},
        periods=_periods(audit),
        sparks=sparks,
        first_day=first_day,
        last_day=last_day,
        alone=[
            {"name": name, "label": told.get(name, name), "auc": auc, "suspect": auc >= SUSPICIOUS_AUC}
            for name, auc in sorted(audit.screen.alone.items(), key=lambda item: (-item[1], item[0]))[
                :SHOWN_FEATURES
            ]
        ],
        features=len(audit.screen.alone),
        suspicious_auc=SUSPICIOUS_AUC,
        filled=[
            {"name": name, "label": told.get(name, name), "other": other, "converted": converted}
            for name, (other, converted) in sorted(
                audit.screen.filled.items(), key=lambda item: (-abs(item[1][0] - item[1][1]), item[0])
            )
        ],
        lags=_lags(audit),
    )


def _periods(audit: Audit) -> list[dict[str, Any]]:
    most = max((number for number, _ in audit.examples.values()), default=1) or 1
    return [
        {
            "name": name,
            "examples": number,
            "conversions": converted,
            "width": number / most,
            "rate": converted / number if number else 0.0,
        }
        for name, (number, converted) in audit.examples.items()
    ]


def _lags(audit: Audit) -> list[dict[str, Any]]:
    if audit.log is None or not audit.events:
        return []
    return [
        {"name": name, "number": number, "share": number / audit.events}
        for name, number in audit.log.lags.items()
    ]


def _sparks(audit: Audit, project: Project) -> tuple[list[Spark], str, str]:
    """Weekly counts of the most frequent event types; weeks are counted back from the last day, so that it is whole."""
    if audit.log is None or audit.log.daily.empty:
        return [], "", ""
    daily = audit.log.daily
    first, last = int(daily["day"].min()), int(daily["day"].max())
    weeks = (last - first) // 7 + 1
    week = weeks - 1 - (last - daily["day"]) // 7
    totals = daily.groupby("event_type")["number"].sum().sort_values(ascending=False, kind="stable")
    sparks = []
    for name in totals.index[:SHOWN_TYPES]:
        chosen = (daily["event_type"] == name).to_numpy()
        counts = np.bincount(week[chosen], weights=daily["number"][chosen], minlength=weeks)
        sparks.append(
            Spark(
                str(name),
                int(totals[name]),
                int(counts.max()),
                weeks,
                _line(counts),
                str(name) in project.events,
            )
        )
    return sparks, format_instant(first * DAY)[:10], format_instant(last * DAY)[:10]


def _line(counts: np.ndarray) -> str:
    """Points of a line over its weeks, its highest point at the top."""
    heights = HEIGHT - HEIGHT * pd.Series(counts) / max(float(counts.max()), 1.0)
    return " ".join(f"{number},{height:.1f}" for number, height in enumerate(heights))
