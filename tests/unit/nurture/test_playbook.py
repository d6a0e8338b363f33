import json
from pathlib import Path

import pytest
import yaml

from predictive_scoring.errors import InvalidDocument
from predictive_scoring.nurture.playbook import (
    Playbook,
    check_names,
    parse_playbook,
)

SAMPLE = Path(__file__).parents[3] / "data/projects/sample/playbook.yaml"

SMALL = """\
name: small
version: 3
defaults:
  value_per_conversion: 1000
  quiet_hours: {start: "21:30", end: "07:00"}
  caps:
    email: {max: 2, per: 1w}
channels:
  email: {}
actions:
  - action_id: guide
    label: Send the guide
    channel: email
    stages: [awareness]
    best_for: {feature: page_view_count_30d, at_least: 2}
    cooldown: 2w
    cost: 0.5
    effect: {outside: 0.05, inside: 0.2}
    say: explains the basics.
"""


def refusal(text: str) -> InvalidDocument:
    with pytest.raises(InvalidDocument) as caught:
        parse_playbook(text, "playbook.yaml")
    return caught.value


def test_reads_units_and_protects_by_default():
    playbook = parse_playbook(SMALL, "playbook.yaml")
    assert playbook.version == "3"
    assert playbook.defaults.caps["email"].per == 7 * 86_400
    assert playbook.actions[0].cooldown == 14 * 86_400
    assert playbook.defaults.quiet_hours.start == 21 * 60 + 30
    assert playbook.channels["email"].consent
    assert playbook.channels["email"].quiet_hours
    assert playbook.actions[0].say == "explains the basics"


@pytest.mark.parametrize(
    ("old", "new", "said", "line"),
    [
        ("stages: [awareness]", "stages: [awarness]", "stages", 14),
        ("stages: [awareness]", "stages: [awareness, awareness]", "twice", 14),
        ("channel: email", "channel: emial", "did you mean email", 13),
        ("    email: {max: 2", "    mail: {max: 2", "unknown channel 'mail'", 7),
        ("cooldown: 2w", "cooldown: 14", "with its unit", 16),
        ("cooldown: 2w", "cooldown: 2 weeks", "not a duration", 16),
        ('start: "21:30"', "start: 21:30", "in quotes", 5),
        ('end: "07:00"', 'end: "21:30"', "same time", 5),
        ("inside: 0.2", "inside: 0.01", "below outside", 18),
        ("effect: {outside: 0.05, inside: 0.2}", "effect: {outside: 0.05}", "best_for needs", 18),
        ("    best_for: {feature: page_view_count_30d, at_least: 2}\n", "", "needs a best_for", 17),
        ("outside: 0.05", "outside: 5", "less than or equal to 2", 18),
        ("say: explains the basics.", "say: " + "very " * 13, "at most 12", 19),
        ("cost: 0.5", "cost: -1", "greater than or equal to 0", 17),
        ("cost: 0.5", "costs: 0.5", "cost", 11),
        ("at_least: 2", "at_leest: 2", "at_leest", 15),
        ("at_least: 2", "is_missing: true, at_most: 2", "stands alone", 15),
        (", at_least: 2", "", "needs a test", 15),
        ("{feature: page_view_count_30d, at_least: 2}", "{any: []}", "at least 1 item", 15),
        ("{feature: page_view_count_30d, at_least: 2}", "{any: [{at_least: 2}]}", "exactly one of", 15),
        ("at_least: 2", "at_least: 3, at_most: 2", "never true", 15),
        ("at_least: 2", "is_in: [SE, NO]", "put quotes", 15),
        ("value_per_conversion: 1000", "value_per_conversion: .nan", "value_per_conversion", 4),
        ("  quiet_hours:", "  default_time_zone: Europe/Pariss\n  quiet_hours:", "unknown time zone", 5),
        ("  - action_id: guide", "  - action_id: Guide 1", "action_id", 11),
    ],
)
def test_says_what_is_wrong_and_on_which_line(old, new, said, line):
    assert SMALL.count(old) == 1
    refused = refusal(SMALL.replace(old, new))
    assert said in refused.what + refused.remedy
    assert refused.where == f"playbook.yaml, line {line}"


