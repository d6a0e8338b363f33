"""Pictures of a training run. Each function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from predictive_scoring.insight.pages import ACCENT, INK, REST

Floats = npt.NDArray[np.float64]
Place = Literal["best", "upper left", "upper right", "lower right"]

LOW_TO_HIGH = LinearSegmentedColormap.from_list("low to high", ["#2f6fde", "#9b4fb0", "#e0344f"])


def _axes(title: str, across: str, up: str, size: tuple[float, float] = (5.6, 3.9)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.tick_params(colors=INK)
    axes.grid(True, color=REST, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(REST)
    return figure, axes


def _legend(axes: Axes, place: Place = "best") -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc=place, labelcolor=INK, fontsize=9)


def _ready(axes: Axes, share: float | None) -> None:
    """A line at the share of leads that are `ready`."""
    if share is not None and 0.0 < share < 1.0:
        axes.axvline(share, color=INK, linestyle=":", linewidth=1.2, label=f"ready: {share:.0%} of leads")


def calibration_plot(table: pd.DataFrame) -> Figure:
    """Predicted against observed conversion rates with 90 % bands (columns as `calibration_table`)."""
    figure, axes = _axes(
        "Does 10 % mean 10 %? (test period)", "Predicted probability", "Observed conversion rate"
    )
    # A band of few leads may reach far beyond every prediction; it is cut off rather than squeeze the rest.
    top = float(max(table["predicted"].max(), table["observed"].max())) * 1.15 + 0.01
    axes.plot([0, top], [0, top], color=REST, linestyle="--", label="perfectly calibrated")
    # A rate of 0 or 1 lies on its own bound, which rounding may put a hair on the wrong side.
    spread = np.maximum([table["observed"] - table["low"], table["high"] - table["observed"]], 0.0)
    axes.errorbar(
        table["predicted"],
        table["observed"],
        yerr=spread,
        fmt="o",
        color=ACCENT,
        capsize=3,
        markersize=5,
        label="leads, 90 % band",
    )
    axes.set_xlim(-0.02 * top, top)
    axes.set_ylim(-0.02 * top, min(max(float(table["high"].max()) * 1.05, top), 1.6 * top))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None if top > 0.05 else 1, symbol=" %"))
    _legend(axes, "upper left")
    return figure


def gain_plot(table: pd.DataFrame, ready: float | None = None) -> Figure:
    """Share of conversions found when working the best leads first (columns as `gain_table`). `ready` is the share
    of leads above the line of readiness."""
    figure, axes = _axes(
        "Working the best leads first (test period)", "Share of leads worked", "Share of conversions found"
    )
    axes.plot([0, 1], [0, 1], color=REST, linestyle="--", label="random order")
    axes.plot(
        [0, *table["contacted"]],
        [0, *table["captured"]],
        color=ACCENT,
        marker="o",
        markersize=3,
        label="model",
    )
    _ready(axes, ready)
    tenth = table.iloc[(table["contacted"] - 0.1).abs().argmin()]
    axes.annotate(
        f"top {tenth['contacted']:.0%} of leads: {tenth['captured']:.0%} of conversions",
        (tenth["contacted"], tenth["captured"]),
        xytext=(0.4, min(max(0.26, tenth["captured"] - 0.16), 0.36)),
        arrowprops={"arrowstyle": "-", "color": INK},
        color=INK,
        fontsize=9,
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _legend(axes, "lower right")
    return figure


def lift_plot(table: pd.DataFrame, ready: float | None = None) -> Figure:
    """How many times more conversions than in random order (columns as `gain_table`)."""
    figure, axes = _axes("How much better than random (test period)", "Share of leads worked", "Lift")
    axes.axhline(1.0, color=REST, linestyle="--", label="random order")
    axes.plot(table["contacted"], table["lift"], color=ACCENT, marker="o", markersize=3, label="model")
    _ready(axes, ready)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _legend(axes, "upper right")
    return figure


def worked_plot(
    table: pd.DataFrame, *, money: bool, ready: float | None = None, base_rate: float | None = None
) -> Figure:
    """Profit, or conversions per worked lead, with its band (columns as `worked_table`)."""
    figure, axes = _axes(
        "Profit of working the best leads (test period)"
        if money
        else "Conversions per worked lead (test period)",
        "Share of leads worked",
        "Profit" if money else "Conversion rate of those worked",
    )
    axes.fill_between(
        table["worked"], table["low"], table["high"], color=ACCENT, alpha=0.18, linewidth=0, label="90 % band"
    )
    axes.plot(table["worked"], table["value"], color=ACCENT, label="model")
    if money:
        axes.axhline(0.0, color=REST, linewidth=1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        if base_rate is not None:
            axes.axhline(base_rate, color=REST, linestyle="--", label="random order")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _ready(axes, ready)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _legend(axes, "best" if money else "upper right")
    return figure


def score_plot(
    scores: Sequence[int], labels: Sequence[int] | None, title: str = "Scores of the test period"
) -> Figure:
    """Scores of converted and other leads; without `labels` of all leads alike."""
    figure, axes = _axes(title, "Score", "Share of leads")
    bins = [0.5 + 3 * step for step in range(34)]
    given = np.asarray(scores)
    outcome = np.zeros(len(given)) if labels is None else np.asarray(labels)
    other = "leads" if labels is None else "did not convert"
    for value, colour, name in ((0, REST, other), (1, ACCENT, "converted")):
        part = given[outcome == value]
        if len(part):
            axes.hist(
                part,
                bins=bins,
                weights=np.full(len(part), 1 / len(part)),
                alpha=0.6,
                color=colour,
                label=name,
            )
    axes.set_xlim(0, 100)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    _legend(axes)
    return figure


def effect_plot(values: npt.ArrayLike, points: npt.ArrayLike, label: str, most: int = 10) -> Figure:
    """What one number does to the score: mean score points (n,) over its values (n,) in at most `most` bins of equal
    count, with the middle 80 % of leads. Missing values stand apart on the right."""
    x, y = np.asarray(values, dtype=np.float64), np.asarray(points, dtype=np.float64)
    figure, axes = _axes("\n".join(textwrap.wrap(label, 44)), "", "Score points", (3.7, 2.7))
    axes.title.set_fontsize(10)
    axes.axhline(0.0, color=REST, linewidth=1)
    known = ~np.isnan(x)
    if known.any():
        edges = np.unique(np.quantile(x[known], np.linspace(0, 1, most + 1)[1:-1]))
        place = np.searchsorted(edges, x[known], side="right")
        groups = pd.DataFrame({"x": x[known], "y": y[known]}).groupby(place)
        middle, mean = groups["x"].median(), groups["y"].mean()
        low, high = groups["y"].quantile(0.1), groups["y"].quantile(0.9)
        axes.fill_between(middle, low, high, color=ACCENT, alpha=0.18, linewidth=0)
        axes.plot(middle, mean, color=ACCENT, marker="o", markersize=3)
    if (~known).any():
        share, at = float((~known).mean()), float(y[~known].mean())
        axes.axhline(at, color=INK, linestyle=":", linewidth=1)
        axes.annotate(
            f"unknown ({share:.0%})",
            (1.0, at),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=INK,
        )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    return figure


def effects_plot(contributions: Floats, frame: pd.DataFrame, labels: Sequence[str], most: int = 15) -> Figure:
    """What the model looks at: contributions in log-odds (n, k), a row of points per feature, largest features first.

    A point is a lead, coloured by its feature's value: from low to high by rank, grey where there is no order (a
    category) or no value. What is beyond the first `most` - 1 features is summed into the last row."""
    weight = np.abs(contributions).mean(axis=0)
    order = sorted(range(len(labels)), key=lambda number: (-weight[number], labels[number]))
    kept = order if len(order) <= most else order[: most - 1]
    rest = order[len(kept) :]
    figure = Figure(figsize=(9.5, 1.1 + 0.36 * (len(kept) + bool(rest))))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.37, right=0.98, top=0.98, bottom=0.75 / figure.get_figheight())
    names = ["\n".join(textwrap.wrap(labels[number], 40)) for number in kept]
    rows = [(contributions[:, number], _ranks(frame.iloc[:, number])) for number in kept]
    if rest:
        names.append(f"Sum of {len(rest)} other features")
        rows.append((contributions[:, rest].sum(axis=1), np.full(len(contributions), np.nan)))
    reach = max((float(np.abs(share).max(initial=0.0)) for share, _ in rows), default=0.0) or 1.0
    for place, (share, rank) in enumerate(rows):
        axes.axhline(place, color=REST, linewidth=0.6, alpha=0.5)
        ordered = ~np.isnan(rank)
        where = place + _swarm(share, reach)
        # As pixels: thousands of points as a drawing would be megabytes.
        axes.scatter(share[~ordered], where[~ordered], s=9, c=REST, linewidths=0, rasterized=True)
        axes.scatter(
            share[ordered],
            where[ordered],
            s=9,
            c=rank[ordered],
            cmap=LOW_TO_HIGH,
            vmin=0,
            vmax=1,
            linewidths=0,
            rasterized=True,
        )
    axes.axvline(0.0, color=REST, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("Contribution to the log-odds", color=INK)
    axes.tick_params(colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(REST)
    return figure


def _ranks(column: pd.Series) -> Floats:
    """Ranks (n,) of numbers from 0 to 1; NaN for texts and gaps."""
    if column.dtype == object:
        return np.full(len(column), np.nan)
    ranks = pd.to_numeric(column, errors="coerce").rank(pct=True)
    return np.asarray(ranks, dtype=np.float64)


def _swarm(share: Floats, reach: float, steps: int = 120, high: float = 0.4) -> Floats:
    """Heights (n,) within +-`high` that set points of nearly equal share apart: alternately above and below."""
    column = np.round(share / reach * steps).astype(np.int64)
    nth = pd.Series(column).groupby(column).cumcount().to_numpy()
    side = np.where(nth % 2, 1.0, -1.0) * ((nth + 1) // 2)
    # Never farther apart than a point's size, and never out of the row.
    return np.asarray(
        side * min(0.06, high / max(float(np.abs(side).max(initial=0.0)), 1.0)), dtype=np.float64
    )
