"""The leak screen's measures as laws, and the gate that it holds before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.data.audit import audit_project, screen_before_training
from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.data.leak_evidence import cohorts, drop_costs, lone_auc, outcome_gap
from predictive_scoring.data.leak_replay import differs, values_at
from predictive_scoring.data.leak_screen import lone_evidence, screening_rows
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.errors import GateRefused, LeakSuspected
from predictive_scoring.features.catalog import views_of
from predictive_scoring.keeping.card import model_card
from predictive_scoring.settings import parse_project
from predictive_scoring.training import fit_candidate

SNAPSHOT = """
name: gate
sources: {snapshot: {path: rows.parquet}}
observed_until: 2026-01-01T00:00:00Z
conversion: {column: won, positive: "1", horizon: 30d}
readiness: {share: 0.1}
"""
ATTRIBUTES = """
attributes:
  size: {type: number, label: Size}
  deal_note: {type: category, label: Note}
  "answer: given": {type: number, label: Answer}
"""
HONEST = (
    "attributes: {size: {type: number, label: Size}}\nleaks: {deal_note: written late, 'answer: given': same}"
)


def rows(n: int = 900, rate: float = 0.3) -> pd.DataFrame:
    """An honest number, a note that is written when the deal is won, and an answer that only winners give."""
    rng = np.random.default_rng(20261121)
    won = rng.random(n) < rate
    return pd.DataFrame(
        {
            "won": won.astype(int),
            "size": rng.normal(size=n) + 0.5 * won,
            "deal_note": np.where(won & (rng.random(n) < 0.9), "signed", "open"),
            "answer: given": np.where(won & (rng.random(n) < 0.6), rng.normal(size=n), np.nan),
        }
    )


def opened(
    folder: Path, more: str = ATTRIBUTES, frame: pd.DataFrame | None = None
) -> tuple[ProjectFile, Tables]:
    (rows() if frame is None else frame).to_parquet(folder / "rows.parquet")
    loaded = ProjectFile(parse_project(SNAPSHOT + more, "scoring.yaml"), folder / "scoring.yaml")
    return loaded, open_tables(loaded)


def gate(tables: Tables):
    return screen_before_training(tables, build_dataset(tables, views_of(tables.project)))


def refused(tables: Tables) -> LeakSuspected:
    with pytest.raises(LeakSuspected) as caught:
        gate(tables)
    return caught.value


def remedy_blocks(error: LeakSuspected) -> dict[str, object]:
    """The YAML of the remedy, by its key."""
    parts = [part for part in error.remedy.split("\n\n") if part.startswith(("leaks:", "waivers:"))]
    return {key: value for part in parts for key, value in yaml.safe_load(part).items()}


def test_training_stops_for_a_suspected_leak_and_names_both_ways_out(tmp_path: Path) -> None:
    error = refused(opened(tmp_path)[1])
    assert isinstance(error, GateRefused)
    assert error.exit_code == 3
    for told in ("PS130 'deal_note'", "PS131 'deal_note'", "PS133 'answer: given'", "AUC 0.9", "'deal'"):
        assert told in error.what
    assert "'size'" not in error.what
    blocks = remedy_blocks(error)
    assert set(blocks["leaks"]) == {"deal_note", "answer: given"}
    assert {(one["code"], one["feature"]) for one in blocks["waivers"]} >= {
        ("PS130", "deal_note"),
        ("PS131", "deal_note"),
        ("PS133", "answer: given"),
    }


def test_a_reason_must_be_written_before_the_pasted_waiver_counts(tmp_path: Path) -> None:
    pasted = yaml.safe_dump({"waivers": remedy_blocks(refused(opened(tmp_path)[1]))["waivers"]})
    with pytest.raises(Exception, match="10 characters"):
        parse_project(SNAPSHOT + ATTRIBUTES + pasted, "scoring.yaml")


def test_waived_findings_let_training_pass_and_stand_in_the_card(tmp_path: Path) -> None:
    waivers = remedy_blocks(refused(opened(tmp_path)[1]))["waivers"]
    reason = "read from the form on the first visit"
    answered = yaml.safe_dump({"waivers": [{**one, "reason": reason} for one in waivers]})
    loaded, tables = opened(tmp_path, ATTRIBUTES + answered + "leaks: {stage: written by sales}\n")
    report = audit_project(tables)
    assert report.exit_code == 0
    assert {leak.verdict for leak in report.leaks} == {"waived"}
    assert all(
        one.severity == "info" for one in report.findings if one.code in {leak.code for leak in report.leaks}
    )
    scoring = fit_candidate(loaded, tables).scoring
    card = model_card(scoring, "0" * 64)
    assert reason in card
    assert "PS130 `deal_note`" in card
    assert "`stage`: written by sales" in card
    assert scoring.metrics["leak_screen"]["set_aside"] == {"stage": "written by sales"}
    assert {leak["waiver"] for leak in scoring.metrics["leak_screen"]["waived"]} == {reason}


def test_one_waiver_answers_for_one_kind_of_evidence_only(tmp_path: Path) -> None:
    waiver = "waivers: [{code: PS131, feature: deal_note, reason: only the name is unlucky}]"
    report = audit_project(opened(tmp_path, ATTRIBUTES + waiver)[1])
    verdicts = {(leak.code, leak.feature): leak.verdict for leak in report.leaks}
    assert verdicts["PS131", "deal_note"] == "waived"
    assert verdicts["PS130", "deal_note"] == "refused"
    assert report.exit_code == 3
    assert not report.ready_to_train


def test_columns_set_aside_let_training_pass(tmp_path: Path) -> None:
    assert gate(opened(tmp_path, HONEST)[1]).findings == ()


def test_a_conversion_that_most_leads_reach_is_told(tmp_path: Path) -> None:
    usual, frequent = (
        audit_project(opened(tmp_path, frame=rows(rate=rate))[1]).findings for rate in (0.3, 0.7)
    )
    assert "PS105" not in {finding.code for finding in usual}
    assert "PS105" in {finding.code for finding in frequent}


def test_few_conversions_do_not_silence_the_screen_nor_stop_it(tmp_path: Path) -> None:
    frame = rows()
    frame["won"] = (np.arange(len(frame)) % 110 == 5).astype(int)
    assert frame["won"].sum() == 9
    with pytest.raises(LeakSuspected, match="deal_note"):
        gate(opened(tmp_path, frame=frame)[1])
    assert gate(opened(tmp_path, HONEST, frame)[1]).findings == ()


outcomes = st.lists(st.booleans(), min_size=60, max_size=300).filter(lambda y: 10 <= sum(y) <= len(y) - 10)


@settings(max_examples=40, deadline=None)
@given(outcomes, st.integers(0, 2**32 - 1))
def test_a_columns_auc_ignores_its_scale_and_its_sign(y: list[bool], seed: int) -> None:
    converted = np.array(y)
    rng = np.random.default_rng(seed)
    values = pd.Series(
        np.where(rng.random(len(y)) < 0.9, rng.integers(-20, 20, len(y)).astype(float), np.nan)
    )
    auc = lone_auc(values, "number", converted)
    assert 0.5 <= auc <= 1.0
    assert lone_auc(-3 * values + 7, "number", converted) == pytest.approx(auc)
    assert lone_auc(values, "number", ~converted) == pytest.approx(auc)


@settings(max_examples=40, deadline=None)
@given(outcomes)
def test_a_column_that_is_the_outcome_is_always_suspect(y: list[bool]) -> None:
    converted = np.array(y)
    assert lone_evidence(pd.Series(converted.astype(float)), "number", converted.astype(int))
    assert lone_evidence(pd.Series(np.where(converted, "won", "open")), "category", converted)
    # So is one that only winners have at all.
    assert lone_evidence(pd.Series(np.where(converted, 1.0, np.nan)), "number", converted)


@pytest.mark.parametrize("kind", ["number", "category"])
def test_noise_is_honest_whatever_its_number_of_levels(kind: str) -> None:
    rng = np.random.default_rng(5)
    converted = rng.random(1500) < 0.1
    for levels in (2, 10, 100, 1500):
        code = pd.Series(rng.integers(0, levels, 1500))
        values = code.astype(float) if kind == "number" else code.map("v{}".format)
        assert lone_evidence(values, kind, converted) == ()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_gap_that_age_explains_is_no_gap(seed: int) -> None:
    """Simpson's paradox: older leads are filled more often and convert more often; within an age nothing differs."""
    rng = np.random.default_rng(seed)
    old = rng.random(4000) < 0.5
    filled = rng.random(4000) < np.where(old, 0.9, 0.2)
    converted = rng.random(4000) < np.where(old, 0.5, 0.05)
    crude, crude_z = outcome_gap(filled, converted, np.zeros(4000, dtype=np.int64))
    gap, z = outcome_gap(filled, converted, old.astype(np.int64))
    assert crude > 0.2
    assert crude_z > 6
    assert abs(gap) < 0.1
    assert abs(z) < 6
    mirrored, mirrored_z = outcome_gap(~filled, converted, old.astype(np.int64))
    assert (mirrored, mirrored_z) == (pytest.approx(-gap), pytest.approx(-z))


