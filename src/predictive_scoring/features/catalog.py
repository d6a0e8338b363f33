"""The shipped feature views (`catalog.yaml`, package data), and the views that a project asks for."""

from __future__ import annotations

import difflib
from collections.abc import Set
from dataclasses import replace
from functools import cache
from importlib import resources

from pydantic import RootModel

from predictive_scoring.document import parse_document
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.definitions import (
    AttributeFeature,
    EventFeature,
    Feature,
    FeatureView,
    expand,
    features_of,
)
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.transforms import shipped_transforms
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.settings import AttributeSettings, FeatureEntry, FeatureViewSettings, Project
from predictive_scoring.timeline import WEEKDAYS


class CatalogDocument(RootModel[dict[str, tuple[FeatureEntry, ...]]]):
    """View name -> entries."""


@cache
def catalog() -> dict[str, FeatureView]:
    """The shipped views by name, in the order of `catalog.yaml`."""
    return {name: _view(name, entries) for name, entries in _written().root.items()}


@cache
def _written() -> CatalogDocument:
    text = resources.files("predictive_scoring.features").joinpath("catalog.yaml").read_text("utf-8")
    return parse_document(text, "catalog.yaml", CatalogDocument, described_in="the head of catalog.yaml")


def _fading(entries: tuple[FeatureEntry, ...], project: Project) -> tuple[FeatureEntry, ...]:
    """The entries, with the half-lives that the project gives the one event type that an entry reads."""

    def given(entry: FeatureEntry) -> tuple[int, ...]:
        (first, *others) = entry.events
        setting = project.events.get(first)
        return () if setting is None or others or entry.aggregate != "decayed" else setting.half_lives

    return tuple(
        entry.model_copy(update={"half_life": None, "half_lives": tuple(dict.fromkeys(given(entry)))})
        if given(entry)
        else entry
        for entry in entries
    )


def _view(name: str, entries: tuple[FeatureEntry, ...]) -> FeatureView:
    return FeatureView(name, tuple(feature for entry in entries for feature in expand(entry.model_dump())))


def views_of(project: Project) -> tuple[FeatureView, ...]:
    """The project's attributes as view `profile`, then every view that it lists.

    A shipped view keeps only features whose event types and properties the project declares (of several
    event types under one alias, those that are declared), and what fades of one event type alone fades with the
    half-lives that the project gives the type. A view of the project's own must not read anything undeclared.
    What the project excludes is excluded everywhere. Raises InvalidSetting."""
    profile = FeatureView(
        "profile", tuple(_attribute(name, setting) for name, setting in project.attributes.items())
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


def _attribute(name: str, setting: AttributeSettings) -> AttributeFeature:
    transform = None
    if setting.transform is not None:
        transform = shipped_transforms().get(setting.transform)
        where = f"attributes.{name}"
        if transform is None:
            near = difflib.get_close_matches(setting.transform, shipped_transforms(), n=1)
            raise InvalidSetting(
                what=f"unknown transform {setting.transform!r}",
                where=where,
                remedy=(f"Did you mean {near[0]!r}? " if near else "")
                + f"Shipped: {', '.join(shipped_transforms())}.",
            )
        if transform.kind != setting.type:
            raise InvalidSetting(
                what=f"the transform {transform.name!r} gives a {transform.kind}, not a {setting.type}",
                where=where,
                remedy=f"Write type: {transform.kind}.",
            )
    return AttributeFeature(
        name,
        setting.type,
        setting.label,
        setting.concept or setting.label,
        setting.group,
        setting.direction,
        setting.history,
        setting.of,
        transform,
    )


def _exclusions(feature: EventFeature, project: Project) -> EventFeature:
    """The feature without the events that the project excludes, of the types that it reads."""
    excluded = tuple(
        EventFilter(column, values, drop=True, events=(name,) if len(feature.event_types) > 1 else ())
        for name in sorted(feature.event_types)
        if name in project.events
        for column, values in project.events[name].exclude.items()
    )
    return replace(feature, exclude=excluded) if excluded else feature


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
        view = _view(entry, _fading(_written().root[entry], project))
        fitting = (_fitting(feature, declared) for feature in view.features)
        kept = tuple(
            _exclusions(feature, project)
            for feature in fitting
            if feature is not None and not _unreadable(feature, project)
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
        wrong = _unreadable(feature, project)
        if wrong is not None:
            raise InvalidSetting(
                what=f"feature {feature.label!r} {wrong[0]}",
                where=f"feature_views, {entry.name}",
                remedy=wrong[1],
            )
    return FeatureView(
        entry.name,
        tuple(
            _exclusions(feature, project) if isinstance(feature, EventFeature) else feature
            for feature in view.features
        ),
    )


def _fitting(feature: Feature, declared: Set[str]) -> EventFeature | None:
    """The shipped feature over the declared ones of its event types; None if too few are declared."""
    if not isinstance(feature, EventFeature):
        return None
    if feature.event_types <= declared:
        return feature
    events = tuple(name for name in feature.events if name in declared)
    if feature.alias is None or not events or not set(feature.numerator) <= declared:
        return None
    return replace(feature, events=events)


def _unreadable(feature: EventFeature, project: Project) -> tuple[str, str] | None:
    """(what is wrong, what to do) about the properties that the feature reads, or None."""
    for name in sorted(feature.properties):
        if name not in project.event_properties:
            return (
                f"reads the undeclared event property {name!r}",
                "Declare it under `event_properties` as number or category.",
            )
    column = feature.column
    adds = feature.aggregate not in ("distinct", "repeat", "latest")
    if column is not None and adds and project.event_properties[column] == "category":
        return (
            f"takes the {feature.aggregate} of {column!r}, a category",
            "Declare the property as number, or use distinct, repeat or latest.",
        )
    for one in feature.where:
        kind = "number" if one.column == "hour" else project.event_properties.get(one.column, "category")
        if one.is_range != (kind == "number"):
            wanted = "a range: {min: …, max: …}" if kind == "number" else "a list of texts"
            return (f"filters {one.column!r}, a {kind}", f"Write {wanted}.")
        if one.column == "weekday" and not set(one.values) <= set(WEEKDAYS):
            return (f"filters weekdays {', '.join(one.values)}", f"Days are called {', '.join(WEEKDAYS)}.")
    return None
