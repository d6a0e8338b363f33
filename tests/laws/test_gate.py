"""Laws of the gate and the ranking, on random leads x clock x consent x history, against a plain second reading.

The second reading below shares no code with the product: it works on the YAML's plain data, local clock strings and
sums over touches, one line per rule, in the documented order.
"""

import math
import random
from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from predictive_scoring.nurture.gate import REASONS, decide, decide_all
from predictive_scoring.nurture.playbook import Playbook
from predictive_scoring.nurture.recommendation import net_value, recommend
from predictive_scoring.schema import NurtureContext, Touch
from predictive_scoring.timeline import DAY, format_instant

STAGES = ["dormant", "awareness", "consideration", "decision"]
ZONES = ["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Mars/Base", "", None]
LEADS = 10_000


def random_rules(rng):
    """A playbook as plain data, durations in whole days."""
    channels = {
        name: {"consent": rng.random() < 0.7, "quiet_hours": rng.random() < 0.6}
        for name in ("email", "phone", "web")
    }
    actions = []
    for number in range(rng.randint(1, 9)):
        outside = round(rng.uniform(-0.1, 0.2), 2)
        best = rng.random() < 0.6
        action = {
            "action_id": f"a{number}",
            "label": "x",
            "channel": rng.choice(list(channels)),
            "stages": rng.sample(STAGES, rng.randint(1, 4)),
            "cost": rng.choice([0, 0.5, 5, 100]),
            "effect": {
                "outside": outside,
                **({"inside": round(outside + rng.random() / 2, 2)} if best else {}),
            },
            "say": "helps",
        }
        if best:
            action["best_for"] = {"feature": "visits", "at_least": rng.randint(0, 3)}
        if rng.random() < 0.5:
            action["eligible"] = {"feature": "visits", "at_most": rng.randint(0, 3)}
        if rng.random() < 0.5:
            action["cooldown"] = f"{rng.randint(1, 10)}d"
        if rng.random() < 0.3:
            action["capacity"] = rng.randint(0, 3)
        actions.append(action)
    caps = {
        c: {"max": rng.randint(1, 3), "per": f"{rng.randint(1, 10)}d"} for c in channels if rng.random() < 0.7
    }
    return {
        "name": "random",
        "version": "1",
        "defaults": {
            "value_per_conversion": 1000,
            "quiet_hours": {"start": f"{rng.randint(0, 11):02d}:{rng.choice(['00', '30'])}", "end": "14:00"}
            if rng.random() < 0.3
            else {"start": "20:00", "end": "08:00"},
            "caps": caps,
            "default_time_zone": rng.choice(["UTC", "Asia/Tokyo"]),
        },
        "channels": channels,
        "actions": actions,
    }


def random_lead(rng, rules):
    # Any second of 2026, so that both changes of the clocks are met.
    as_of = 1_767_225_600 + rng.randrange(365 * DAY)
    touches = []
    for number in range(rng.choice([0, 0, 1, 3, 6])):
        action = rng.choice(rules["actions"])
        # Whole days, so that the very edges of windows occur; one in ten lies after the cutoff.
        age = rng.choice([rng.randint(0, 12) * DAY, rng.randrange(12 * DAY), -rng.randint(1, DAY)])
        touches.append(Touch(f"t{number}", action["action_id"], action["channel"], as_of - age))
    return NurtureContext(
        lead_id="L",
        as_of=as_of,
        stage=rng.choice(STAGES),
        logit=rng.uniform(-6, 2),
        features={} if rng.random() < 0.2 else {"visits": rng.choice([None, math.nan, 0, 1, 2, 3])},
        consents={c: rng.choice([True, True, False, None]) for c in rules["channels"] if rng.random() < 0.9},
        do_not_contact=rng.random() < 0.05,
        time_zone=rng.choice(ZONES),
        touches=tuple(sorted(touches, key=lambda touch: touch.occurred)),
    )


