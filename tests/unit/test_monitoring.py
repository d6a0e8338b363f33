"""A look at a model in use: which rows, which alarms, and a level that is mended without touching the order."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from predictive_scoring.data.population import newcomers, population_now
from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.performance import hanley_mcneil, standing
from predictive_scoring.monitoring import CODES, Matured, matured_rows, monitor
from predictive_scoring.monitoring.alarms import Promise, outcome_alarms
from predictive_scoring.monitoring.recalibrating import propose
from predictive_scoring.timeline import DAY, format_instant, parse_instant

RANDOM = np.random.default_rng(12)
PROMISE = Promise(level_error=0.05, auc=0.75, auc_error=0.01, conversions=2000.0)


def matured(n=4000, *, shift=0.0, seen=0, every=DAY, dated=True, horizon=30):
    """Rows one after the other whose log-odds are right but for a shift."""
    z = RANDOM.normal(-2.0, 1.0, n)
    label = (RANDOM.random(n) < expit(z + shift)).astype(np.int64)
    observations = pd.DataFrame(
        {
            "lead_id": [f"L-{i}" for i in range(n)],
            "cutoff": (np.arange(n) // 20) * every,
            "horizon": horizon * DAY,
            "label": label,
        }
    )
    return Matured(observations, pd.DataFrame({"x": z}), label, z, z, np.arange(n) < seen, dated)


def looked_at(rows, known_rate=0.15, name="newest"):
    return standing(name, rows.label, rows.probability, rows.leads, known_rate)


# Which rows ------------------------------------------------------------------------------------------------


def test_the_newest_are_rows_after_the_test_period_of_the_last_ninety_days():
    rows = matured(seen=2000)
    chosen = rows.newest
    cutoff = rows.observations["cutoff"].to_numpy()
    assert not chosen[:2000].any()
    assert cutoff[chosen].min() == cutoff.max() - 89 * DAY
    assert chosen[-1]


def test_where_too_little_is_known_after_the_test_period_its_rows_count_as_well():
    rows = matured(2000, seen=1990)
    assert rows.newest[:1990].any()


@pytest.mark.parametrize("horizon", [7, 30])
def test_what_judges_a_level_was_scored_after_every_outcome_that_taught_it(horizon):
    rows = matured(horizon=horizon)
    fitted, judged = rows.split()
    cutoff = rows.observations["cutoff"].to_numpy()
    assert cutoff[fitted].max() + horizon * DAY <= cutoff[judged].min()
    assert judged[-1]
    assert not (fitted & judged).any()


def test_rows_without_dates_are_split_by_their_order():
    rows = matured(1000, dated=False)
    fitted, judged = rows.split()
    assert np.flatnonzero(fitted).max() + 1 == np.flatnonzero(judged).min()
    assert fitted.sum() == judged.sum() == 200
    assert np.array_equal(np.flatnonzero(rows.newest), np.arange(750, 1000))


def test_too_few_outcomes_cannot_be_split():
    assert matured(100).split() is None
    assert matured(0).split() is None


def test_matured_rows_lie_after_what_the_model_knows_and_their_windows_have_passed(small_champion):
    scoring, tables = small_champion.scorer.scoring, small_champion.tables
    rows = matured_rows(scoring, tables)
    periods = scoring.metrics["periods"]
    assert (rows.observations["cutoff"] > parse_instant(periods["calibrate"]["last_cutoff"])).all()
    assert (rows.observations["cutoff"] + rows.observations["horizon"] <= tables.observed_until).all()
    assert rows.seen.all()
    assert np.allclose(rows.probability, scoring.model.probability(rows.frame))


def test_those_scored_now_are_open_newcomers_on_a_weekday_of_the_cutoffs(small_champion):
    tables = small_champion.tables
    now = population_now(tables, arrived=True)
    (cutoff,) = now["cutoff"].unique()
    assert (cutoff - tables.project.cutoffs.first) % (7 * DAY) == 0
    assert tables.observed_until - 7 * DAY < cutoff <= tables.observed_until
    assert newcomers(tables, now).all()
    everybody = population_now(tables, arrived=False)
    assert set(now["lead_id"]) < set(everybody["lead_id"])
    assert not newcomers(tables, everybody).all()


# Figures ------------------------------------------------------------------------------------------------


def test_errors_cover_what_chance_does_and_count_a_lead_once():
    values = [looked_at(matured(2000)) for _ in range(60)]
    for figure in ("auc", "versus_known"):
        one = [getattr(value, figure) for value in values]
        assert np.mean([each.error for each in one]) == pytest.approx(
            np.std([each.value for each in one]), rel=0.35
        )
    rows = matured(2000)
    single = looked_at(rows)
    repeated = standing(
        "x", np.repeat(rows.label, 3), np.repeat(rows.probability, 3), np.repeat(rows.leads, 3), 0.15
    )
    assert repeated.auc.error == pytest.approx(single.auc.error, rel=0.01)
    assert repeated.ratio.error == pytest.approx(single.ratio.error, rel=0.01)
    assert (repeated.rows, repeated.leads) == (6000, 2000)


def test_hanley_and_mcneil_agree_with_the_rows():
    one = looked_at(matured(4000))
    assert hanley_mcneil(one.auc.value, one.conversions, one.rows - one.conversions) == pytest.approx(
        one.auc.error, rel=0.2
    )


def test_figures_that_cannot_be_measured_are_null():
    nobody = standing("x", np.zeros(5), np.full(5, 0.1), np.arange(5), 0.1)
    assert not nobody.judgeable
    document = json.loads(json.dumps(nobody.to_document(), allow_nan=False))
    assert document["auc"]["value"] is None
    assert document["ratio"]["value"] == 0.0


# Alarms ------------------------------------------------------------------------------------------------


def codes(newest, segments=(), promise=PROMISE, *, fresh=True):
    return [alarm.code for alarm in outcome_alarms(newest, segments, promise, fresh=fresh)]


def test_a_model_that_holds_raises_no_alarm():
    assert codes(looked_at(matured())) == []


@pytest.mark.parametrize("shift", [-0.8, 0.8])
def test_a_moved_base_rate_is_told_as_calibration(shift):
    assert codes(looked_at(matured(shift=shift))) == ["MO105"]


def test_what_the_models_own_range_explains_is_no_alarm():
    rows = looked_at(matured(shift=0.5))
    assert codes(rows) == ["MO105"]
    assert codes(rows, promise=replace(PROMISE, level_error=0.5)) == []


def test_a_lost_ranking_is_told_only_beside_rows_after_the_test_period():
    rows = matured()
    noisy = replace(rows, logit=RANDOM.normal(-2.0, 0.1, len(rows.label)))
    assert "MO106" in codes(looked_at(noisy))
    assert "MO106" not in codes(looked_at(noisy), fresh=False)
    assert "MO106" not in codes(looked_at(noisy), promise=replace(PROMISE, auc=math.nan, auc_error=math.nan))


def test_probabilities_worse_than_the_known_rate_are_told():
    rows = matured()
    upside_down = replace(rows, logit=-4.0 - rows.logit)
    assert "MO107" in codes(looked_at(upside_down))


def test_a_segment_is_told_beside_the_whole_and_not_for_what_moved_everybody():
    here, there = matured(shift=0.9), matured(shift=-0.9)
    whole = standing(
        "all",
        np.concatenate([here.label, there.label]),
        np.concatenate([here.probability, there.probability]),
        np.arange(8000),
        0.15,
    )
    both = [("source", looked_at(here, name="ads")), ("source", looked_at(there, name="fair"))]
    assert codes(whole, both).count("MO108") == 2
    moved = matured(shift=0.9)
    assert "MO108" not in codes(looked_at(moved), [("source", looked_at(moved, name="ads"))])


def test_too_few_outcomes_raise_nothing():
    few = standing("few", [1.0] * 5 + [0.0] * 60, [0.01] * 65, np.arange(65), 0.01)
    assert codes(few) == []
    assert outcome_alarms(None, (), PROMISE, fresh=True) == ()


def test_every_code_is_described_with_what_to_do():
    page = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text("utf-8")
    for code, (title, _) in CODES.items():
        assert f"| `{code}` | {title} |" in page


# The whole look ------------------------------------------------------------------------------------------


def test_a_look_is_one_json_document_and_says_what_it_could_not_see(small_champion):
    found = monitor(small_champion.scorer.scoring, small_champion.tables, version="1")
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert document["model"] == {"name": small_champion.loaded.project.name, "version": "1"}
    assert document["observed_until"] == format_instant(small_champion.as_of)
    assert document["population"]["leads"] == found.rows > 50
    assert {alarm["code"] for alarm in document["alarms"]} <= set(CODES)
    assert document["notes"]
    assert sum(one["rows"] for one in document["periods"]) == len(
        matured_rows(small_champion.scorer.scoring, small_champion.tables).label
    )
    assert found.exit_code == (3 if found.alarms else 0)
    assert set(found.figures()) >= {"alarms", "largest_psi", "score_psi"}


def test_a_bundle_without_newcomers_is_compared_as_a_whole_and_says_so(small_champion):
    scoring = small_champion.scorer.scoring
    old = replace(scoring, reference=replace(scoring.reference, newcomers=None, score_shares=()))
    found = monitor(old, small_champion.tables)
    assert found.population == "all open leads"
    assert any("growing age" in note for note in found.notes)
    assert found.drifts
    assert found.score is not None


# Recalibration ------------------------------------------------------------------------------------------


def off_by(scoring: ScoringModel, shift: float) -> ScoringModel:
    """The model with a level that is wrong by a shift, as after a change of the base rate."""
    calibration = scoring.model.calibration
    wrong = replace(calibration, intercept=calibration.intercept - shift)
    # As though the model had been trained long ago: everything that is known by now is new to it.
    periods = {
        "train": {"examples": 0, "conversions": 500, "last_cutoff": "2025-03-01T00:00:00Z"},
        "test": {},
    }
    metrics = {**scoring.metrics, "periods": periods}
    return replace(scoring, model=replace(scoring.model, calibration=wrong), metrics=metrics)


def test_a_new_level_keeps_the_order_the_ready_leads_and_the_meaning_of_the_line(small_champion):
    scoring, tables = off_by(small_champion.scorer.scoring, 1.5), small_champion.tables
    mended = propose(scoring, tables, source="version 1")
    assert 0.7 < mended.shift < 2.2
    assert mended.verdict.validated, mended.verdict.reasons
    frame = mended.matured.frame
    before, after = scoring.model.logit(frame), mended.scoring.model.logit(frame)
    assert np.allclose(after - before, mended.shift)
    assert np.array_equal(
        expit(before) >= scoring.grading.ready_probability,
        expit(after) >= mended.scoring.grading.ready_probability - 1e-12,
    )
    for shares in (scoring.grading.score_shares, mended.scoring.grading.score_shares):
        assert sum(shares) == pytest.approx(1.0)
    points = 10 / math.log(2) * mended.shift
    middle = [
        np.average(np.arange(1, 100), weights=one.grading.score_shares) for one in (scoring, mended.scoring)
    ]
    assert middle[1] - middle[0] == pytest.approx(points, abs=0.2 * points)
    assert mended.scoring.metrics["recalibration"]["of"] == "version 1"
    again = ScoringModel.from_files(mended.scoring.to_files())
    assert np.allclose(again.model.logit(frame), after)


def test_a_line_drawn_by_value_stays(small_champion):
    scoring = off_by(small_champion.scorer.scoring, 1.0)
    project = scoring.project.model_copy(
        update={
            "readiness": scoring.project.readiness.model_copy(
                update={
                    "weekly_capacity": None,
                    "value_per_win": 9000.0,
                    "win_rate": 0.3,
                    "cost_per_lead": 90.0,
                }
            )
        }
    )
    by_value = replace(scoring, project=project)
    line = propose(by_value, small_champion.tables).scoring.grading.ready_probability
    assert line == by_value.grading.ready_probability


def test_too_few_outcomes_refuse_a_recalibration_by_name(small_champion):
    with pytest.raises(TrainingImpossible, match="too few"):
        propose(small_champion.scorer.scoring, small_champion.tables)
