import math
from dataclasses import replace
from pathlib import Path

import pytest

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.nurture.gate import REASONS, GateDecision, decide
from predictive_scoring.nurture.playbook import parse_playbook
from predictive_scoring.nurture.recommendation import net_value, recommend, why
from predictive_scoring.schema import NurtureContext, Touch
from predictive_scoring.timeline import DAY, parse_instant

PLAYBOOK = parse_playbook(
    """
name: test
version: "1"
defaults:
  value_per_conversion: 1000
  default_time_zone: Europe/Paris
  caps: {email: {max: 2, per: 7d}}
channels:
  email: {}
  web: {consent: false, quiet_hours: false}
actions:
  - {action_id: guide, label: Guide, channel: email, stages: [decision], cost: 1, cooldown: 30d,
     best_for: {feature: pricing_view_count_30d, at_least: 2}, effect: {outside: 0.1, inside: 0.5},
     say: answers the cost question early}
  - {action_id: b_news, label: News, channel: email, stages: [decision, dormant], cost: 1,
     effect: {outside: 0.2}, say: keeps in touch}
  - {action_id: a_news, label: News, channel: email, stages: [decision, dormant], cost: 1,
     effect: {outside: 0.2}, say: keeps in touch}
  - {action_id: banner, label: Banner, channel: web, stages: [decision, awareness], cost: 0.1, capacity: 5,
     eligible: {feature: industry, is_missing: false}, effect: {outside: 0.01}, say: points ahead}
  - {action_id: gift, label: Gift, channel: web, stages: [decision], cost: 400, effect: {outside: 0.2}, say: delights}
""",
    "test",
)
NOON = parse_instant("2026-05-05T10:00:00Z")
LEAD = NurtureContext(
    "L-1", NOON, "decision", -2.0, {"pricing_view_count_30d": 3, "industry": "Steel"}, {"email": True}
)


def ids(recommendation):
    return [action.action_id for action in recommendation.actions]


def test_ranks_by_worth_and_breaks_ties_by_id():
    found = recommend(LEAD, PLAYBOOK, most=5)
    assert ids(found) == ["guide", "a_news", "banner"]  # a third e-mail would break the cap
    assert found.refused == {"b_news": "not_among_best", "gift": "not_worth_its_cost"}
    assert found.reason is None
    assert all(action.evidence == "playbook" and action.expected_uplift is None for action in found.actions)


def test_worth_is_the_formula():
    guide = PLAYBOOK.actions[0]
    expected = 1000 * (1 / (1 + math.exp(1.5)) - 1 / (1 + math.exp(2.0))) - 1
    assert net_value(LEAD, guide, PLAYBOOK) == pytest.approx(expected, rel=1e-12)
    outside = replace(LEAD, features={})
    assert net_value(outside, guide, PLAYBOOK) < net_value(LEAD, guide, PLAYBOOK)


def test_most_limits_and_names_the_rest():
    found = recommend(LEAD, PLAYBOOK, most=1)
    assert ids(found) == ["guide"]
    assert found.refused["a_news"] == "not_among_best"
    assert set(found.refused.values()) <= set(REASONS)


def test_the_shown_actions_together_keep_the_cap():
    touched = replace(LEAD, touches=(Touch("t", "other", "email", NOON - DAY),))
    assert ids(recommend(touched, PLAYBOOK)) == ["guide", "banner"]


def test_waits_for_the_morning_of_the_lead():
    night = replace(LEAD, as_of=parse_instant("2026-05-05T21:00:00Z"))
    guide, _, banner = recommend(night, PLAYBOOK).actions
    assert guide.wait_until == "2026-05-06T06:00:00Z"
    assert banner.wait_until is None
    there = recommend(replace(night, time_zone="America/New_York"), PLAYBOOK).actions[0]
    assert there.wait_until is None


def test_capacity_counts_what_was_given():
    assert "banner" in ids(recommend(LEAD, PLAYBOOK, given={"banner": 4}))
    assert recommend(LEAD, PLAYBOOK, given={"banner": 5}).refused["banner"] == "capacity_reached"
    banner = PLAYBOOK.actions[3]
    assert decide(banner, LEAD, PLAYBOOK, given=5) == GateDecision(allowed=False, code="capacity_reached")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"do_not_contact": True}, "do_not_contact"),
        ({"stage": "consideration"}, "wrong_stage"),
        ({"stage": "dormant", "consents": {}}, "no_action_allowed"),
        ({"stage": "awareness", "logit": -9.0}, "nothing_worth_doing"),
    ],
)
def test_the_reason_for_nothing(change, reason):
    found = recommend(replace(LEAD, **change), PLAYBOOK)
    assert found.actions == ()
    assert found.reason == reason
    assert set(found.refused) == {action.action_id for action in PLAYBOOK.actions}


def test_an_objection_counts_where_no_consent_is_needed():
    found = recommend(replace(LEAD, consents={"web": False}), PLAYBOOK)
    assert found.refused["banner"] == "consent_withdrawn"
    assert found.refused["guide"] == "consent_missing"


@pytest.mark.parametrize("consent", [1, "yes", "True", None])
def test_only_true_is_a_consent(consent):
    assert (
        recommend(replace(LEAD, consents={"email": consent}), PLAYBOOK).refused["guide"] == "consent_missing"
    )


def test_says_why_in_one_short_sentence():
    guide = PLAYBOOK.actions[0]
    assert why(guide, LEAD) == (
        "Answers the cost question early; for a decision-stage lead (pricing views in the last 30 days: 3)."
    )
    labels = {"pricing_view_count_30d": "Pricing page views, last 30 days"}
    assert "(pricing page views in the last 30 days: 3)" in why(guide, LEAD, labels)
    assert (
        why(guide, replace(LEAD, features={}))
        == "Answers the cost question early; for a decision-stage lead."
    )
    wordy = why(guide, LEAD, {"pricing_view_count_30d": "word " * 30})
    assert wordy == "Answers the cost question early; for a decision-stage lead of the kind it suits best."


def test_refuses_impossible_questions():
    with pytest.raises(InvalidSetting, match="at least one"):
        recommend(LEAD, PLAYBOOK, most=0)
    with pytest.raises(InvalidSetting, match="L-1"):
        recommend(replace(LEAD, logit=math.nan), PLAYBOOK)


@pytest.mark.parametrize("logit", [-800.0, -40.0, 40.0, 800.0])
def test_extreme_scores_do_not_overflow(logit):
    assert recommend(replace(LEAD, logit=logit), PLAYBOOK).actions == ()


@pytest.mark.parametrize("stage", ["dormant", "awareness", "consideration", "decision"])
@pytest.mark.parametrize("probability", [0.005, 0.02, 0.15])
def test_the_sample_playbook_has_something_for_every_nurture_lead(stage, probability):
    path = Path(__file__).parents[3] / "data/projects/sample/playbook.yaml"
    sample = parse_playbook(path.read_text(encoding="utf-8"), str(path))
    logit = math.log(probability / (1 - probability))
    nobody = NurtureContext("L-2", NOON, stage, logit, {})
    assert ids(recommend(nobody, sample)) == ["onsite_banner"]
    agreed = replace(nobody, consents={"email": True})
    assert len(recommend(agreed, sample).actions) >= 2
    assert all(len(action.why.split()) <= 25 for action in recommend(agreed, sample).actions)
