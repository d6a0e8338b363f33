"""Labels of a short history: censoring weights are right where the two usual short cuts are badly wrong.

A log of 160 days, a horizon of 90: most examples have not been followed for a whole horizon. The world is simulated
with its truth, the chance to convert within the horizon; a logistic regression on what `build_dataset` makes of the
tables must find its mean.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from predictive_scoring.data.dataset import Dataset, build_dataset
from predictive_scoring.data.engines import Duckdb, connect_duckdb
from predictive_scoring.data.sources import Tables
from predictive_scoring.features.catalog import views_of
from predictive_scoring.settings import Project
from predictive_scoring.timeline import DAY

HISTORY, HORIZON = 160, 90
START = 1_767_225_600  # 2026-01-01
MOST = 0.04
"""Relative bias of the mean probability that is allowed."""


@dataclass(frozen=True)
class World:
    """Leads that arrive evenly over the history; `when` (days from creation to conversion) depends on `x`."""

    created: np.ndarray
    x: np.ndarray
    when: np.ndarray
    truth: np.ndarray

    @classmethod
    def draw(cls, seed: int, leads: int) -> World:
        """Weibull waiting times (shape 0.8: most conversions come early), a quarter of the leads within the horizon."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=leads)
        scale = 330.0 * np.exp(-0.7 * x)
        when = scale * rng.weibull(0.8, leads)
        created = START + rng.integers(0, HISTORY * DAY, leads)
        return cls(created, x, when, 1.0 - np.exp(-((HORIZON / scale) ** 0.8)))


def project(censoring: str, cutoffs: dict[str, object]) -> Project:
    return Project.model_validate(
        {
            "name": "young",
            "sources": {"leads": {"path": "l.csv"}, "events": {"path": "e.csv"}},
            "attributes": {"x": {"type": "number", "label": "X", "immutable": True}},
            "events": {"won": {"label": "Won"}},
            "conversion": {"event": "won", "horizon": HORIZON * DAY, "censoring": censoring},
            "cutoffs": cutoffs,
            "feature_views": ["tenure"],
            "readiness": {"share": 0.1},
        }
    )


def dataset(world: World, given: Project) -> Dataset:
    ids = np.array([f"L{number}" for number in range(len(world.x))])
    until = START + HISTORY * DAY
    moment = world.created + np.minimum(world.when * DAY, 1e9).astype(np.int64)
    seen = moment < until
    leads = pd.DataFrame({"lead_id": ids, "created": world.created, "x": world.x})
    log = pd.DataFrame(
        {
            "lead_id": np.concatenate([ids[seen], ids]),
            "event_type": ["won"] * int(seen.sum()) + ["lead_created"] * len(ids),
            "occurred": np.concatenate([moment[seen], world.created]),
        }
    )
    log = log.assign(event_id=np.arange(len(log)).astype(str), known=log["occurred"])
    connection = connect_duckdb()
    nothing = pd.DataFrame({name: [] for name in ("touch_id", "lead_id", "action_id", "channel", "occurred")})
    engine = Duckdb(connection)
    tables = Tables(
        given, engine, leads, connection.create_table("events", ibis.memtable(log)), nothing, until
    )
    return build_dataset(tables, views_of(given))


def bias(x: np.ndarray, y: np.ndarray, weight: np.ndarray, world: World) -> float:
    """Relative error of the mean probability over the whole world, of a logistic regression on (x, y, weight)."""
    model = LogisticRegression(C=1e6).fit(x[:, None], y, sample_weight=weight)
    return float(model.predict_proba(world.x[:, None])[:, 1].mean() / world.truth.mean() - 1.0)


def check_at_creation(seed: int, leads: int) -> None:
    world = World.draw(seed, leads)
    made = dataset(world, project("weights", {"at": "created_at"}))
    rows, x = made.observations, made.frame["x"].to_numpy()
    weighted = bias(x, rows["label"].to_numpy(), rows["weight"].to_numpy(), world)
    # The short cuts, on the same rows: nobody is censored, or the censored are dropped and their successes kept.
    age = (START + HISTORY * DAY - world.created) / DAY
    converted = world.when < np.minimum(age, HORIZON)
    not_yet_is_never = bias(world.x, converted.astype(int), np.ones(leads), world)
    known = converted | (age >= HORIZON)
    any_positive = bias(world.x[known], converted[known].astype(int), np.ones(int(known.sum())), world)
    told = f"seed {seed}: weights {weighted:+.1%}, not yet = 0 {not_yet_is_never:+.1%}, {any_positive:+.1%}"
    print(told)  # noqa: T201 - a failure must be repeatable
    assert abs(weighted) <= MOST, told
    assert not_yet_is_never < -0.10, told
    assert any_positive > 0.15, told
    assert len(rows) == int(known.sum()), told


def check_grid(seed: int, leads: int) -> None:
    """On a grid a lead is old only where it was observed late: bands of age keep that apart."""
    world = World.draw(seed, leads)
    made = dataset(world, project("auto", {"first": START, "every": 14 * DAY}))
    rows = made.observations
    tenure = made.frame["days_since_lead_created"].fillna(0.0).to_numpy()
    scale = 330.0 * np.exp(-0.7 * made.frame["x"].to_numpy())
    survived, later = (np.exp(-((days / scale) ** 0.8)) for days in (tenure, tenure + HORIZON))
    truth, weight = 1.0 - later / survived, rows["weight"].to_numpy()
    young = tenure <= np.quantile(tenure, 0.3)
    for chosen in (np.full(len(rows), True), young, ~young):
        share = np.average(rows["label"].to_numpy()[chosen], weights=weight[chosen])
        expected = np.average(truth[chosen], weights=weight[chosen])
        told = f"seed {seed}: {share:.4f} converted, {expected:.4f} expected, {share / expected - 1:+.1%}"
        assert abs(share / expected - 1.0) <= 2 * MOST, told


def test_weights_find_the_mean_that_both_short_cuts_miss() -> None:
    check_at_creation(20261122, 40_000)


def test_on_a_grid_young_and_old_leads_keep_their_own_rate() -> None:
    check_grid(20261122, 6_000)


@pytest.mark.trial
@pytest.mark.slow
def test_the_same_on_fresh_seeds() -> None:
    for _ in range(5):
        seed = secrets.randbits(32)
        print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
        check_at_creation(seed, 120_000)
        check_grid(seed, 20_000)
