"""Pictures of two models on the same rows. Each function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from predictive_scoring.insight.pages import ACCENT, BAD, INK, REST
from predictive_scoring.model.challenge import SegmentDifference
from predictive_scoring.model.evaluation import calibration_table, gain_table

BINS = 10
SHOWN_SEGMENTS = 20


def calibration_of_both(
    labels: npt.ArrayLike, challenger: npt.ArrayLike, champion: npt.ArrayLike, names: tuple[str, str]
) -> Figure:
    """Predicted against observed rates of both models, each in its own ten bins of equal count, with 90 % bands."""
    figure, axes = _axes("Does 10 % mean 10 %?", "Predicted probability", "Observed conversion rate")
    top = 0.0
    for answer, name, colour, marker in (
        (champion, names[1], REST, "s"),
        (challenger, names[0], ACCENT, "o"),
    ):
        table = calibration_table(labels, answer, bins=BINS)
        top = max(top, float(table["predicted"].max()), float(table["high"].max()))
        # A rate of 0 or 1 lies on its own bound, which rounding may put a hair on the wrong side.
        spread = np.maximum([table["observed"] - table["low"], table["high"] - table["observed"]], 0.0)
        axes.errorbar(
            table["predicted"],
            table["observed"],
            yerr=spread,
            fmt=marker,
            markersize=5,
            color=colour,
            elinewidth=1.2,
            capsize=2.5,
            label=name,
        )
    axes.plot([0, top * 1.05], [0, top * 1.05], color=INK, linewidth=0.8, linestyle="--", zorder=0)
    _shares(axes)
    axes.legend(frameon=False, loc="upper left")
    return figure


def gain_of_both(
    labels: npt.ArrayLike, challenger: npt.ArrayLike, champion: npt.ArrayLike, names: tuple[str, str]
) -> Figure:
    """Share of conversions found when working the best leads first, by both models."""
    figure, axes = _axes(
        "Working the best leads first", "Share of leads worked", "Share of conversions found"
    )
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="random order")
    for answer, name, colour, style in ((champion, names[1], REST, "-"), (challenger, names[0], ACCENT, "-")):
        table = gain_table(labels, answer, steps=50)
        axes.plot(
            [0, *table["contacted"]],
            [0, *table["captured"]],
            color=colour,
            linewidth=2,
            linestyle=style,
            label=name,
        )
    _shares(axes)
    axes.legend(frameon=False, loc="lower right")
    return figure


def segment_differences(segments: Sequence[SegmentDifference]) -> Figure:
    """Difference in log-loss per segment with its 90 % range, furthest back on top; left of zero is better."""
    shown = list(segments[:SHOWN_SEGMENTS])
    figure, axes = _axes(
        "Where the challenger is better, and where not",
        "Log-loss, challenger minus champion (left is better)",
        "",
        (8.6, 1.1 + 0.3 * len(shown)),
    )
    places = np.arange(len(shown))[::-1]
    for place, one in zip(places, shown, strict=True):
        loss = one.log_loss
        colour = BAD if one.worse else ACCENT if loss.high < 0 else REST
        axes.plot([loss.low, loss.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([loss.difference], [place], marker="o", markersize=6, color=colour)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.set_yticks(places, [f"{one.column} = {one.level}" for one in shown])
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.7, len(shown) - 0.3)
    return figure


def score_changes(change: npt.ArrayLike) -> Figure:
    """How far the scores of open leads would move, in points."""
    figure, axes = _axes(
        "How far today's scores would move", "Points, challenger minus champion", "Open leads"
    )
    moved = np.asarray(change)
    reach = max(5, int(np.abs(moved).max(initial=0)))
    width = max(1, -(-reach // 25))
    edges = np.arange(-reach - 0.5, reach + width + 0.5, width)
    axes.hist(moved, bins=list(edges), color=ACCENT)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    return figure


def _shares(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _axes(title: str, across: str, up: str, size: tuple[float, float] = (6.0, 4.2)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
