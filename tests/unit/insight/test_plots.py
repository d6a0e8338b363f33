"""Pictures of a training run: they are drawn for every honest outcome, without a warning."""

import io

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.insight.plots import calibration_plot, effects_plot, gain_plot, score_plot
from predictive_scoring.model.evaluation import calibration_table, gain_table


def drawn(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_a_rate_on_its_own_bound_is_drawn_though_rounding_puts_it_a_hair_outside(observed):
    hair = 1e-18 if observed == 0.0 else -1e-16
    table = pd.DataFrame(
        {"predicted": [0.1], "observed": [observed], "low": [observed + hair], "high": [observed + hair]}
    )
    assert drawn(calibration_plot(table)).startswith(b"\x89PNG")


@pytest.mark.parametrize("conversions", [1, 40, 199])
def test_calibration_gain_and_scores_are_drawn_for_few_and_for_many_conversions(conversions):
    draw = np.random.default_rng(conversions)
    labels = (np.arange(200) < conversions).astype(int)
    probability = np.clip(draw.beta(2, 20, 200) + 0.3 * labels, 0, 1)
    for figure in (
        calibration_plot(calibration_table(labels, probability)),
        gain_plot(gain_table(labels, probability)),
        score_plot(draw.integers(1, 100, 200).tolist(), labels.tolist()),
    ):
        assert len(drawn(figure)) > 5000


def test_effects_are_drawn_with_categories_and_with_a_column_that_holds_nothing():
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "views": np.where(draw.random(80) < 0.3, np.nan, draw.normal(size=80)),
            "title": np.array(["CEO", None] * 40, dtype=object),
            "never": np.full(80, np.nan),
        }
    )
    figure = effects_plot(draw.normal(size=(80, 3)), frame, ["Page views", "Job title", "Never seen"])
    assert len(drawn(figure)) > 5000
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(shown) == ["Job title", "Never seen", "Page views"]
