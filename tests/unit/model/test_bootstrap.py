import numpy as np
from scipy.special import expit

from predictive_scoring.model.bootstrap import lead_numbers, ridge_draws
from predictive_scoring.model.columns import Column
from predictive_scoring.model.linear import LinearPart, fit_linear

COLUMNS = tuple(Column(f"x{i}", "number") for i in range(3))


def world(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    return x, (random.random(n) < expit(-1.5 + x @ [0.8, 0.4, 0.0])).astype(float)


def draws(
    x: np.ndarray, y: np.ndarray, leads: np.ndarray, *, seed: int = 1, penalty: float = 1.0
) -> tuple[LinearPart, np.ndarray]:
    fitted = fit_linear(x, y, COLUMNS, penalty=penalty)
    return fitted, ridge_draws(
        fitted, x, y, np.ones(len(y)), leads, np.arange(len(y)), seed=seed, replicates=200
    )


def test_the_spread_is_that_of_fits_on_fresh_leads():
    x, y = world(2_000, 0)
    fitted, found = draws(x, y, np.arange(2_000))
    margin = fitted.margin(x)
    centred = margin - margin.mean()
    fresh = []
    for seed in range(1, 81):
        other = fit_linear(*world(2_000, seed), COLUMNS, penalty=1.0).margin(x)
        fresh.append((centred @ other / (centred @ centred), other.mean()))
    assert np.allclose(found.mean(axis=0), [1.0, 0.0], atol=1e-9)
    ratio = found.std(axis=0) / np.std(fresh, axis=0)
    assert ((ratio > 0.75) & (ratio < 1.35)).all()


def test_cutoffs_of_one_lead_are_drawn_together():
    x, y = world(400, 0)
    once = draws(x, y, np.arange(400))[1].std(axis=0)
    many = draws(np.tile(x, (9, 1)), np.tile(y, 9), np.tile(np.arange(400), 9), penalty=9.0)[1].std(axis=0)
    apart = draws(np.tile(x, (9, 1)), np.tile(y, 9), np.arange(3_600), penalty=9.0)[1].std(axis=0)
    assert (many > 0.8 * once).all()
    assert (apart < 0.5 * once).all()


def test_a_penalty_that_hides_the_noise_keeps_the_doubt():
    # With an endless penalty every replicate would be the same flat model: the drawn prior is what is left.
    x, y = world(300, 0)
    weak, strong = (draws(x, y, np.arange(300), penalty=penalty)[1][:, 0].std() for penalty in (1.0, 300.0))
    assert strong > 0.5 * weak


def test_the_seed_decides():
    x, y = world(200, 0)
    assert np.array_equal(draws(x, y, np.arange(200))[1], draws(x, y, np.arange(200))[1])
    assert not np.array_equal(draws(x, y, np.arange(200))[1], draws(x, y, np.arange(200), seed=2)[1])


def test_leads_are_numbered():
    assert lead_numbers(None, 3).tolist() == [0, 1, 2]
    assert lead_numbers(["b", "a", "b"], 3).tolist() == [1, 0, 1]
