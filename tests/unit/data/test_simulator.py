"""Laws of the simulator: the same world for the same seed, a truth that is true, and leaks only on request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data.simulator import (
    ACTIONS,
    CONVERSION,
    DO_NOTHING,
    EVENT_TYPES,
    LEAKS,
    STAGES,
    SimulationConfig,
    World,
    simulate,
)
from predictive_scoring.data.simulator.leads import Population
from predictive_scoring.data.simulator.localtime import DAY
from predictive_scoring.data.simulator.process import conversion_probability, move_probabilities
from predictive_scoring.data.simulator.touches import ACTION_IDS, EFFECT_DAYS, log_hazard_shift
from predictive_scoring.errors import InvalidSetting, NaiveTimestamp, UnknownLead

TABLES = ("leads", "events", "touches", "decisions", "attribute_changes")
HORIZON = pd.Timedelta(days=30)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SimulationConfig(seed=7))


@pytest.fixture(scope="module")
def leaky() -> World:
    return simulate(SimulationConfig(seed=7, leaks=LEAKS))


@pytest.fixture(scope="module")
def crowd() -> World:
    return simulate(SimulationConfig(seed=8, leads=30_000))


@pytest.fixture(scope="module")
def crowd_examples(crowd: World) -> pd.DataFrame:
    return examples(crowd)


def day(world: World, number: int) -> pd.Timestamp:
    return pd.Timestamp(world.config.start) + pd.Timedelta(days=number)


def examples(world: World, every: int = 30, horizon: pd.Timedelta = HORIZON) -> pd.DataFrame:
    """True probability, stage and outcome of every open lead at cutoffs `every` days apart."""
    converted = world.truth.leads["converted_at"]
    parts = []
    for number in range(30, world.config.days - horizon.days + 1, every):
        cutoff = day(world, number)
        p = world.truth.probability(world.leads["lead_id"], cutoff, horizon.days)
        open_ = ~np.isnan(p)
        y = (converted >= cutoff) & (converted < cutoff + horizon)
        stage = world.truth.stage(world.leads["lead_id"], cutoff)
        parts.append(
            pd.DataFrame({"p": p, "y": y, "stage": stage, "cutoff": cutoff, "row": np.arange(p.size)})[open_]
        )
    return pd.concat(parts, ignore_index=True)


def z_scores(rows: pd.DataFrame, by: str) -> pd.Series:
    """Standardised difference of realised and expected conversions per group."""
    groups = rows.assign(v=rows["p"] * (1 - rows["p"])).groupby(by, observed=True)[["p", "y", "v"]].sum()
    return (groups["y"] - groups["p"]) / np.sqrt(groups["v"])


# --------------------------------------------------------------------------------------------- determinism


def test_same_config_gives_identical_tables() -> None:
    config = SimulationConfig(seed=3, leads=300, days=120, leaks=LEAKS)
    first, second = simulate(config), simulate(config)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    pd.testing.assert_frame_equal(first.truth.leads, second.truth.leads)
    pd.testing.assert_frame_equal(first.truth.touch_effects, second.truth.touch_effects)


def test_another_seed_gives_another_world() -> None:
    first = simulate(SimulationConfig(seed=3, leads=300, days=120))
    second = simulate(SimulationConfig(seed=4, leads=300, days=120))
    assert not first.leads["created_at"].equals(second.leads["created_at"])
    assert len(first.events) != len(second.events)


@pytest.mark.parametrize("leads", [1, 2])
def test_tiny_worlds_are_complete(leads: int) -> None:
    tiny = simulate(SimulationConfig(seed=1, leads=leads, days=30, leaks=LEAKS))
    assert len(tiny.leads) == leads
    for name in TABLES:
        assert list(getattr(tiny, name).columns)


def test_progress_counts_days_up_to_the_last() -> None:
    calls: list[tuple[int, int]] = []
    simulate(SimulationConfig(leads=20, days=100), progress=lambda done, total: calls.append((done, total)))
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (100, 100)
    assert {total for _, total in calls} == {100}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", -1),
        ("leads", 0),
        ("days", 29),
        ("growth", -0.1),
        ("hazard_scale", 0.0),
        ("holdout_share", 1.0),
        ("touch_interval_days", 17),
        ("touch_strength", -1.0),
        ("leaks", ("late_value", "no_such_leak")),
        ("start", datetime(2025, 1, 1)),  # noqa: DTZ001 - the naive time is the case
        ("start", datetime(2025, 1, 1, 12, tzinfo=UTC)),
        ("start", datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_impossible_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=f"SimulationConfig.{setting}"):
        SimulationConfig(**{setting: value})  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- tables


def test_keys_are_unique_and_refer_to_leads(leaky: World) -> None:
    assert leaky.leads["lead_id"].is_unique
    assert leaky.events["event_id"].is_unique
    assert leaky.decisions["touch_id"].is_unique
    for name in TABLES[1:]:
        assert set(getattr(leaky, name)["lead_id"]) <= set(leaky.leads["lead_id"])


def test_times_are_utc_whole_seconds_inside_the_history(world: World) -> None:
    start, end = pd.Timestamp(world.config.start), pd.Timestamp(world.config.end)
    for table, column in (
        ("leads", "created_at"),
        ("events", "occurred_at"),
        ("decisions", "occurred_at"),
        ("attribute_changes", "occurred_at"),
    ):
        moments = getattr(world, table)[column]
        assert str(moments.dtype) == "datetime64[us, UTC]"
        assert (moments == moments.dt.floor("s")).all()
        assert moments.between(start, end, inclusive="left").all()


def test_nothing_is_known_before_it_happens_and_some_of_it_late(world: World) -> None:
    lag = world.events["known_at"] - world.events["occurred_at"]
    assert (lag >= pd.Timedelta(0)).all()
    late = (lag > pd.Timedelta(hours=1)).groupby(world.events["event_type"]).mean()
    assert late["webinar_attend"] > 0.4
    assert late["call"] > 0.2
    assert late["page_view"] < 0.03


def test_nothing_happens_to_a_lead_before_its_creation(world: World) -> None:
    created = world.leads.set_index("lead_id")["created_at"]
    for table in (world.events, world.decisions, world.attribute_changes):
        assert (table["occurred_at"] >= table["lead_id"].map(created)).all()


def test_events_are_sorted_and_of_every_declared_type(world: World) -> None:
    assert world.events["occurred_at"].is_monotonic_increasing
    assert set(world.events["event_type"]) == set(EVENT_TYPES)


def test_properties_belong_to_their_event_types(world: World) -> None:
    events = world.events
    timed = {"page_view", "pricing_view", "trial_session", "call", "webinar_attend"}
    assert set(events.loc[events["duration_seconds"].notna(), "event_type"]) == timed
    assert set(events.loc[events["topic"].notna(), "event_type"]) == {
        "page_view",
        "content_download",
        "webinar_attend",
    }


def test_conversion_event_is_the_truth_once_per_lead(world: World) -> None:
    conversions = world.events[world.events["event_type"] == CONVERSION].set_index("lead_id")["occurred_at"]
    expected = world.truth.leads.set_index("lead_id")["converted_at"].dropna()
    pd.testing.assert_series_equal(conversions.sort_index(), expected, check_names=False)


def test_trials_start_once_and_sessions_follow_them(world: World) -> None:
    events = world.events
    starts = events[events["event_type"] == "trial_start"].set_index("lead_id")["occurred_at"]
    assert starts.index.is_unique
    sessions = events[events["event_type"] == "trial_session"]
    assert (sessions["occurred_at"] > sessions["lead_id"].map(starts)).all()


def test_mail_and_calls_respect_consent(world: World) -> None:
    leads = world.leads.set_index("lead_id")
    for event_type, consent in (("email_delivered", "consent_email"), ("call", "consent_phone")):
        contacted = leads.loc[world.events.loc[world.events["event_type"] == event_type, "lead_id"].unique()]
        assert contacted[consent].all()
        assert not contacted["do_not_contact"].any()


def test_activity_follows_local_office_hours(world: World) -> None:
    views = world.events[world.events["event_type"] == "page_view"].merge(
        world.leads[["lead_id", "time_zone"]]
    )
    for zone in ("America/New_York", "Europe/Berlin", "Asia/Kolkata"):
        local = views.loc[views["time_zone"] == zone, "occurred_at"].dt.tz_convert(zone)
        assert local.dt.hour.between(8, 17).mean() > 0.75
        assert (local.dt.day_of_week >= 5).mean() < 0.16


def test_changes_replay_to_the_lead_table(world: World) -> None:
    latest = world.attribute_changes.groupby(["attribute", "lead_id"])["value"].last()
    leads = world.leads.set_index("lead_id")
    for attribute in ("title", "company_size"):
        today = leads[attribute].dropna().astype("str").sort_index()
        pd.testing.assert_series_equal(latest[attribute].sort_index(), today, check_names=False)


# ------------------------------------------------------------------------------------------- target hygiene


def test_after_a_conversion_only_page_views_remain(world: World) -> None:
    converted = world.truth.leads.set_index("lead_id")["converted_at"]
    after = world.events[world.events["occurred_at"] > world.events["lead_id"].map(converted)]
    assert set(after["event_type"]) == {"page_view"}
    touched_after = world.decisions["occurred_at"] > world.decisions["lead_id"].map(converted)
    assert not touched_after.any()


def test_missing_values_and_job_changes_do_not_tell_the_outcome(crowd: World) -> None:
    converted = crowd.truth.leads["converted_at"].notna()
    changed = crowd.attribute_changes["lead_id"].duplicated(keep=False)
    counts = crowd.attribute_changes.loc[changed, "lead_id"].value_counts()
    traits = {
        "title missing": crowd.leads["title"].isna(),
        "size missing": crowd.leads["company_size"].isna(),
        "changes": crowd.leads["lead_id"].map(counts).fillna(1) > 2,
        "opted out": crowd.leads["opted_out"],
    }
    # An enrichment needs time to arrive, as a conversion does: compare leads of equal age.
    old = crowd.leads["created_at"] < day(crowd, 120)
    for name, flag in traits.items():
        share = flag[old].mean()
        gap = flag[old & converted].mean() - flag[old & ~converted].mean()
        spread = np.sqrt(share * (1 - share) * (1 / (old & converted).sum() + 1 / (old & ~converted).sum()))
        assert abs(gap) < 4 * spread, name


def test_silence_means_fewer_conversions(crowd: World, crowd_examples: pd.DataFrame) -> None:
    cutoff = day(crowd, 390)
    own = crowd.events[~crowd.events["event_type"].isin(["email_delivered", "email_open"])]
    recent = own[own["occurred_at"].between(cutoff - pd.Timedelta(days=60), cutoff, inclusive="left")]
    rows = crowd_examples[crowd_examples["cutoff"] == cutoff]
    leads = crowd.leads.iloc[rows["row"]]
    old = (leads["created_at"] < cutoff - pd.Timedelta(days=60)).to_numpy()
    active = leads["lead_id"].isin(recent["lead_id"]).to_numpy()
    outcome = rows["y"].to_numpy()
    assert outcome[old & ~active].mean() < 0.5 * outcome[old & active].mean()


# --------------------------------------------------------------------------------------------------- truth


def test_rates_are_those_of_a_real_funnel(crowd: World, crowd_examples: pd.DataFrame) -> None:
    assert 0.20 <= crowd.truth.leads["converted_at"].notna().mean() <= 0.30
    rows = crowd_examples
    assert 0.035 <= rows["y"].mean() <= 0.06
    by_quarter = rows.groupby(rows["cutoff"].dt.tz_localize(None).dt.to_period("Q"))["y"].mean()
    assert by_quarter.between(0.03, 0.08).all()


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_true_probability_is_calibrated(crowd_examples: pd.DataFrame, strength: float) -> None:
    rows = crowd_examples.copy()
    if strength != 1.0:
        rows = examples(simulate(SimulationConfig(seed=9, leads=10_000, touch_strength=strength)))
    # Windows of 30 days every 30 days do not overlap, so outcomes are independent given the truth.
    rows["bin"] = pd.qcut(rows["p"], 10)
    assert abs(z_scores(rows.assign(all=0), "all").iloc[0]) < 4
    assert z_scores(rows, "bin").abs().max() < 4
    assert z_scores(rows, "stage").abs().max() < 4
    assert (z_scores(rows, "bin") ** 2).sum() < 30  # chi-squared with 10 degrees of freedom: 0.1 % above 29.6


def test_true_probability_separates_converters(crowd_examples: pd.DataFrame) -> None:
    rows = crowd_examples
    rank = rows["p"].rank()
    positives = rows["y"].sum()
    auc = (rank[rows["y"]].sum() - positives * (positives + 1) / 2) / (positives * (len(rows) - positives))
    assert 0.84 < auc < 0.93


def exact(world: World, row: int, first: int, horizon: int, action: str | None = None) -> float:
    """The same probability the slow way: a dictionary of (stage, shift, last active day) for one lead."""
    people: Population = world.truth._people
    plan, rates = world.truth._plan, world.truth._rates

    def shift_of(code: int, stage: int) -> float:
        values = (np.array([value]) for value in (row, code, stage))
        return float(log_hazard_shift(people, world.config.touch_strength, *values)[0])

    touches = {int(d): int(a) for d, a in zip(plan.day[row], plan.action[row], strict=True)}
    past, past_until = 0.0, -1
    for on in sorted(d for d in touches if d < first):
        past = shift_of(touches[on], int(world.truth._stage[on, row]))
        past_until = on + int(EFFECT_DAYS[touches[on]])
    if action is not None:
        touches = {first: ACTION_IDS.index(action)}
    mass = {(int(world.truth._stage[first, row]), 0.0, -1): 1.0}
    converted = 0.0
    for now in range(first, first + horizon):
        before = past if now <= past_until else 0.0
        following: dict[tuple[int, float, int], float] = {}
        for (stage, shift, until), p in mass.items():
            hazard = rates.hazard[row, stage]
            converts = float(
                conversion_probability(hazard, np.float64(before + (shift if now <= until else 0.0)))
            )
            converted += p * converts
            if now in touches:
                shift, until = shift_of(touches[now], stage), now + int(EFFECT_DAYS[touches[now]])  # noqa: PLW2901
            night = np.float64(before + (shift if now <= until else 0.0))
            up, down, lapse = (
                float(move)
                for move in move_probabilities(
                    rates.up[row, stage], rates.down[row, stage], rates.lapse[row, stage], night
                )
            )
            left = p * (1 - converts)
            for target, chance in (
                (stage + 1, up),
                (stage - 1, down),
                (0, lapse),
                (stage, 1 - up - down - lapse),
            ):
                if chance > 0:
                    key = (target, shift, until)
                    following[key] = following.get(key, 0.0) + left * chance
        mass = following
    return converted


@pytest.mark.parametrize("horizon", [1, 30, 75])
@pytest.mark.parametrize("action", [None, "sdr_call", DO_NOTHING])
def test_probability_equals_the_slow_recursion(world: World, horizon: int, action: str | None) -> None:
    cutoff = 260
    p = world.truth.probability(world.leads["lead_id"], day(world, cutoff), horizon, action)
    rows = np.flatnonzero(~np.isnan(p))[::97]
    assert len(rows) > 10
    np.testing.assert_allclose(
        p[rows], [exact(world, row, cutoff, horizon, action) for row in rows], atol=1e-12
    )


def test_probability_is_missing_before_creation_and_after_conversion(world: World) -> None:
    cutoff = day(world, 300)
    p = world.truth.probability(world.leads["lead_id"], cutoff)
    created, converted = world.leads["created_at"], world.truth.leads["converted_at"]
    expected = (created > cutoff) | (converted < cutoff)
    np.testing.assert_array_equal(np.isnan(p), expected)
    assert np.isnan(world.truth.probability(["L-00001"], pd.Timestamp("2020-01-01", tz="UTC"))).all()


def test_probability_grows_with_the_horizon(world: World) -> None:
    ids, cutoff = world.leads["lead_id"].iloc[:2000], day(world, 300)
    short, long = (world.truth.probability(ids, cutoff, horizon) for horizon in (10, 60))
    open_ = ~np.isnan(short)
    assert (short[open_] < long[open_]).all()


def test_an_instant_reads_as_its_midnight_in_any_time_zone(world: World) -> None:
    ids = list(world.leads["lead_id"].iloc[:500])
    midnight = day(world, 300)
    noon = (midnight + pd.Timedelta(hours=12)).tz_convert("America/New_York")
    np.testing.assert_array_equal(world.truth.probability(ids, midnight), world.truth.probability(ids, noon))
    several = pd.Series([midnight] * len(ids))
    np.testing.assert_array_equal(
        world.truth.probability(ids, midnight), world.truth.probability(ids, several)
    )


def test_truth_refuses_what_it_cannot_answer(world: World) -> None:
    truth, cutoff = world.truth, day(world, 300)
    with pytest.raises(UnknownLead, match="L-99999"):
        truth.probability(["L-99999"], cutoff)
    with pytest.raises(NaiveTimestamp):
        truth.probability(["L-00001"], cutoff.tz_localize(None))
    with pytest.raises(InvalidSetting, match="horizon_days"):
        truth.probability(["L-00001"], cutoff, 0)
    with pytest.raises(InvalidSetting, match="action"):
        truth.probability(["L-00001"], cutoff, action="send_flowers")
    with pytest.raises(InvalidSetting, match="history of 545 days"):
        truth.probability(["L-00001"], day(world, 546))
    with pytest.raises(InvalidSetting, match="cutoffs"):
        truth.probability(["L-00001", "L-00002", "L-00003"], [cutoff, cutoff])


# ------------------------------------------------------------------------------------------------- touches


def test_holdout_leads_are_never_touched(world: World) -> None:
    holdout = world.truth.leads.loc[world.truth.leads["holdout"], "lead_id"]
    assert 0.05 < len(holdout) / len(world.leads) < 0.09
    assert not world.touches["lead_id"].isin(holdout).any()
    decided = world.decisions[world.decisions["holdout"]]
    assert set(decided["lead_id"]) <= set(holdout)
    assert (decided["action_id"] == DO_NOTHING).all()
    assert (decided["propensity"] == 1.0).all()


def test_touches_are_the_decisions_that_did_something(world: World) -> None:
    acted = world.decisions[world.decisions["action_id"] != DO_NOTHING].reset_index(drop=True)
    pd.testing.assert_frame_equal(world.touches, acted)
    assert set(world.touches["action_id"]) == {action.action_id for action in ACTIONS} - {DO_NOTHING}
    assert list(world.truth.touch_effects["touch_id"]) == list(world.touches["touch_id"])


def test_touches_respect_consent(world: World) -> None:
    touches = world.touches.merge(world.leads, on="lead_id")
    assert touches.loc[touches["channel"] == "email", "consent_email"].all()
    assert touches.loc[touches["channel"] == "phone", "consent_phone"].all()
    assert not (touches["do_not_contact"] | touches["opted_out"]).any()


def test_effects_of_two_touches_never_overlap(world: World) -> None:
    effects = world.truth.touch_effects
    effects = effects.assign(day=world.touches["occurred_at"].dt.floor("D"))
    following = effects.groupby("lead_id")["day"].shift(-1)
    gap = (following - effects["day"]).dt.days
    assert (gap.isna() | (gap > effects["days"])).all()


def test_recorded_propensities_are_the_frequencies_of_the_actions(world: World) -> None:
    # Horvitz-Thompson: sum of 1 / propensity over the decisions that chose an action estimates the number of
    # decisions at which it could have been chosen.
    decisions = world.decisions[~world.decisions["holdout"]]
    leads = world.leads.set_index("lead_id").loc[decisions["lead_id"]]
    reachable = ~(leads["do_not_contact"] | leads["opted_out"])
    for action, possible in (("sdr_call", reachable & leads["consent_phone"]), ("retargeting_ad", reachable)):
        chosen = decisions[decisions["action_id"] == action]
        spread = np.sqrt((1 / chosen["propensity"] ** 2).sum())
        assert abs((1 / chosen["propensity"]).sum() - possible.sum()) < 4 * spread


def test_effects_have_the_declared_sign_and_duration(world: World) -> None:
    effects = world.truth.touch_effects
    mean = effects.groupby(["action_id", "stage"])["log_hazard_shift"].mean()
    assert mean["sdr_call", "awareness"] < -0.5
    assert mean["sdr_call", "decision"] > 0.7
    assert mean["educational_newsletter", "awareness"] > 0.3
    assert mean["pricing_guide_email", "decision"] > mean["pricing_guide_email", "awareness"] + 0.6
    assert effects.groupby("action_id")["log_hazard_shift"].std().min() > 0.1  # individual, not one number
    days = {action.action_id: action.days for action in ACTIONS}
    assert (effects["days"] == effects["action_id"].map(days)).all()


def test_calls_help_deciders_and_harm_the_merely_aware_in_the_realised_history(crowd: World) -> None:
    # Consent to calls makes both actions possible, so inverse propensities make the two arms comparable.
    leads = crowd.leads.set_index("lead_id")
    decisions = crowd.decisions[
        ~crowd.decisions["holdout"] & crowd.decisions["action_id"].isin(["sdr_call", DO_NOTHING])
    ]
    who = leads.loc[decisions["lead_id"]]
    possible = who["consent_phone"] & ~who["do_not_contact"] & ~who["opted_out"]
    decisions = decisions[possible.to_numpy()]
    morning_after = decisions["occurred_at"].dt.floor("D") + pd.Timedelta(days=1)
    inside = (morning_after + pd.Timedelta(days=14) <= pd.Timestamp(crowd.config.end)).to_numpy()
    decisions, morning_after = decisions[inside], morning_after[inside]
    converted = decisions["lead_id"].map(crowd.truth.leads.set_index("lead_id")["converted_at"])
    rows = pd.DataFrame(
        {
            "y": (converted < morning_after + pd.Timedelta(days=14)).to_numpy(),
            "weight": 1 / decisions["propensity"].to_numpy(),
            "call": (decisions["action_id"] == "sdr_call").to_numpy(),
            "stage": crowd.truth.stage(decisions["lead_id"], decisions["occurred_at"]),
        }
    )

    def difference(stage: str) -> float:
        arms = [rows[(rows["stage"] == stage) & (rows["call"] == call)] for call in (True, False)]
        mean = [np.average(arm["y"], weights=arm["weight"]) for arm in arms]
        spread = np.sqrt(sum(m * (1 - m) / len(arm) for m, arm in zip(mean, arms, strict=True)))
        return float((mean[0] - mean[1]) / spread)

    assert difference("decision") > 4
    assert difference("awareness") < -2


def test_true_uplift_has_the_sign_of_the_effect(world: World) -> None:
    ids, cutoff = world.leads["lead_id"], day(world, 300)
    stage = world.truth.stage(ids, cutoff)
    uplift = world.truth.probability(ids, cutoff, action="sdr_call") - world.truth.probability(
        ids, cutoff, action=DO_NOTHING
    )
    assert uplift[stage == STAGES[3]].mean() > 0.02
    assert uplift[stage == STAGES[1]].mean() < -0.002


def test_in_the_null_world_no_action_matters() -> None:
    null = simulate(SimulationConfig(seed=5, leads=500, days=200, touch_strength=0.0))
    assert (null.truth.touch_effects["log_hazard_shift"] == 0).all()
    ids, cutoff = null.leads["lead_id"], day(null, 150)
    np.testing.assert_array_equal(
        null.truth.probability(ids, cutoff, action="sdr_call"),
        null.truth.probability(ids, cutoff, action=DO_NOTHING),
    )


# --------------------------------------------------------------------------------------------------- leaks


def test_no_leak_unless_asked_for(world: World) -> None:
    assert "crm_stage_update" not in set(world.events["event_type"])
    assert set(world.attribute_changes["attribute"]) == {"title", "company_size"}
    planted = {"lead_quality", "budget", "last_notable_activity", "buying_role"}
    assert not planted & set(world.leads.columns)


def test_leaks_leave_the_honest_world_as_it_was(world: World, leaky: World) -> None:
    pd.testing.assert_frame_equal(leaky.leads[list(world.leads.columns)], world.leads)
    honest = leaky.events[leaky.events["event_type"] != "crm_stage_update"].reset_index(drop=True)
    pd.testing.assert_frame_equal(honest, world.events)
    pd.testing.assert_frame_equal(leaky.decisions, world.decisions)
    pd.testing.assert_frame_equal(leaky.truth.leads, world.truth.leads)


@pytest.mark.parametrize("name", LEAKS)
def test_each_leak_comes_alone_and_as_in_company(name: str, leaky: World) -> None:
    alone = simulate(SimulationConfig(seed=7, leaks=(name,)))
    shared = list(alone.leads.columns)
    pd.testing.assert_frame_equal(alone.leads, leaky.leads[shared])
    extra = len(shared) - 12
    assert extra == (0 if name == "late_value" else 1)
    assert ("crm_stage_update" in set(alone.events["event_type"])) == (name == "late_value")


def test_late_value_shows_the_outcome_only_to_readers_that_ignore_known_at(leaky: World) -> None:
    updates = leaky.events[leaky.events["event_type"] == "crm_stage_update"]
    converted = updates["lead_id"].map(leaky.truth.leads.set_index("lead_id")["converted_at"])
    of_converted = updates[converted.notna()]
    assert len(of_converted) / leaky.truth.leads["converted_at"].notna().sum() > 0.75
    assert (of_converted["occurred_at"] <= converted.dropna()).all()
    assert (of_converted["known_at"] > converted.dropna()).all()
    assert converted.notna().mean() > 0.9
    assert leaky.events["occurred_at"].is_monotonic_increasing


def test_near_pure_levels_are_pure_and_frequent(leaky: World) -> None:
    converted = leaky.truth.leads["converted_at"].notna()
    levels = converted.groupby(leaky.leads["lead_quality"]).agg(["mean", "size"])
    assert levels.loc["Not relevant", "mean"] == 0
    assert levels.loc["High", "mean"] >= 0.95
    assert (levels.loc[["Not relevant", "High"], "size"] >= 0.10 * len(converted)).all()


def test_fill_rate_differs_by_outcome_but_amounts_do_not(leaky: World) -> None:
    converted = leaky.truth.leads["converted_at"].notna()
    filled = leaky.leads["budget"].notna()
    assert filled[converted].mean() - filled[~converted].mean() > 0.5
    logs = np.log(leaky.leads["budget"].dropna())
    means = logs.groupby(converted).agg(["mean", "sem"])
    assert abs(means["mean"].diff().iloc[1]) < 4 * np.hypot(*means["sem"])


def test_suspicious_name_carries_the_outcome(leaky: World) -> None:
    converted = leaky.truth.leads["converted_at"].notna()
    rates = converted.groupby(leaky.leads["last_notable_activity"]).mean()
    assert rates["Meeting Booked"] > 3 * rates.drop("Meeting Booked").max()


def test_overwritten_field_differs_from_its_replay(leaky: World) -> None:
    converted = leaky.truth.leads.set_index("lead_id")["converted_at"]
    changes = leaky.attribute_changes[leaky.attribute_changes["attribute"] == "buying_role"]
    today = leaky.leads.set_index("lead_id")["buying_role"]
    replayed = changes.groupby("lead_id")["value"].first()
    differs = (today != replayed).groupby(converted.notna()).mean()
    assert differs[True] > 0.5
    assert differs[False] == 0
    assert (changes.groupby("lead_id")["value"].last() == today).all()
    overwritten = changes[changes["lead_id"].duplicated()]
    delay = (overwritten["occurred_at"] - overwritten["lead_id"].map(converted)).dt.total_seconds()
    assert delay.between(1, 2 * DAY).all()
