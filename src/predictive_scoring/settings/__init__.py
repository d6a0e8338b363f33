"""The project file `scoring.yaml`, typed: what the tables mean, what a conversion is, how to split.

Parsed from text by `parse_project`; files are opened by `data.sources`. Durations are written `30d` and
held in seconds, instants are written with an offset and held in epoch seconds.
"""

from predictive_scoring.settings.base import Settings
from predictive_scoring.settings.features import FeatureEntry, FeatureViewSettings, RangeSettings
from predictive_scoring.settings.leads import AttributeSettings, ContactSettings, EventTypeSettings
from predictive_scoring.settings.modelling import (
    ConversionSettings,
    CutoffSettings,
    MonitoringSettings,
    PointsRule,
    ReadinessSettings,
    RetentionSettings,
    SplitSettings,
    WaiverSettings,
)
from predictive_scoring.settings.project import Project, parse_project
from predictive_scoring.settings.sources import Sources, TableSource

__all__ = [
    "AttributeSettings",
    "ContactSettings",
    "ConversionSettings",
    "CutoffSettings",
    "EventTypeSettings",
    "FeatureEntry",
    "FeatureViewSettings",
    "MonitoringSettings",
    "PointsRule",
    "Project",
    "RangeSettings",
    "ReadinessSettings",
    "RetentionSettings",
    "Settings",
    "Sources",
    "SplitSettings",
    "TableSource",
    "WaiverSettings",
    "parse_project",
]
