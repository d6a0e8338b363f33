"""The report of a training run: one HTML page for those who decide whether the model may be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from predictive_scoring.data.dataset import PERIODS
from predictive_scoring.insight.pages import decimal, figure_svg, number, percent, render
from predictive_scoring.insight.pages.run_facts import (
    FEWEST_OF_EACH,
    RunFacts,
    Segment,
    concept_weights,
    heaviest,
    level_effects,
    score_bands,
    segments,
)
from predictive_scoring.insight.plots import (
    calibration_plot,
    effect_plot,
    effects_plot,
    gain_plot,
    lift_plot,
    score_plot,
    worked_plot,
)
from predictive_scoring.model.evaluation import calibration_table, gain_table
from predictive_scoring.model.worked import worked_table

FEW_CONVERSIONS = 30
"""Conversions of the test period below which every figure is told to swing."""
WORKED_SHOWN = (5, 10, 15, 20, 30, 40, 50, 75, 100)
"""Shares of leads, in percent, told beside the picture."""
SHOWN_CONCEPTS = 15
SHOWN_NUMBERS = 6
SHOWN_CATEGORIES = 4
SHOWN_TRIALS = 15
MOST_BINS = 12
"""Groups of the picture of calibration."""
SWARM_ROWS = 800
"""Rows drawn in the swarm of contributions: a point each and feature."""

MEASURES = (
    ("auc", "AUC", "chance that a lead that converts outranks one that does not"),
    ("lift_at_10", "Lift in the top tenth", "times the average rate"),
    ("capture_at_10", "Captured by the top tenth", "share of all conversions"),
    ("pr_auc", "Average precision", "the average rate would be the value of a random order"),
    ("log_loss", "Log-loss", "smaller is better"),
    ("brier", "Brier score", "mean squared error of the probability"),
    ("ece", "Calibration error", "mean gap between promised and observed rates"),
)
BASES = {
    "points_card": "the points card: what you declared before there was data, at the rate that is known",
    "ridge": "a ridge regression that starts from the points card",
    "blend": "a blend of a ridge regression and small boosted trees",
}


def run_report(facts: RunFacts) -> str:
    """The page as HTML text. Everything that comes from the user's tables and files is escaped.

    A model without a test period (a cold start) gets the page without what only a test period can show."""
    rows = facts.rows
    test = facts.measures.get("test", {}) if facts.held_out else {}
    concepts = concept_weights(facts)
    groups = segments(facts) if facts.held_out else []
    return render(
        "run_report.html",
        project=facts.project,
        validated=facts.verdict == "validated",
        verdict=_verdict(facts),
        reasons=facts.reasons,
        held_out=facts.held_out,
        few=facts.held_out and int(rows.labels.sum()) < FEW_CONVERSIONS,
        conversions=int(rows.labels.sum()),
        tiles=_tiles(facts, test),
        card=_card(facts),
        periods=_periods(facts.periods),
        measures=_measures(facts.measures if facts.held_out else {}),
        measured_periods=[name for name in facts.measures if facts.held_out],
        pictures=_pictures(facts) if facts.held_out else {},
        money=_win(facts) is not None,
        ready=facts.ready_share,
        ready_rate=_rate_above(facts),
        scores=figure_svg(
            score_plot(facts.scores.tolist(), rows.labels.tolist())
            if facts.held_out
            else score_plot(facts.scores.tolist(), None, "Scores of the leads it learned from")
        ),
        bands=score_bands(facts),
        concepts=concepts[:SHOWN_CONCEPTS],
        more_concepts=max(len(concepts) - SHOWN_CONCEPTS, 0),
        most=concepts[0].points if concepts else 1.0,
        swarm=_swarm(facts) if concepts else None,
        effects=_effects(facts),
        categories=_categories(facts),
        segments=groups,
        fewest=FEWEST_OF_EACH,
        leaks=facts.project.leaks,
        waived=facts.waived,
        set_aside=facts.set_aside,
        labels={feature.name: feature.label for feature in facts.features},
        trials=_trials(facts),
        limits=_limits(facts, groups),
    )


def _verdict(facts: RunFacts) -> str:
    if not facts.held_out:
        return "Not judged: too few conversions to hold any out"
    if facts.verdict == "validated":
        return "Validated: it may be promoted"
    return "Rejected: it should not be used"


def _tiles(facts: RunFacts, test: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not facts.held_out:
        evidence = facts.evidence or {}
        return [
            (number(evidence.get("conversions", int(facts.rows.labels.sum()))), "conversions known"),
            (number(evidence.get("examples", len(facts.rows.labels))), "examples"),
            (percent(float(facts.rows.probability.mean())), "mean probability"),
        ]
    return [
        (decimal(test.get("auc")), "AUC (0.5 is a random order)"),
        (f"{decimal(test.get('lift_at_10'), 1)} ×", "lift in the top tenth"),
        (percent(test.get("ece")), "calibration error"),
        (number(len(facts.rows.labels)), "examples judged"),
        (number(int(facts.rows.labels.sum())), "conversions among them"),
    ]


def _card(facts: RunFacts) -> list[tuple[str, str]]:
    project, evidence = facts.project, facts.evidence
    outcome = project.conversion.event or f"{project.conversion.column} = {project.conversion.positive}"
    first = min(
        (part["first_cutoff"] for part in facts.periods.values() if "first_cutoff" in part), default=""
    )
    last = max((part["last_cutoff"] for part in facts.periods.values() if "last_cutoff" in part), default="")
    line = facts.grading.ready_probability
    rows = [
        ("Predicts", f"{outcome} within {project.conversion.horizon_days} days"),
        ("Data window", f"{first[:10]} to {last[:10]}" if first else "the rows in their order"),
        ("Features read", number(len(facts.features))),
        ("Ready from", percent(line) if line <= 1.0 else "nobody is ready"),
    ]
    if evidence is not None:
        rows.append(("Rests on", BASES.get(str(evidence.get("basis")), str(evidence.get("basis")))))
        rows.append(("Conversions learned from", number(evidence.get("conversions"))))
    if facts.known_base_rate is not None:
        rows.append(("Rate known before the test", percent(facts.known_base_rate)))
    return [*rows, *((name, str(value)) for name, value in facts.provenance.items())]


def _periods(periods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    most = max((part["examples"] for part in periods.values()), default=1) or 1
    return [
        {
            "name": name,
            "examples": part["examples"],
            "conversions": part["conversions"],
            "rate": part["conversions"] / part["examples"] if part["examples"] else None,
            "share": part["examples"] / most,
            "first": part.get("first_cutoff", "")[:10],
            "last": part.get("last_cutoff", "")[:10],
        }
        for name, part in sorted(periods.items(), key=lambda item: _place(item[0]))
    ]


def _place(period: str) -> int:
    return PERIODS.index(period) if period in PERIODS else len(PERIODS)


def _measures(measures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [
        [f"{label}: {meaning}", *(decimal(part.get(key), 4) for part in measures.values())]
        for key, label, meaning in MEASURES
        if measures
    ]


def _win(facts: RunFacts) -> float | None:
    """Worth of a conversion, where the project declares it."""
    readiness = facts.project.readiness
    if readiness.value_per_win is None or readiness.win_rate is None:
        return None
    return readiness.value_per_win * readiness.win_rate


def _pictures(facts: RunFacts) -> dict[str, Any]:
    """What the test period shows, as pictures and as the figures beside them."""
    rows, ready, win = facts.rows, facts.ready_share, _win(facts)
    # Groups of a handful of leads have bands from nothing to everything.
    bins = min(max(int(rows.labels.sum()) // FEWEST_OF_EACH, 2), MOST_BINS)
    calibration = calibration_table(rows.labels, rows.probability, bins=bins)
    pictures: dict[str, Any] = {
        "calibration": figure_svg(calibration_plot(calibration)),
        "calibration_rows": [
            [
                percent(one["predicted"]),
                percent(one["observed"]),
                _range(percent, one),
                number(one["leads"]),
            ]
            for one in _rows(calibration)[::-1]
        ],
    }
    if not rows.labels.any():
        return pictures
    gain = gain_table(rows.labels, rows.probability)
    worked = worked_table(
        rows.labels,
        rows.probability,
        leads=rows.leads,
        win=win,
        cost=facts.project.readiness.cost_per_lead or 0.0,
        seed=facts.project.seed,
    )
    rate = float(rows.labels.mean())
    told = percent if win is None else number
    return pictures | {
        "gain": figure_svg(gain_plot(gain, ready)),
        "lift": figure_svg(lift_plot(gain, ready)),
        "worked": figure_svg(worked_plot(worked, money=win is not None, ready=ready, base_rate=rate)),
        "worked_rows": [
            [percent(one["worked"]), told(one["value"]), _range(told, one)]
            for one in _rows(worked)
            if round(100 * one["worked"]) in WORKED_SHOWN
        ],
    }


def _rows(table: pd.DataFrame) -> list[dict[str, float]]:
    return [{str(key): float(value) for key, value in row.items()} for row in table.to_dict("records")]


def _range(told: Callable[[float], str], row: Mapping[str, float]) -> str:
    return f"{told(row['low'])} to {told(row['high'])}"


def _rate_above(facts: RunFacts) -> dict[str, float] | None:
    """What lay above the line of readiness in the test period."""
    above = facts.rows.probability >= facts.grading.ready_probability
    if not facts.held_out or not above.any():
        return None
    found, every = int(facts.rows.labels[above].sum()), int(facts.rows.labels.sum())
    return {"rate": found / int(above.sum()), "captured": found / every if every else math.nan}


def _swarm(facts: RunFacts) -> Markup:
    rows = facts.rows
    step = max(1, math.ceil(len(rows.shown) / SWARM_ROWS))
    frame = rows.shown_frame[[feature.name for feature in facts.features]].iloc[::step].reset_index(drop=True)
    return figure_svg(
        effects_plot(rows.contributions[::step], frame, [feature.label for feature in facts.features]),
        "What raises and lowers the log-odds, a point per lead",
    )


def _effects(facts: RunFacts) -> list[Markup]:
    frame = facts.rows.shown_frame
    return [
        figure_svg(
            effect_plot(
                frame[facts.features[n].name].to_numpy(dtype=np.float64),
                facts.rows.points[:, n],
                facts.features[n].label,
            )
        )
        for n in heaviest(facts, "number", SHOWN_NUMBERS)
    ]


def _categories(facts: RunFacts) -> list[dict[str, Any]]:
    chosen = [(n, level_effects(facts, n)) for n in heaviest(facts, "category", SHOWN_CATEGORIES)]
    most = max((abs(one.points) for _, levels in chosen for one in levels), default=0.0) or 1.0
    return [{"label": facts.features[n].label, "levels": levels, "most": most} for n, levels in chosen]


def _trials(facts: RunFacts) -> dict[str, Any] | None:
    """The best settings that were tried, and the chosen ones wherever they stand."""
    if not facts.trials:
        return None
    chosen = dict(facts.chosen) if facts.chosen is not None else None
    ranked = sorted(
        map(dict, facts.trials), key=lambda one: (one["log_loss"] != one["log_loss"], one["log_loss"])
    )
    shown = ranked[:SHOWN_TRIALS]
    if chosen in ranked and chosen not in shown:
        shown.append(chosen)
    every = dict.fromkeys(key for one in shown for key in one if key != "log_loss")
    # What is the same everywhere is no choice, and there may be many settings of the trees.
    names = [name for name in every if len({str(one.get(name)) for one in shown}) > 1] or list(every)
    return {
        "names": [name.replace("_", " ") for name in names],
        "rows": [
            {
                "cells": [_setting(one.get(name)) for name in names],
                "log_loss": decimal(one["log_loss"], 5),
                "chosen": one == chosen,
            }
            for one in shown
        ],
        "more": len(ranked) - len(shown),
    }


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _limits(facts: RunFacts, groups: Sequence[Segment]) -> Sequence[str]:
    """What the model should not be used for, the general first and then what this run showed."""
    limits = [
        "For decisions about credit, employment, insurance, housing or anything else that a law keeps from a score. "
        "It ranks leads for sales and nurturing.",
        "For leads unlike those it learned from: another market, product or way of collecting leads. "
        "`predictive-scoring monitor` tells when leads drift away.",
        "As a promise about one lead. The range beside a score speaks of leads with that score.",
        "As a measure of what an action would do. A high score says that a conversion is likely, not that a call "
        "causes it.",
    ]
    few = [
        f"{segment.label}: {', '.join(row.level for row in segment.rows if row.auc is None)}"
        for segment in groups
        if any(row.auc is None for row in segment.rows)
    ]
    off = [
        f"{segment.label} {row.level} ({row.off})" for segment in groups for row in segment.rows if row.off
    ]
    if few:
        limits.append(f"With trust in groups that were too small to judge. {'; '.join(few)}.")
    if off:
        limits.append("Without care where more or fewer converted than it promised. " + "; ".join(off) + ".")
    if not facts.held_out:
        limits.append("To decide whether scoring works at all: nothing was held out that could show it.")
    return limits
