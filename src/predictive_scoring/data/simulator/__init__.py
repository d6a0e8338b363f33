"""Seeded B2B lead histories with known truth.

`simulate(SimulationConfig(seed=1))` gives a `World`: the tables of a marketing system (`leads`, `events`, `touches`,
`decisions`, `attribute_changes`) and its `truth`, which knows the exact conversion probability of every lead at any
cutoff and the effect of every touch. Pure functions: no files, no clock.
"""

from predictive_scoring.data.simulator.behaviour import CONVERSION, EVENT_TYPES
from predictive_scoring.data.simulator.config import LEAKS, SimulationConfig
from predictive_scoring.data.simulator.leads import TITLES, TOPICS
from predictive_scoring.data.simulator.process import STAGES
from predictive_scoring.data.simulator.touches import ACTIONS, DO_NOTHING, Action
from predictive_scoring.data.simulator.truth import Truth
from predictive_scoring.data.simulator.world import World, simulate

__all__ = [
    "ACTIONS",
    "CONVERSION",
    "DO_NOTHING",
    "EVENT_TYPES",
    "LEAKS",
    "STAGES",
    "TITLES",
    "TOPICS",
    "Action",
    "SimulationConfig",
    "Truth",
    "World",
    "simulate",
]
