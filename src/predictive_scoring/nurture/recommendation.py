"""The next best actions for a lead: what the gate allows, ranked by what it is worth.

    net_k = V (sigmoid(l_k) - sigmoid(l_0)) - cost_k,      l_k = l_0 + effect_k

l_0 = the lead's calibrated log-odds, effect_k = the playbook's belief (inside or outside `best_for`), V = value per
conversion (METHODS.md section 4, the effect model without data: it is the playbook). Doing nothing is always a
candidate, at 0: what is not worth more is not recommended. Equal worth is ordered by action id.

The words here never promise an effect: evidence is `playbook` ("not yet tested on your leads") and
`expected_uplift` is null until an effect has been measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from predictive_scoring import timeline
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.nurture.conditions import facts
from predictive_scoring.nurture.gate import decide_all
from predictive_scoring.nurture.playbook import Playbook, PlaybookAction
from predictive_scoring.schema import Action, NurtureContext, Recommendation, Stage

WHY_WORDS = 25
"""Longest sentence of a recommendation, in words."""

_STAGE_WORDS: Mapping[Stage, str] = {
    "dormant": "a dormant lead",
    "awareness": "an awareness-stage lead",
    "consideration": "a consideration-stage lead",
    "decision": "a decision-stage lead",
}


def recommend(
    context: NurtureContext,
    playbook: Playbook,
    *,
    most: int = 3,
    given: Mapping[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Recommendation:
    """At most `most` actions for one lead, the most valuable first, and a reason code for every other action.

    All of them together keep every cap: a channel is named at most as often as its cap still has room.

    `given`: how many leads of the batch already got each action (by id; for capacities). `labels`: people's words
    for features and attributes. Where no action is left, `reason` is the one code that refused them all, or
    `nothing_worth_doing` (some were permitted, none worth its cost), or `no_action_allowed`. The codes are explained
    in `gate.REASONS`.

    Raises InvalidSetting where `most` is below 1 or the lead's log-odds are not a finite number."""
    if most < 1:
        raise InvalidSetting(what=f"most={most}", where="recommend", remedy="Ask for at least one action.")
    if not math.isfinite(context.logit):
        raise InvalidSetting(
            what=f"log-odds {context.logit}",
            where=f"lead {context.lead_id}",
            remedy="Recommend only for leads with a score.",
        )
    decisions = decide_all(context, playbook, given)
    refused: dict[str, str] = {}
    worthwhile: list[tuple[float, str, PlaybookAction]] = []
    for action in playbook.actions:
        code = decisions[action.action_id].code
        if code is not None:
            refused[action.action_id] = code
            continue
        net = net_value(context, action, playbook)
        if net > 0:
            worthwhile.append((-net, action.action_id, action))
        else:
            refused[action.action_id] = "not_worth_its_cost"
    worthwhile.sort(key=_by_worth)
    chosen: list[Action] = []
    room: dict[str, int] = {}
    for _, action_id, action in worthwhile:
        decision = decisions[action_id]
        # Whoever does all that is shown must still keep the cap of each channel.
        left = room.get(action.channel, most if decision.room is None else decision.room)
        if len(chosen) == most or left == 0:
            refused[action_id] = "not_among_best"
            continue
        room[action.channel] = left - 1
        chosen.append(_published(action, context, decision.wait_until, labels))
    return Recommendation(actions=tuple(chosen), reason=None if chosen else _reason(refused), refused=refused)


def net_value(context: NurtureContext, action: PlaybookAction, playbook: Playbook) -> float:
    """Believed worth of the action to this lead above doing nothing, in the currency of the playbook."""
    lifted = _sigmoid(context.logit + action.effect_on(context.features))
    return playbook.defaults.value_per_conversion * (lifted - _sigmoid(context.logit)) - action.cost


def _by_worth(candidate: tuple[float, str, PlaybookAction]) -> tuple[float, str]:
    return candidate[:2]


def _sigmoid(logit: float) -> float:
    # The exponent is never positive, so it cannot overflow.
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1.0 + odds)


def _reason(refused: Mapping[str, str]) -> str:
    codes = set(refused.values())
    if len(codes) == 1:
        return codes.pop()
    return "nothing_worth_doing" if "not_worth_its_cost" in codes else "no_action_allowed"


def _published(
    action: PlaybookAction, context: NurtureContext, wait_until: int | None, labels: Mapping[str, str] | None
) -> Action:
    return Action(
        action_id=action.action_id,
        label=action.label,
        channel=action.channel,
        why=why(action, context, labels),
        evidence="playbook",
        expected_uplift=None,
        wait_until=None if wait_until is None else timeline.format_instant(wait_until),
    )


def why(action: PlaybookAction, context: NurtureContext, labels: Mapping[str, str] | None = None) -> str:
    """One sentence of at most 25 words: what the action does, the lead's stage, and what about it fits `best_for`.

    "Answers the cost question early; for a decision-stage lead (pricing page views in the last 30 days: 3)." """
    say = action.say[:1].upper() + action.say[1:]
    sentence = f"{say}; for {_STAGE_WORDS[context.stage]}"
    if action.best_for is None or not action.is_best(context.features):
        return f"{sentence}."
    told = facts(action.best_for, context.features, labels)
    # As much as the sentence has room for; a prefix of what is true is true.
    for count in range(len(told), 0, -1):
        longer = f"{sentence} ({', '.join(told[:count])})."
        if len(longer.split()) <= WHY_WORDS:
            return longer
    return f"{sentence} of the kind it suits best."
