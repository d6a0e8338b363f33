"""However a log is read (one query, blocks, streams, carried from cutoff to cutoff), the numbers are the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from histories import CATALOG, PROBES
from predictive_scoring.data.engines import open_engine
from predictive_scoring.data.feature_frame import ReadingPlan, feature_frame, settle_rates
from predictive_scoring.features.definitions import EventFeature, FeatureView
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.timeline import DAY

FEATURES = tuple({feature.name: feature for feature in (*CATALOG, *PROBES)}.values())
TYPES = sorted({kind for one in FEATURES for kind in one.event_types} - {LEAD_CREATED})
START = 1_772_323_200
CUTOFFS = [START + days * DAY + 1 for days in (0, 1, 31, 61, 61 + 400)]


def world(seed: int, leads: int = 60) -> tuple[Any, pd.DataFrame]:
    """Tables with a random log over two years, many events known late, and observations at five cutoffs."""
    draw = np.random.default_rng(seed)
    number = leads * 120
    occurred = START + draw.integers(-300 * DAY, 480 * DAY, number)
    late = np.where(draw.random(number) < 0.3, draw.integers(-5, 60 * DAY, number), 0)
    names = [f"L{lead}" for lead in range(leads)]
    events = pd.DataFrame(
        {
            "lead_id": draw.choice([*names, "stranger"], number),
            "event_id": [f"E{event}" for event in draw.permutation(number)],
            "event_type": draw.choice(TYPES, number),
            "occurred": occurred,
            "known": occurred + late,
            "duration_seconds": draw.choice([np.nan, 1.0, 5.0, 60.0], number),
            "topic": draw.choice(["pricing", "Ω", "roi"], number),
            "amount": draw.choice([np.nan, 0.5, -2.0, 4.25], number),
            "age": draw.choice(["old", "young"], number),
            "pages": draw.choice([np.nan, 1.0, 2.0, 7.0], number),
            "brand": draw.choice(["acme", "Ω"], number),
            "capability": draw.choice(["export", "share"], number),
        }
    )
    created = pd.DataFrame({"lead_id": names, "event_type": LEAD_CREATED})
    created["occurred"] = created["known"] = START - draw.integers(0, 300 * DAY, leads)
    created["event_id"] = LEAD_CREATED + ":" + created["lead_id"]
    log = pd.concat([events, created], ignore_index=True)
    pairs = [(lead, cutoff) for lead in names for cutoff in CUTOFFS if draw.random() < 0.7]
    observations = pd.DataFrame(
        draw.permutation(np.array(pairs, dtype=object)), columns=["lead_id", "cutoff"]
    )
    observations["cutoff"] = observations["cutoff"].astype("int64")
    observations["observation_id"] = np.arange(len(observations))[::-1]
    return log, observations


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(ReadingPlan(block=50), id="in blocks", marks=pytest.mark.trial),
        pytest.param(ReadingPlan(block=100, in_streams=1), id="in streams", marks=pytest.mark.trial),
        pytest.param(ReadingPlan(carried=1), id="carried", marks=pytest.mark.trial),
        pytest.param(ReadingPlan(block=70, in_streams=1, carried=1), id="all of it"),
    ],
)
def test_a_log_read_in_pieces_gives_the_numbers_of_one_query(plan: ReadingPlan) -> None:
    seed = int(np.random.SeedSequence().entropy) % 2**32  # type: ignore[arg-type]
    log, observations = world(seed)
    with open_engine("duckdb") as engine, engine.temporary("events", log) as events:
        tables: Any = SimpleNamespace(engine=engine, events=events)
        whole = feature_frame(tables, observations, FEATURES)
        pieces = feature_frame(tables, observations, FEATURES, plan)
    assert whole.notna().any().all(), f"a feature without any value tests nothing (seed {seed})"
    for name in whole.columns:
        if whole[name].dtype == object:
            pd.testing.assert_series_equal(pieces[name], whole[name])
        else:
            # Decayed sums lose at most a unit of 2^-40 for each of the 200 events, or each cutoff carried over.
            np.testing.assert_allclose(
                pieces[name], whole[name], rtol=1e-12, atol=200 / 2**40, err_msg=f"{name}, seed {seed}"
            )


def test_an_overall_rate_is_learned_from_what_was_known_then() -> None:
    log = pd.DataFrame(
        {
            "lead_id": "L",
            "event_id": [f"E{number}" for number in range(7)],
            "event_type": ["sent", "sent", "sent", "sent", "click", "click", "click"],
            "occurred": [10, 20, 30, 100, 40, 50, 60],
            "known": [10, 20, 30, 100, 40, 50, 100],
        }
    )
    rate = EventFeature("rate", ("sent",), "r", "r", numerator=("click",), prior=None, strength=5.0)
    fixed = EventFeature(
        "rate", ("sent",), "r", "r", numerator=("click",), prior=0.1, strength=5.0, alias="x"
    )
    with open_engine("duckdb") as engine, engine.temporary("events", log) as events:
        tables: Any = SimpleNamespace(engine=engine, events=events)
        for until, expected in ((100, 2 / 3), (101, 3 / 4), (10, 0.0)):
            (view,) = settle_rates(tables, [FeatureView("v", (rate, fixed))], until)
            learned, left = view.features
            assert isinstance(learned, EventFeature)
            assert learned.prior == expected
            assert left == fixed