def days(text):
    return int(text[:-1]) * DAY


def refusal_by_brute_force(action, lead, rules, given):
    channel = action["channel"]
    if lead.do_not_contact:
        return "do_not_contact"
    if channel in lead.consents and lead.consents[channel] is False:
        return "consent_withdrawn"
    if rules["channels"][channel]["consent"] and lead.consents.get(channel) is None:
        return "consent_missing"
    cap = rules["defaults"]["caps"].get(channel)
    if cap:
        earliest = lead.as_of - days(cap["per"]) + 1
        same = [t for t in lead.touches if t.channel == channel and earliest <= t.occurred <= lead.as_of]
        if len(same) >= cap["max"]:
            return "cap_reached"
    if "cooldown" in action:
        earliest = lead.as_of - days(action["cooldown"]) + 1
        if any(
            t.action_id == action["action_id"] and earliest <= t.occurred <= lead.as_of for t in lead.touches
        ):
            return "cooldown"
    if lead.stage not in action["stages"]:
        return "wrong_stage"
    visits = lead.features.get("visits")
    known = visits is not None and not math.isnan(visits)
    if "eligible" in action and not (known and visits <= action["eligible"]["at_most"]):
        return "not_eligible"
    if "capacity" in action and given >= action["capacity"]:
        return "capacity_reached"
    return None


def local_clock(lead, rules, instant):
    name = (
        lead.time_zone
        if lead.time_zone not in ("Mars/Base", "", None)
        else rules["defaults"]["default_time_zone"]
    )
    return datetime.fromtimestamp(instant, UTC).astimezone(ZoneInfo(name)).strftime("%H:%M")


def is_quiet(lead, rules, instant):
    now, hours = local_clock(lead, rules, instant), rules["defaults"]["quiet_hours"]
    if hours["start"] < hours["end"]:
        return hours["start"] <= now < hours["end"]
    return now >= hours["start"] or now < hours["end"]


def test_gate_equals_brute_force_and_every_refusal_has_a_reason():
    seed = 20261101
    rng = random.Random(seed)
    seen = Counter()
    for number in range(LEADS):
        if number % 25 == 0:
            rules = random_rules(rng)
            playbook = Playbook.from_document(rules)
        lead = random_lead(rng, rules)
        given = {action["action_id"]: rng.randint(0, 3) for action in rules["actions"]}
        together = decide_all(lead, playbook, given)
        for plain, action in zip(rules["actions"], playbook.actions, strict=True):
            case = f"seed {seed}, lead {number}, action {action.action_id}"
            alone = decide(action, lead, playbook, given=given[action.action_id])
            assert alone == together[action.action_id], case
            code = refusal_by_brute_force(plain, lead, rules, given[action.action_id])
            assert alone.code == code, case
            assert alone.allowed == (code is None), case
            assert code is None or code in REASONS, case
            waits = rules["channels"][plain["channel"]]["quiet_hours"] and is_quiet(lead, rules, lead.as_of)
            if code is None and waits:
                assert alone.wait_until > lead.as_of, case
                assert not is_quiet(lead, rules, alone.wait_until), case
                assert is_quiet(lead, rules, alone.wait_until - 1), case
                assert alone.wait_until - lead.as_of <= 25 * 3600, case
            else:
                assert alone.wait_until is None, case
            seen[code, alone.wait_until is not None] += 1
    # The worlds reach every outcome.
    assert {code for code, _ in seen} == {
        None, "do_not_contact", "consent_withdrawn", "consent_missing", "cap_reached", "cooldown", "wrong_stage",
        "not_eligible", "capacity_reached",
    }  # fmt: skip
    assert min(seen.values()) >= 100, seen


@pytest.fixture(scope="module")
def worlds():
    rng = random.Random(7)
    cases = []
    for _ in range(120):
        rules = random_rules(rng)
        playbook = Playbook.from_document(rules)
        cases += [(rules, playbook, random_lead(rng, rules)) for _ in range(20)]
    return cases


