"""Predictive lead scoring and lead nurturing: point-in-time features, calibrated and explained scores,
nurture decisions. See docs/README.md; the shortest way in is `predictive_scoring.scoring.Scorer`."""

__version__ = "0.1.0"