def test_a_gap_without_both_outcomes_is_none() -> None:
    flags = np.array([True, False, True])
    assert outcome_gap(flags, np.zeros(3, dtype=bool), np.zeros(3, dtype=np.int64)) == (0.0, 0.0)


@given(st.lists(st.integers(-5, 5), max_size=60))
def test_cohorts_follow_the_order_and_keep_ties_together(values: list[int]) -> None:
    stratum = cohorts(values)
    for one, first in zip(values, stratum, strict=True):
        for other, second in zip(values, stratum, strict=True):
            assert (first <= second) or one > other
            assert (first == second) or one != other


def test_dropping_the_column_that_carries_the_model_costs_what_it_carried() -> None:
    rng = np.random.default_rng(9)
    converted = rng.random(3000) < 0.2
    frame = pd.DataFrame({"carries": rng.normal(size=3000) + 2 * converted, "noise": rng.normal(size=3000)})
    frame["twin"] = frame["carries"] + rng.normal(0, 0.01, 3000)
    kinds = dict.fromkeys(frame.columns, "number")
    whole, costs = drop_costs(frame[["carries", "noise"]], kinds, converted, ("carries", "noise"))
    assert whole == pytest.approx(0.92, abs=0.03)
    assert costs["carries"] > 0.35
    assert costs["noise"] < 0.01
    # A column that another one repeats costs nothing.
    assert drop_costs(frame, kinds, converted, ("carries",))[1]["carries"] < 0.01