def test_recommendations_obey_the_gate_and_doing_nothing(worlds):
    for rules, playbook, lead in worlds:
        found = recommend(lead, playbook, most=2)
        shown = [action.action_id for action in found.actions]
        by_id = {action.action_id: action for action in playbook.actions}
        plain = {action["action_id"]: action for action in rules["actions"]}
        # Each action is shown or refused, never both, never neither.
        assert set(shown) | set(found.refused) == set(by_id)
        assert not set(shown) & set(found.refused)
        assert len(shown) <= 2
        assert (found.reason is None) == bool(shown)
        assert set(found.refused.values()) <= set(REASONS)
        # Worth decides the order; what is worth nothing is not done.
        order = [(-net_value(lead, by_id[action_id], playbook), action_id) for action_id in shown]
        assert order == sorted(order)
        assert all(minus_net < 0 for minus_net, _ in order)
        for action_id, action in by_id.items():
            refused = refusal_by_brute_force(plain[action_id], lead, rules, 0)
            net = net_value(lead, action, playbook)
            if action_id in shown:
                assert refused is None
            elif refused is not None:
                assert found.refused[action_id] == refused
            else:
                assert found.refused[action_id] == ("not_worth_its_cost" if net <= 0 else "not_among_best")
        # All that is shown, done at once, still keeps the caps.
        for channel, cap in rules["defaults"]["caps"].items():
            recent = [
                t
                for t in lead.touches
                if t.channel == channel and 0 <= lead.as_of - t.occurred < days(cap["per"])
            ]
            assert sum(a.channel == channel for a in found.actions) <= max(0, cap["max"] - len(recent))
        for action in found.actions:
            assert action.wait_until is None or action.wait_until > format_instant(lead.as_of)
            assert len(action.why.split()) <= 25


def test_order_of_actions_in_the_file_and_worthless_additions_do_not_matter(worlds):
    for rules, playbook, lead in worlds[::10]:
        found = recommend(lead, playbook)
        turned = Playbook.from_document({**rules, "actions": rules["actions"][::-1]})
        assert recommend(lead, turned).actions == found.actions
        useless = {
            "action_id": "useless", "label": "x", "channel": "web", "stages": STAGES, "cost": 0,
            "effect": {"outside": 0}, "say": "does nothing",
        }  # fmt: skip
        more = Playbook.from_document({**rules, "actions": [useless, *rules["actions"]]})
        assert recommend(lead, more).actions == found.actions


def test_no_value_outweighs_a_gate(worlds):
    for rules, playbook, lead in worlds[::5]:
        dear = {**rules, "defaults": {**rules["defaults"], "value_per_conversion": 1e12}}
        rich = Playbook.from_document(dear)
        assert {k: v.code for k, v in decide_all(lead, rich).items()} == {
            k: v.code for k, v in decide_all(lead, playbook).items()
        }


def test_a_larger_effect_never_lowers_the_rank(worlds):
    for rules, playbook, lead in worlds[::10]:
        before = [action.action_id for action in recommend(lead, playbook, most=99).actions]
        if not before:
            continue
        last = before[-1]
        actions = [
            {**a, "effect": {key: min(2, value + 0.1) for key, value in a["effect"].items()}}
            if a["action_id"] == last
            else a
            for a in rules["actions"]
        ]
        after = [
            a.action_id
            for a in recommend(lead, Playbook.from_document({**rules, "actions": actions}), most=99).actions
        ]
        assert after.index(last) <= before.index(last)


def test_touches_after_the_instant_are_not_read(worlds):
    for _, playbook, lead in worlds[::5]:
        past = tuple(touch for touch in lead.touches if touch.occurred <= lead.as_of)
        without = NurtureContext(**{name: getattr(lead, name) for name in lead.__slots__} | {"touches": past})
        assert decide_all(lead, playbook) == decide_all(without, playbook)
