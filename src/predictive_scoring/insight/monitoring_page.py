"""One look at a model in use as a page: what to act on, what became of the scores, what has moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from predictive_scoring.insight.pages import ACCENT, INK, REST, figure_svg, render

SHOWN_FEATURES = 20
SHOWN_SEGMENTS = 16
SHOWN_ALARMS = 6
"""Alarms of one code."""
ORDER = ("look at the source", "recalibrate", "retrain")
"""A wrong source spoils every retraining, and a new level costs nothing."""

Document = Mapping[str, Any]


def monitoring_page(document: Document, labels: Mapping[str, str], description: str = "") -> str:
    """The page of `Monitoring.to_document()` as HTML text; `labels` are what people call features and attributes.

    Everything that comes from the user's tables is escaped."""
    periods = [one for one in document["periods"] if one["rows"]]
    judged = [one for one in document["segments"] if one["judgeable"]]
    segments = _furthest(judged, document["newest"])
    features = document["features"]
    alarmed = {alarm["where"] for alarm in document["alarms"]}
    return render(
        "monitoring.html",
        document=document,
        description=description,
        features=[
            {
                **one,
                "label": labels.get(one["name"], one["name"]),
                "alarm": f"feature {one['name']}" in alarmed,
            }
            for one in features[:SHOWN_FEATURES]
        ],
        of_features=len(features),
        # Bars end at four times the alarm: beyond, it is all the same.
        widest=4.0 * document["psi_alarm"],
        actions=[one for one in ORDER if one in {alarm["action"] for alarm in document["alarms"]}],
        most_alarms=SHOWN_ALARMS,
        periods=periods,
        segments=segments,
        of_segments=len(judged),
        labels=labels,
        rates=figure_svg(rates_plot(periods)) if periods else None,
        ranking=figure_svg(ranking_plot(periods)) if any(one["judgeable"] for one in periods) else None,
        by_segment=figure_svg(segments_plot(document["newest"], segments, labels)) if segments else None,
        scores=figure_svg(scores_plot(document["score_tenths"])) if document["score_tenths"] else None,
    )