def test_action_ids_are_unique():
    action = SMALL[SMALL.index("  - action_id") :]
    refused = refusal(SMALL + action)
    assert "'guide' stands twice" in refused.what
    assert refused.where == "playbook.yaml, line 20"


def test_unknown_key_in_a_rule_lists_the_known_ones():
    refused = refusal(SMALL.replace("at_least: 2", "at_least: 2, more_than: 1"))
    assert "more_than" in refused.what
    assert "at_least" in refused.remedy
    assert "is_missing" in refused.remedy


@pytest.mark.parametrize("text", [SMALL, SAMPLE.read_text(encoding="utf-8")], ids=["small", "sample"])
def test_travels_as_json_and_keeps_its_hash(text):
    playbook = parse_playbook(text, "playbook.yaml")
    document = json.loads(json.dumps(playbook.to_document(), allow_nan=False))
    back = Playbook.from_document(document)
    assert back == playbook
    assert back.content_hash == playbook.content_hash
    assert back.to_document() == document
    assert parse_playbook(yaml.safe_dump(document), "again") == playbook


def test_hash_sees_meaning_not_spelling():
    playbook = parse_playbook(SMALL, "playbook.yaml")
    assert parse_playbook("# note\n" + SMALL.replace("2w", "14d"), "x").content_hash == playbook.content_hash
    assert parse_playbook(SMALL.replace("2w", "15d"), "x").content_hash != playbook.content_hash


def test_a_changed_copy_is_checked_and_forgets_derived_values():
    playbook = parse_playbook(SMALL, "playbook.yaml")
    action = playbook.actions[0]
    assert action.is_best({"page_view_count_30d": 3})
    assert playbook.content_hash
    changed = action.model_copy(update={"best_for": {"feature": "call_count_30d", "at_least": 1}})
    assert not changed.is_best({"page_view_count_30d": 3})
    assert playbook.model_copy(update={"version": "4"}).content_hash != playbook.content_hash
    with pytest.raises(ValueError, match="cost"):
        action.model_copy(update={"cost": -1})


def test_stored_document_that_was_damaged_is_named():
    document = parse_playbook(SMALL, "playbook.yaml").to_document()
    document["actions"][0]["cost"] = "much"
    with pytest.raises(InvalidDocument) as caught:
        Playbook.from_document(document, name="bundle/playbook.json")
    assert caught.value.where == "bundle/playbook.json, actions.0.cost"


def test_small_numbers_survive_storage():
    playbook = parse_playbook(SMALL.replace("at_least: 2", "equals: 0.00001"), "x")
    assert Playbook.from_document(playbook.to_document()).actions[0].best_for.equals == 1e-05


def test_unknown_features_are_refused_with_the_action_and_close_names():
    playbook = parse_playbook(SMALL, "playbook.yaml")
    check_names(playbook, ["page_view_count_30d", "industry"])
    with pytest.raises(InvalidDocument) as caught:
        check_names(playbook, ["page_view_count_90d", "industry"])
    assert "'guide'" in caught.value.where
    assert "best_for" in caught.value.where
    assert "page_view_count_90d" in caught.value.remedy
    with pytest.raises(InvalidDocument, match="Use the name"):
        check_names(playbook, ["zzz"])


def test_sample_names_only_features_of_the_shipped_catalog():
    sample = parse_playbook(SAMPLE.read_text(encoding="utf-8"), str(SAMPLE))
    counted = [
        f"{event}_count_{window}"
        for event in (
            "page_view", "pricing_view", "email_open", "email_click", "demo_request", "webinar_attend",
            "content_download", "trial_session", "social",
        )
        for window in ("7d", "30d", "90d")
    ]  # fmt: skip
    check_names(sample, [*counted, "days_since_page_view", "title", "industry", "company_size"])
    assert len(sample.actions) >= 12
    free = [a for a in sample.actions if not sample.channels[a.channel].consent and a.eligible is None]
    assert {stage for action in free for stage in action.stages} == {
        "dormant", "awareness", "consideration", "decision",
    }  # fmt: skip
