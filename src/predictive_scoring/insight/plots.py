"""Pictures of a training run. Each function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

INK, BLUE, GREY = "#1f2933", "#2563eb", "#9aa5b1"


def _axes(title: str, across: str, up: str, size: tuple[float, float] = (6.4, 4.4)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def calibration_plot(table: pd.DataFrame) -> Figure:
    """Predicted against observed conversion rates with 90 % bands (columns as `calibration_table`)."""
    figure, axes = _axes(
        "Does 10 % mean 10 %? (test period)", "Predicted probability", "Observed conversion rate"
    )
    top = float(max(table["predicted"].max(), table["high"].max())) * 1.05
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", label="perfectly calibrated")
    # A rate of 0 or 1 lies on its own bound, which rounding may put a hair on the wrong side.
    spread = np.maximum([table["observed"] - table["low"], table["high"] - table["observed"]], 0.0)
    axes.errorbar(
        table["predicted"],
        table["observed"],
        yerr=spread,
        fmt="o",
        color=BLUE,
        capsize=3,
        label="leads, 90 % band",
    )
    axes.legend(frameon=False)
    return figure


def gain_plot(table: pd.DataFrame) -> Figure:
    """Share of conversions found when working the best leads first (columns as `gain_table`)."""
    figure, axes = _axes(
        "Working the best leads first (test period)", "Share of leads worked", "Share of conversions found"
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="random order")
    axes.plot(
        [0, *table["contacted"]], [0, *table["captured"]], color=BLUE, marker="o", markersize=3, label="model"
    )
    tenth = table.iloc[(table["contacted"] - 0.1).abs().argmin()]
    axes.annotate(
        f"top {tenth['contacted']:.0%} of leads: {tenth['captured']:.0%} of conversions",
        (tenth["contacted"], tenth["captured"]),
        xytext=(0.25, max(0.08, tenth["captured"] - 0.12)),
        arrowprops={"arrowstyle": "-", "color": INK},
        color=INK,
    )
    axes.legend(frameon=False, loc="lower right")
    return figure


def score_plot(scores: Sequence[int], labels: Sequence[int]) -> Figure:
    """Scores of converted and other leads in the test period."""
    figure, axes = _axes("Scores of the test period", "Score", "Share of leads")
    bins = [0.5 + 3 * step for step in range(34)]
    given, outcome = np.asarray(scores), np.asarray(labels)
    for value, colour, name in ((0, GREY, "did not convert"), (1, BLUE, "converted")):
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
    axes.legend(frameon=False)
    return figure


def effects_plot(contributions: Floats, frame: pd.DataFrame, labels: Sequence[str], most: int = 15) -> Figure:
    """What the model looks at: a SHAP beeswarm of contributions in log-odds (n, k), largest features first."""
    # shap is heavy and only a training run draws this picture.
    import shap

    # Categories, and columns without any number, have no scale to colour by: text is drawn in grey.
    shown = np.full(contributions.shape, "", dtype=object)
    for number, column in enumerate(frame.columns):
        scale = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
        if frame[column].dtype != object and not np.isnan(scale).all():
            shown[:, number] = scale
    explanation = shap.Explanation(values=contributions, data=shown, feature_names=list(labels))
    figure = Figure(figsize=(9.5, 6.5))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.42)
    shap.plots.beeswarm(explanation, max_display=most, show=False, plot_size=None, ax=axes)
    axes.set_xlabel("Contribution to the log-odds")
    return figure
