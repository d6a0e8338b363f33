import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.linear import LinearPart, fit_linear
from predictive_scoring.model.points import PointsCard, learn_card
from predictive_scoring.settings import PointsRule

KINDS = {"visits": "number", "size": "number", "title": "category"}
RULES = (
    PointsRule(feature="visits", points=10, min=2),
    PointsRule(feature="size", points=-10, max=0),
    PointsRule(feature="title", points=20, equals=("cto",)),
)


def world(
    n: int, effect: float
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, tuple[Column, ...], PointsCard]:
    """Leads whose log-odds are `effect` times what the card says."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "visits": random.poisson(1.5, n).astype(float),
            "size": np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)),
            "title": random.choice(np.array(["cto", "dev", None], dtype=object), n),
        }
    )
    columns = learn_columns(frame, KINDS, directions={"visits": 1})
    encoded = encode(frame, columns)
    card = learn_card(RULES, columns, encoded)
    p = expit(-2.0 + effect * card.log_odds(encoded).sum(axis=1))
    return frame, encoded, (random.random(n) < p).astype(float), columns, card


@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0, 1.5])
def test_with_many_conversions_the_weight_of_the_card_is_what_the_data_say(effect):
    _, encoded, y, columns, card = world(30_000, effect)
    # A strong penalty leaves nothing to the other coefficients.
    fitted = fit_linear(encoded, y, columns, penalty=1e6, card=card)
    assert fitted.card_weight == pytest.approx(effect, abs=0.06)


def test_with_few_conversions_the_model_is_the_card():
    _, encoded, y, columns, card = world(60, 1.0)
    fitted = fit_linear(encoded, y, columns, penalty=30.0, card=card)
    assert 0.6 < fitted.card_weight < 1.4
    told, points = fitted.margin(encoded), card.log_odds(encoded).sum(axis=1)
    assert np.corrcoef(told, points)[0, 1] > 0.9


def test_a_card_that_is_wrong_is_left_and_never_reversed():
    _, encoded, y, columns, card = world(20_000, -1.0)
    fitted = fit_linear(encoded, y, columns, penalty=10.0, card=card)
    assert fitted.card_weight == 0.0
    without = fit_linear(encoded, y, columns, penalty=10.0)
    assert np.allclose(fitted.margin(encoded), without.margin(encoded), atol=1e-4)


def test_contributions_with_a_card_add_up_and_leave_the_mean_at_the_base():
    _, encoded, y, columns, card = world(2_000, 1.0)
    fitted = fit_linear(encoded, y, columns, penalty=10.0, card=card)
    base, phi = fitted.contributions(encoded)
    assert np.abs(base + phi.sum(axis=1) - fitted.margin(encoded)).max() <= 1e-12
    assert np.abs(phi.mean(axis=0)).max() <= 1e-9
    one = np.concatenate([fitted.margin(encoded[i : i + 1]) for i in range(20)])
    assert np.array_equal(one, fitted.margin(encoded)[:20])


def test_a_document_holds_the_card_and_old_documents_have_none():
    _, encoded, y, columns, card = world(500, 1.0)
    fitted = fit_linear(encoded, y, columns, penalty=10.0, card=card)
    document = json.loads(json.dumps(fitted.to_document()))
    assert LinearPart.from_document(document, columns) == fitted
    plain = fit_linear(encoded, y, columns, penalty=10.0)
    old = plain.to_document()
    assert "card" not in old
    assert LinearPart.from_document(json.loads(json.dumps(old)), columns) == plain


def test_a_path_over_penalties_ends_where_a_fit_from_scratch_does():
    _, encoded, y, columns, card = world(1_000, 0.5)
    strong = fit_linear(encoded, y, columns, penalty=1000.0, card=card)
    path = fit_linear(encoded, y, columns, penalty=10.0, card=card, start=strong)
    scratch = fit_linear(encoded, y, columns, penalty=10.0, card=card)
    assert np.allclose(path.margin(encoded), scratch.margin(encoded), atol=1e-5)
