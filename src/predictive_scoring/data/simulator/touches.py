"""Nurture touches: a randomised plan with recorded propensities, and the true effect of every touch.

Every `touch_interval_days` a lead comes up for a decision. One action is drawn at random among those its consents
allow, `do_nothing` always among them. The plan does not look at behaviour or at the hidden stage, so a comparison of
actions is a randomised experiment. Only the *effect* of a touch depends on the stage: it is fixed by the stage in
which the touch finds the lead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictive_scoring.data.simulator.config import SimulationConfig
from predictive_scoring.data.simulator.leads import TOPICS, Flags, Population
from predictive_scoring.data.simulator.localtime import Floats, Ints, weekday

CHANNELS: tuple[str, ...] = ("email", "phone", "ads")


@dataclass(frozen=True)
class Action:
    """A nurture action and its true effect.

    `log_hazard_shift` is by stage (dormant, awareness, consideration, decision) and lasts for `days`; `topic_bonus`
    is added when the action's topic is the one the lead cares about. `weight` is its weight in the random choice.
    """

    action_id: str
    channel: str
    topic: str | None
    weight: float
    log_hazard_shift: tuple[float, float, float, float]
    topic_bonus: float
    days: int


DO_NOTHING = "do_nothing"
ACTIONS: tuple[Action, ...] = (
    Action(DO_NOTHING, "none", None, 0.30, (0.0, 0.0, 0.0, 0.0), 0.0, 0),
    Action("educational_newsletter", "email", None, 0.14, (0.10, 0.50, 0.05, -0.10), 0.0, 10),
    Action("case_study_email", "email", "roi", 0.12, (0.00, 0.05, 0.55, 0.15), 0.40, 14),
    Action("webinar_invite", "email", "integration", 0.12, (0.05, 0.35, 0.45, -0.10), 0.40, 14),
    Action("pricing_guide_email", "email", "pricing", 0.10, (-0.20, -0.30, 0.20, 0.60), 0.40, 10),
    Action("sdr_call", "phone", None, 0.12, (-0.60, -0.80, 0.20, 1.00), 0.0, 14),
    Action("retargeting_ad", "ads", None, 0.10, (0.25, 0.15, 0.10, 0.00), 0.0, 7),
)
ACTION_IDS: tuple[str, ...] = tuple(action.action_id for action in ACTIONS)
EFFECT_DAYS: Ints = np.array([action.days for action in ACTIONS], dtype=np.int64)

_SHIFT = np.array([action.log_hazard_shift for action in ACTIONS])
_BONUS = np.array([action.topic_bonus for action in ACTIONS])
_TOPIC = np.array([-1 if action.topic is None else TOPICS.index(action.topic) for action in ACTIONS])
_CHANNEL = np.array(
    [-1 if action.channel == "none" else CHANNELS.index(action.channel) for action in ACTIONS]
)
_WEIGHT = np.array([action.weight for action in ACTIONS])
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class TouchPlan:
    """Decisions laid out before the history runs; arrays of shape (leads, slots), in order of day.

    `day` is the simulated day (a huge number for slots after the end), `action` indexes `ACTIONS`, `propensity` is the
    probability with which that action was chosen. `holdout` has shape (leads,).
    """

    day: npt.NDArray[np.int32]
    action: npt.NDArray[np.int8]
    propensity: Floats
    holdout: Flags


def plan_touches(config: SimulationConfig, people: Population, rng: np.random.Generator) -> TouchPlan:
    """Draw the whole plan: slots, actions and their propensities."""
    n, gap = people.size, config.touch_interval_days
    slots = config.days // gap + 1
    first = people.created_day + 3 + rng.integers(0, gap, n)
    day = first[:, None] + gap * np.arange(slots)
    # Weekends move to Monday; gaps stay >= 16 days, above the longest effect.
    day = day + np.array([0, 0, 0, 0, 0, 2, 1])[weekday(config.start, day)]
    weights = np.where(_allowed(people, day), _WEIGHT, 0.0)
    holdout = rng.random(n) < config.holdout_share
    weights[holdout, :, 1:] = 0.0
    probability = weights / weights.sum(axis=2, keepdims=True)
    drawn = rng.random((n, slots, 1)) > np.cumsum(probability, axis=2)
    action = np.minimum(drawn.sum(axis=2), len(ACTIONS) - 1).astype(np.int8)
    propensity = np.take_along_axis(probability, action[:, :, None].astype(np.int64), axis=2)[:, :, 0]
    return TouchPlan(np.where(day < config.days, day, _NEVER).astype(np.int32), action, propensity, holdout)


def log_hazard_shift(people: Population, strength: float, lead: Ints, action: Ints, stage: Ints) -> Floats:
    """True shift of the log conversion hazard by `action` on `lead` met in `stage`; arrays broadcast together.

    The stage effect of the action, plus its topic bonus if the lead cares for that topic, plus the lead's own
    liking of the channel (normal, sd 0.2), all times `strength`. Zero for `do_nothing`.
    """
    channel = _CHANNEL[action]
    liking = np.where(channel >= 0, people.channel_affinity[lead, channel], 0.0)
    match = _TOPIC[action] == people.topic[lead]
    return np.asarray(strength * (_SHIFT[action, stage] + _BONUS[action] * match + liking), dtype=np.float64)


def _allowed(people: Population, day: Ints) -> Flags:
    """Which actions consent allows at each slot, shape (leads, slots, actions)."""
    reachable = ~(people.do_not_contact | people.opted_out)
    email = (people.consent_email & reachable)[:, None] & (day <= people.unsubscribe_day[:, None])
    phone = np.broadcast_to((people.consent_phone & reachable)[:, None], day.shape)
    ads = np.broadcast_to(reachable[:, None], day.shape)
    by_channel = np.stack([email, phone, ads, np.ones_like(email)], axis=2)
    return np.asarray(by_channel[:, :, _CHANNEL], dtype=np.bool_)
