"""The printed points of the waterfall add up to the printed score: on every lead, and where the scale ends."""

from __future__ import annotations

import itertools

import pytest
from serving.waterfall import draw, waterfall

from predictive_scoring.keeping.store.scores import page
from predictive_scoring.schema import SCORE_POINTS_PER_LOG_ODDS, Explanation, ExplanationRow, Score


def assert_adds_up(bars, score):
    base, *steps, total = bars
    assert base.points + sum(step.points for step in steps) == total.points == score
    for before, after in itertools.pairwise(bars[:-1]):
        assert after.start == before.end
    assert bars[-2].end == score


def test_every_stored_lead(serving):
    concepts = {feature.name: feature.concept for feature in serving.scorer.features}
    reference = serving.scorer.scoring.grading.reference_log_odds
    count = 0
    kept = serving.store.read(lambda tx: page(tx, limit=10_000)).rows
    for row in kept:
        score = Score.model_validate_json(row.document)
        if score.explanation is not None and score.score is not None:
            bars = waterfall(score.explanation, score.score, reference, concepts)
            assert_adds_up(bars, score.score)
            # A reason's points are those of its concept's bar.
            printed = [bar.points for bar in bars[1:-1]]
            assert all(reason.points in printed for reason in score.reasons if reason.points)
            count += 1
    assert count > 300


@pytest.mark.parametrize("points", [[], [0.4] * 30, [70, 3], [-90, 0.2], [200], [-200, 100, 0.4, 0.4, 0.4]])
def test_rounding_and_the_ends_of_the_scale(points):
    rows = tuple(
        ExplanationRow(
            feature=f"f{number}",
            label=f"F{number}",
            value=None,
            group="fit",
            contribution=value / SCORE_POINTS_PER_LOG_ODDS,
        )
        for number, value in enumerate(points)
    )
    output = sum(row.contribution for row in rows)
    score = min(max(round(50 + SCORE_POINTS_PER_LOG_ODDS * output), 1), 99)
    bars = waterfall(Explanation(base=0.0, output=output, rows=rows), score, 0.0, {})
    assert_adds_up(bars, score)
    drawing = draw(bars)
    for placed in drawing.placed:
        assert drawing.left <= placed.x <= placed.x + placed.width <= drawing.width