def rates_plot(periods: Sequence[Document]) -> Figure:
    """Expected against observed conversion rates, period by period, oldest first (documents of `Standing`)."""
    figure, axes = _axes("Did as many convert as were promised?", max(3.2, 0.18 * len(periods) + 2.4))
    place = np.arange(len(periods))
    rows = np.array([one["rows"] for one in periods], dtype=float)
    expected = np.array([one["expected"] for one in periods]) / rows
    observed = np.array([one["base_rate"] for one in periods])
    low, high = (
        np.array(
            [
                expected[i] * one["ratio"][side] if one["ratio"][side] is not None else observed[i]
                for i, one in enumerate(periods)
            ]
        )
        for side in ("low", "high")
    )
    axes.plot(place, expected, color=REST, linestyle="--", marker="o", markersize=4, label="promised")
    axes.errorbar(
        place,
        observed,
        yerr=[np.maximum(observed - low, 0.0), np.maximum(high - observed, 0.0)],
        fmt="o-",
        color=ACCENT,
        capsize=3,
        label="converted, 90 % range",
    )
    axes.set_ylim(
        0, float(max(expected.max(), np.minimum(high, 3 * observed.max()).max(), observed.max())) * 1.1
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel("Conversion rate", color=INK)
    _named(axes, [one["name"] for one in periods])
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def ranking_plot(periods: Sequence[Document]) -> Figure:
    """AUC with 90 % ranges of the periods that can be judged, oldest first."""
    figure, axes = _axes("Do the better leads still score higher?", max(3.2, 0.18 * len(periods) + 2.4))
    judged = [(place, one["auc"]) for place, one in enumerate(periods) if one["judgeable"]]
    place = np.array([number for number, _ in judged])
    value, low, high = (np.array([auc[side] for _, auc in judged]) for side in ("value", "low", "high"))
    axes.errorbar(place, value, yerr=[value - low, high - value], fmt="o-", color=ACCENT, capsize=3)
    axes.axhline(0.5, color=REST, linestyle="--", label="random order")
    axes.set_ylim(min(0.45, float(low.min()) - 0.02), min(1.0, max(0.8, float(high.max()) + 0.03)))
    axes.set_ylabel("AUC", color=INK)
    _named(axes, [one["name"] for one in periods])
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def segments_plot(newest: Document, segments: Sequence[Document], labels: Mapping[str, str]) -> Figure:
    """Conversions over expected ones in each segment, with 90 % ranges, on a logarithmic scale."""
    shown = list(segments)
    figure = Figure(figsize=(7.2, 1.1 + 0.27 * len(shown)), layout="constrained")
    axes = figure.subplots()
    _plain(axes, "Converted for each one promised, by segment")
    place = np.arange(len(shown))[::-1]
    value, low, high = (np.array([one["ratio"][side] for one in shown]) for side in ("value", "low", "high"))
    axes.errorbar(
        value, place, xerr=[value - low, high - value], fmt="o", color=ACCENT, capsize=2, markersize=4
    )
    axes.axvline(1.0, color=REST, linestyle="--", label="as promised")
    axes.axvline(newest["ratio"]["value"], color=INK, linestyle=":", label="all leads")
    axes.set_xscale("log", base=2)
    edge = max(2.0, float(np.max(np.abs(np.log2(np.concatenate([low, high]))))) if shown else 2.0)
    axes.set_xlim(min(0.5, 2.0 ** -min(edge, 3.0)), max(2.0, 2.0 ** min(edge, 3.0)))
    ticks = [
        tick for tick in (0.125, 0.25, 0.5, 1, 2, 4, 8) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(
        place,
        [_short(f"{labels.get(one['column'], one['column'])}: {one['name']}") for one in shown],
    )
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper right")
    return figure


def scores_plot(tenths: Sequence[Document]) -> Figure:
    """Shares of the leads then and now, by tenths of the scores in training (`from`, `to`, `before`, `now`)."""
    figure, axes = _axes("Scores then and now", 3.2)
    place = np.arange(len(tenths))
    axes.bar(place - 0.2, [one["before"] for one in tenths], 0.38, color=REST, label="in training")
    axes.bar(place + 0.2, [one["now"] for one in tenths], 0.38, color=ACCENT, label="now")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel("Share of leads", color=INK)
    axes.set_xlabel("Score", color=INK)
    axes.set_xticks(
        place,
        [f"{one['from']}" if one["from"] == one["to"] else f"{one['from']}–{one['to']}" for one in tenths],
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _furthest(segments: Sequence[Document], newest: Document | None) -> list[Document]:
    """The segments furthest from the whole, in their own order."""
    middle = math.log(newest["ratio"]["value"]) if newest and newest["ratio"]["value"] else 0.0
    away = [abs(math.log(one["ratio"]["value"]) - middle) for one in segments]
    chosen = sorted(range(len(segments)), key=lambda place: -away[place])[:SHOWN_SEGMENTS]
    return [segments[place] for place in sorted(chosen)]


def _axes(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.8, min(height, 4.2)), layout="constrained")
    axes = figure.subplots()
    _plain(axes, title)
    return figure, axes


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.grid(True, color=REST, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(REST)


def _named(axes: Axes, names: Sequence[str]) -> None:
    # At most eight names, so that they do not run into each other.
    step = -(-len(names) // 8)
    shown = range(0, len(names), step)
    long = any(len(name) > 8 for name in names)
    axes.set_xticks(
        list(shown),
        [names[place] for place in shown],
        rotation=30 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_xlim(-0.4, max(len(names) - 0.6, 0.4))


def _short(text: str) -> str:
    return text if len(text) <= 44 else f"{text[:43]}…"
