"""Propensity, calibration, grading and evaluation. Nothing is imported here: LightGBM loads only where it is used."""
