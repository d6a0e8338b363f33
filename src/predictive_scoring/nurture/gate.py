"""The gate: may this action be done to this lead now?

Pure: the answer depends on the playbook and the context only. The order is fixed, and the first refusal is the
one told, because it is the one to look at first:

    1 do_not_contact        the person asked to be left alone; forbids every channel
    2 consent_withdrawn     the channel's consent was taken back (forbids even where none is needed: an objection)
      consent_missing       the channel needs consent and it was never given; never asked counts as no
    3 (quiet hours)         do not forbid; they set `wait_until`, on the lead's own clock
    4 cap_reached           the channel's cap in a rolling window is used up
    5 cooldown              the same action was done too recently
    6 wrong_stage           the action is not meant for the lead's stage
      not_eligible          the action's `eligible` rule is false
    7 capacity_reached      all places of the batch are given out

Windows of caps and cooldowns hold touches with `0 <= age < window`, age = as_of - occurred in seconds. Age 0 counts
(a touch of this very second must not be repeated), age = window does not (a weekly e-mail may go out at the same
hour each week under a cap of one per 7 days). Touches after `as_of` are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from predictive_scoring import timeline
from predictive_scoring.nurture.playbook import Playbook, PlaybookAction
from predictive_scoring.nurture.quiet_hours import find_zone, quiet_until
from predictive_scoring.schema import NurtureContext

REASONS: Mapping[str, str] = {
    "do_not_contact": "The lead asked not to be contacted",
    "consent_withdrawn": "The lead withdrew consent for this channel",
    "consent_missing": "The lead has not given consent for this channel",
    "cap_reached": "The lead was contacted on this channel often enough for now",
    "cooldown": "The lead had this action recently",
    "wrong_stage": "Not meant for the lead's stage",
    "not_eligible": "The lead does not meet the action's rule",
    "capacity_reached": "All places for this action are given out",
    "not_worth_its_cost": "The expected gain is below the cost",
    "not_among_best": "Other actions, or others of the same channel within its cap, are worth more",
    "nothing_worth_doing": "No permitted action is worth its cost",
    "no_action_allowed": "No action is permitted now, for different reasons",
}
"""Every reason code of the gate and of the ranking, in words."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """`code` is a key of REASONS where not allowed, else None; `wait_until` (epoch seconds) is the end of the
    quiet hours where allowed but not yet, else None; `room` is how many more touches the channel's cap takes, where
    allowed and capped, else None."""

    allowed: bool
    code: str | None = None
    wait_until: int | None = None
    room: int | None = None


_REFUSED = {code: GateDecision(allowed=False, code=code) for code in REASONS}


def decide(
    action: PlaybookAction, context: NurtureContext, playbook: Playbook, *, given: int = 0
) -> GateDecision:
    """Whether `action` (one of the playbook's) may be done to the lead at `context.as_of`.

    `given` is how many leads of the batch already got it; it is compared with the action's capacity."""
    past = _Past.of(context)
    channel = _check_channel(action.channel, context, playbook, past)
    return _check_action(action, context, past, given) or channel if channel.allowed else channel


def decide_all(
    context: NurtureContext, playbook: Playbook, given: Mapping[str, int] | None = None
) -> dict[str, GateDecision]:
    """`decide` for every action of the playbook, by action id; `given` likewise. Shares the work per channel."""
    past = _Past.of(context)
    channels: dict[str, GateDecision] = {}
    answers: dict[str, GateDecision] = {}
    for action in playbook.actions:
        channel = channels.get(action.channel)
        if channel is None:
            channel = channels[action.channel] = _check_channel(action.channel, context, playbook, past)
        if channel.allowed:
            count = given.get(action.action_id, 0) if given else 0
            answers[action.action_id] = _check_action(action, context, past, count) or channel
        else:
            answers[action.action_id] = channel
    return answers


@dataclass(frozen=True, slots=True)
class _Past:
    """Ages (seconds) of past touches: all by channel, the youngest by action."""

    by_channel: Mapping[str, list[int]]
    youngest: Mapping[str, int]

    @classmethod
    def of(cls, context: NurtureContext) -> _Past:
        by_channel: dict[str, list[int]] = {}
        youngest: dict[str, int] = {}
        for touch in context.touches:
            age = timeline.age(touch.occurred, context.as_of)
            if age < 0:
                continue
            by_channel.setdefault(touch.channel, []).append(age)
            youngest[touch.action_id] = min(age, youngest.get(touch.action_id, age))
        return cls(by_channel, youngest)


def _check_channel(name: str, context: NurtureContext, playbook: Playbook, past: _Past) -> GateDecision:
    """Steps 1 to 4: everything that does not depend on the action itself."""
    if context.do_not_contact:
        return _REFUSED["do_not_contact"]
    rules = playbook.channels[name]
    consent = context.consents.get(name)
    if consent is False:
        return _REFUSED["consent_withdrawn"]
    # `is not True`: a value of another type must never pass for a consent.
    if rules.consent and consent is not True:
        return _REFUSED["consent_missing"]
    cap = playbook.defaults.caps.get(name)
    room = None
    if cap is not None:
        window = cap.per
        room = cap.max - sum(timeline.in_rolling_window(age, window) for age in past.by_channel.get(name, ()))
        if room <= 0:
            return _REFUSED["cap_reached"]
    if not rules.quiet_hours:
        return GateDecision(allowed=True, room=room)
    zone = find_zone(context.time_zone) or find_zone(playbook.defaults.default_time_zone)
    quiet = playbook.defaults.quiet_hours
    wait = quiet_until(context.as_of, zone, quiet.start, quiet.end) if zone else None
    return GateDecision(allowed=True, wait_until=wait, room=room)


def _check_action(
    action: PlaybookAction, context: NurtureContext, past: _Past, given: int
) -> GateDecision | None:
    """Steps 5 to 7; None where nothing speaks against the action."""
    if action.cooldown is not None:
        youngest = past.youngest.get(action.action_id)
        if youngest is not None and timeline.in_rolling_window(youngest, action.cooldown):
            return _REFUSED["cooldown"]
    if context.stage not in action.stages:
        return _REFUSED["wrong_stage"]
    if not action.is_eligible(context.features):
        return _REFUSED["not_eligible"]
    if action.capacity is not None and given >= action.capacity:
        return _REFUSED["capacity_reached"]
    return None