def test_a_field_is_replayed_as_it_was_known_before_the_cutoff() -> None:
    changes = pd.DataFrame(
        [
            ("a", 10, 10, "1"),
            ("a", 20, 90, "2"),
            ("a", 50, 50, "3"),
            ("b", 60, 60, "4"),
            ("c", 5, 5, "7"),
            ("c", 6, 6, ""),
        ],
        columns=["lead_id", "occurred", "known", "value"],
    ).assign(event_id="e")
    seen = pd.DataFrame({"lead_id": ["c", "b", "a", "z"], "cutoff": [50, 50, 50, 50]})
    then = values_at(changes, seen)
    assert then.tolist() == ["", None, "1", None]
    today = pd.Series([None, 4.0, 1.0, 2.0])
    assert differs(then, today, "number").tolist() == [False, True, False, True]
    assert differs(then, pd.Series([None, "4", "1", None]), "category").tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_one_example_per_lead_and_a_positive_one_where_there_is_one() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "lead_id": rng.choice(["a", "b", "c", "d"], 200),
            "cutoff": np.arange(200),
            "label": (rng.random(200) < 0.05).astype(int),
            "period": np.where(np.arange(200) < 150, "train", "test"),
        }
    )
    chosen = screening_rows(frame)
    train = frame[frame["period"] == "train"]
    assert sorted(chosen["lead_id"]) == sorted(train["lead_id"].unique())
    assert dict(zip(chosen["lead_id"], chosen["label"], strict=True)) == dict(
        train.groupby("lead_id")["label"].max()
    )
    pd.testing.assert_frame_equal(chosen, frame.loc[chosen.index])
    # The draw does not depend on the order of the rows.
    again = screening_rows(frame.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(chosen, again)
