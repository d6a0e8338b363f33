import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.calibrated import CalibratedModel, Evidence
from predictive_scoring.model.columns import Column, encode
from predictive_scoring.model.fitting import fit_calibrated, fit_points_card
from predictive_scoring.model.points import learn_card
from predictive_scoring.settings import PointsRule

COLUMNS = (Column("visits", "number", direction=1), Column("title", "category", ("cto", "dev")))
CARD = learn_card(
    (
        PointsRule(feature="visits", points=15, min=2),
        PointsRule(feature="title", points=10, equals=("cto",)),
    ),
    COLUMNS,
    np.zeros((0, 2)),
)


def leads(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "visits": random.poisson(1.0, n).astype(float),
            "title": random.choice(np.array(["cto", "dev", None], dtype=object), n),
        }
    )


def outcomes(n: int, conversions: int) -> np.ndarray:
    y = np.zeros(n)
    y[:conversions] = 1.0
    return y


def test_the_card_fits_its_level_and_nothing_else():
    frame = leads(200)
    model = fit_points_card(frame, outcomes(200, 6), COLUMNS, CARD, seed=1)
    p = model.probability(frame)
    assert p.mean() == pytest.approx(0.03, abs=1e-9)
    points = CARD.log_odds(encode(frame, COLUMNS)).sum(axis=1)
    assert np.ptp(model.logit(frame) - points) < 1e-12
    assert model.evidence == Evidence("points_card", 6, 200)
    base, phi, limit, z = model.contributions(frame)
    assert np.abs(base + phi.sum(axis=1) + limit - z).max() < 1e-12
    low, high = model.interval(frame)
    assert ((low < p) & (p < high)).all()


def test_what_is_expected_counts_like_one_conversion():
    population = leads(3_000, seed=2)
    for seen, conversions, rate in ((0, 0, 0.04), (25, 0, 0.02), (25, 1, 0.04), (475, 0, 0.002)):
        model = fit_points_card(
            leads(seen),
            outcomes(seen, conversions),
            COLUMNS,
            CARD,
            seed=1,
            expected_rate=0.04,
            population=population,
        )
        # The leads seen differ a little from the population.
        assert model.probability(population).mean() == pytest.approx(rate, rel=0.1)
    same = fit_points_card(population, np.zeros(3_000), COLUMNS, CARD, seed=1, expected_rate=0.04)
    assert same.probability(population).mean() == pytest.approx(1 / 3_025, rel=1e-6)


def test_the_range_of_a_card_narrows_with_conversions_and_not_with_cutoffs():
    def width(model: CalibratedModel) -> float:
        low, high = model.interval(leads(50))
        return float((np.log(high / (1 - high)) - np.log(low / (1 - low))).mean())

    frame, y = leads(200), outcomes(200, 8)
    few = fit_points_card(frame[:50], outcomes(50, 2), COLUMNS, CARD, seed=1)
    many = fit_points_card(frame, y, COLUMNS, CARD, seed=1)
    again = fit_points_card(
        pd.concat([frame[:50]] * 4, ignore_index=True),
        np.tile(outcomes(50, 2), 4),
        COLUMNS,
        CARD,
        seed=1,
        leads=np.tile(np.arange(50), 4),
    )
    assert width(many) < 0.85 * width(few)
    assert width(again) > 0.9 * width(few)
    assert again.evidence == Evidence("points_card", 2, 200)
    assert (few.effective_sample_size(frame) <= 50).all()


def test_the_card_refuses_what_says_nothing():
    frame = leads(20)
    with pytest.raises(TrainingImpossible, match="expected_rate"):
        fit_points_card(frame, np.zeros(20), COLUMNS, CARD, seed=1)
    with pytest.raises(TrainingImpossible, match="neither 0 nor 1"):
        fit_points_card(frame, np.full(20, 0.5), COLUMNS, CARD, seed=1)
    with pytest.raises(TrainingImpossible, match="no lead"):
        fit_points_card(frame[:0], np.zeros(0), COLUMNS, CARD, seed=1, expected_rate=0.1)


def test_evidence_counts_converted_leads_once():
    random = np.random.default_rng(3)
    frame = leads(600)
    y = (random.random(600) < expit(-2.5 + 0.7 * frame["visits"])).astype(float)
    ids = np.arange(600) // 3
    model, _ = fit_calibrated(
        frame[:400],
        y[:400],
        frame[400:].reset_index(drop=True),
        y[400:],
        COLUMNS,
        seed=1,
        train_leads=ids[:400],
        recent_leads=ids[400:],
        card=CARD,
    )
    assert model.evidence.examples == 600
    assert model.evidence.conversions == len(np.unique(ids[y == 1]))
    copy = CalibratedModel.from_document(json.loads(json.dumps(model.to_document())), model.booster_text)
    assert copy == model
    assert np.array_equal(copy.effective_sample_size(frame), model.effective_sample_size(frame))
    old = model.to_document()
    del old["evidence"]
    assert CalibratedModel.from_document(old, model.booster_text).evidence is None


def test_the_effective_sample_size_is_that_of_a_rate_as_sure():
    random = np.random.default_rng(4)
    n = 4_000
    frame = pd.DataFrame({"visits": random.poisson(1.0, n).astype(float), "title": None})
    p = expit(-2.0 + 0.5 * frame["visits"]).to_numpy()
    y = (random.random(n) < p).astype(float)
    model, _ = fit_calibrated(
        frame[:3_000], y[:3_000], frame[3_000:].reset_index(drop=True), y[3_000:], COLUMNS, seed=1
    )
    size = model.effective_sample_size(frame)
    # A score borrows from other leads, and never from more than there are.
    assert ((size > 1) & (size <= n)).all()
    usual = size[frame["visits"] == 1].mean()
    rare = size[frame["visits"] >= 5].mean()
    assert rare < usual
