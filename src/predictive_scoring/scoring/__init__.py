"""The one door to a score: batch, service, pages and command line all go through `Scorer`.

A score is a pure function of (scoring model, lead history before `as_of`). The two ways in differ only in
how the feature vector is read: by `fold` for a lead in hand, by `expression` for stored tables.
"""

from predictive_scoring.scoring.judging import Sides, Subject
from predictive_scoring.scoring.scorer import STAGE_WEEKS, Scorer, Served, champion_scorer

__all__ = ["STAGE_WEEKS", "Scorer", "Served", "Sides", "Subject", "champion_scorer"]
