"""The shipped feature views (`catalog.yaml`, package data), and the views that a project asks for."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources

from pydantic import RootModel

from predictive_scoring.document import parse_document
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.definitions import (
    AttributeFeature,
    EventFeature,
    FeatureView,
    expand,
    features_of,
)
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.settings import FeatureEntry, FeatureViewSettings, Project


class CatalogDocument(RootModel[dict[str, tuple[FeatureEntry, ...]]]):
    """View name -> entries."""


@cache
def catalog() -> dict[str, FeatureView]:
    """The shipped views by name, in the order of `catalog.yaml`."""
    text = resources.files("predictive_scoring.features").joinpath("catalog.yaml").read_text("utf-8")
    document = parse_document(text, "catalog.yaml", CatalogDocument, described_in="the head of catalog.yaml")
    return {name: _view(name, entries) for name, entries in document.root.items()}


def _view(name: str, entries: tuple[FeatureEntry, ...]) -> FeatureView:
    return FeatureView(name, tuple(feature for entry in entries for feature in expand(entry.model_dump())))


def views_of(project: Project) -> tuple[FeatureView, ...]:
    """The project's attributes as view `profile`, then every view that it lists.

    A shipped view keeps only features whose event types and columns the project declares; a view of the
    project's own must not read anything undeclared. Raises InvalidSetting."""
    profile = FeatureView(
        "profile",
        tuple(
            AttributeFeature(
                name,
                setting.type,
                setting.label,
                setting.concept or setting.label,
                setting.group,
                setting.direction,
            )
            for name, setting in project.attributes.items()
        ),
    )
    chosen = [profile, *(_chosen(entry, project) for entry in project.feature_views)]
    views = tuple(view for view in chosen if view.features)
    if not features_of(views):
        raise InvalidSetting(
            what="there is nothing to learn from: no attributes and no feature views",
            where="attributes, feature_views",
            remedy="List attributes, or feature views such as visits, email, pricing.",
        )
    return views


def _chosen(entry: str | FeatureViewSettings, project: Project) -> FeatureView:
    declared = {*project.events, LEAD_CREATED}
    if isinstance(entry, str):
        shipped = catalog()
        if entry not in shipped:
            near = difflib.get_close_matches(entry, shipped, n=1)
            raise InvalidSetting(
                what=f"unknown feature view {entry!r}",
                where="feature_views",
                remedy=(f"Did you mean {near[0]!r}? " if near else "") + f"Shipped: {', '.join(shipped)}.",
            )
        kept = tuple(
            feature
            for feature in shipped[entry].features
            if isinstance(feature, EventFeature)
            and feature.event_types <= declared
            and _readable(feature, project)
        )
        return FeatureView(entry, kept)
    view = _view(entry.name, entry.features)
    for feature in view.features:
        if not isinstance(feature, EventFeature):
            continue
        unknown = sorted(feature.event_types - declared)
        if unknown:
            raise InvalidSetting(
                what=f"feature {feature.label!r} reads the undeclared event type {unknown[0]!r}",
                where=f"feature_views, {entry.name}",
                remedy=f"Declare it under `events`. Declared: {', '.join(sorted(declared))}.",
            )
        if feature.column is not None and feature.column not in project.event_properties:
            raise InvalidSetting(
                what=f"feature {feature.label!r} reads the undeclared event property {feature.column!r}",
                where=f"feature_views, {entry.name}",
                remedy="Declare it under `event_properties` as number or category.",
            )
        if not _readable(feature, project):
            raise InvalidSetting(
                what=f"feature {feature.label!r} takes the {feature.aggregate} of {feature.column!r}, a category",
                where=f"feature_views, {entry.name}",
                remedy="Declare the property as number, or use distinct or latest.",
            )
    return view


def _readable(feature: EventFeature, project: Project) -> bool:
    """Whether the project declares the property that the feature reads, and as a number where it adds."""
    if feature.column is None:
        return True
    declared = project.event_properties.get(feature.column)
    return declared == "number" or (declared == "category" and feature.aggregate in ("distinct", "latest"))
