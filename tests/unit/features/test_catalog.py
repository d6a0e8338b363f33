"""The shipped views, and what a project gets of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.catalog import catalog, views_of
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, features_of
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.transforms import shipped_transforms
from predictive_scoring.settings import Project, parse_project
from predictive_scoring.timeline import DAY

PROJECTS = Path(__file__).parents[3] / "data" / "projects"


def project(text: str = "") -> Project:
    written = yaml.safe_load(text) or {}
    document = {
        "name": "demo",
        "sources": {"leads": {"path": "l.csv"}, "events": {"path": "e.csv"}},
        "attributes": {"title": {"type": "category", "label": "Job title", "immutable": True}},
        "events": {"page_view": {"label": "P"}, "email_click": {"label": "C"}, "won": {"label": "W"}},
        "event_properties": {"duration_seconds": "number", "topic": "category"},
        "conversion": {"event": "won", "horizon": "30d"},
        "cutoffs": {"first": "2026-01-01T00:00:00Z", "every": "7d"},
        "feature_views": ["visits"],
        "readiness": {"share": 0.1},
        **written,
    }
    return parse_project(yaml.safe_dump(document), "demo.yaml")


def names(given: Project) -> list[str]:
    return [feature.name for feature in features_of(views_of(given))]


@pytest.mark.parametrize("name", ["sample", "complete_journey", "bank_marketing"])
def test_every_shipped_project_gets_features_of_unique_names(name: str) -> None:
    shipped = parse_project((PROJECTS / name / "scoring.yaml").read_text("utf-8"), name)
    views = views_of(shipped)
    features = features_of(views)
    assert len(features) >= len(shipped.attributes) > 0
    assert views[0].name == "profile"


def test_the_sample_project_gets_every_feature_of_the_views_that_it_lists() -> None:
    sample = parse_project((PROJECTS / "sample" / "scoring.yaml").read_text("utf-8"), "sample")
    got = [view for view in views_of(sample) if view.name != "profile"]
    assert got == [catalog()[str(name)] for name in sample.feature_views]


def test_of_several_event_types_under_one_alias_a_shipped_view_keeps_the_declared() -> None:
    kept = [one for one in features_of(views_of(project("feature_views: [momentum]"))) if one.name != "title"]
    assert {one.events for one in kept if isinstance(one, EventFeature)} == {("page_view", "email_click")}
    assert "activity_count_7d" in [one.name for one in kept]


def test_what_the_project_excludes_no_feature_counts() -> None:
    given = project(
        "{feature_views: [visits, momentum], event_properties: {agent: category}, events: {won: {label: W}, "
        "page_view: {label: P, exclude: {agent: [bot, true]}}, email_click: {label: C}}}"
    )
    by_name = {one.name: one for one in features_of(views_of(given)) if isinstance(one, EventFeature)}
    assert by_name["page_view_count_7d"].exclude == (EventFilter("agent", ("bot", "true"), drop=True),)
    assert by_name["activity_count_7d"].exclude == (
        EventFilter("agent", ("bot", "true"), drop=True, events=("page_view",)),
    )
    clicks = features_of(views_of(project("feature_views: [email]")))
    assert all(not one.exclude for one in clicks if isinstance(one, EventFeature))


def test_a_transform_is_named_by_the_project_and_held_by_the_feature() -> None:
    seniority = "{type: category, label: S, of: title, transform: seniority, immutable: true}"
    (first, *_) = features_of(views_of(project(f"attributes: {{seniority: {seniority}}}")))
    assert isinstance(first, AttributeFeature)
    assert (first.raw, first.transform) == ("title", shipped_transforms()["seniority"])
    for wrong, what in (
        (seniority.replace("transform: seniority", "transform: seniorit"), "unknown transform 'seniorit'"),
        (seniority.replace("type: category", "type: number"), "gives a category, not a number"),
    ):
        with pytest.raises(InvalidSetting, match=what):
            views_of(project(f"attributes: {{seniority: {wrong}}}"))


def test_attributes_come_first_with_their_label_as_concept() -> None:
    first = features_of(views_of(project()))[0]
    assert first == AttributeFeature("title", "category", "Job title", "Job title", "fit")


def test_a_shipped_view_keeps_only_what_the_project_declares() -> None:
    assert names(project("feature_views: [visits, email, tenure]")) == [
        "title",
        "page_view_count_7d",
        "page_view_count_30d",
        "page_view_count_90d",
        "page_view_decayed_half_life_30d",
        "days_since_page_view",
        "page_view_duration_seconds_sum_30d",
        "page_view_topic_distinct_90d",
        "email_click_count_30d",
        "email_click_count_90d",
        "email_click_decayed_half_life_30d",
        "days_since_email_click",
        "days_since_lead_created",
    ]
    without = names(project("{feature_views: [visits], event_properties: {topic: category}}"))
    assert "page_view_duration_seconds_sum_30d" not in without
    assert "page_view_topic_distinct_90d" in without


def test_the_half_lives_of_an_event_type_replace_those_of_what_reads_that_type_alone() -> None:
    text = "{{feature_views: [visits, momentum, email, {own}], events: {events}}}"
    own = "{name: own, features: [{aggregate: decayed, events: [page_view], half_life: 5d, label: L, concept: C}]}"
    events = "{page_view: {label: P, half_lives: [10d, 60d, 10d]}, email_click: {label: C}, won: {label: W}}"
    given = views_of(project(text.format(own=own, events=events)))
    fading = [one for one in features_of(given) if isinstance(one, EventFeature) and one.half_life]
    assert {one.name for one in fading} == {
        "page_view_decayed_half_life_10d",
        "page_view_decayed_half_life_60d",
        "activity_decayed_half_life_7d",
        "activity_decayed_half_life_30d",
        "activity_decayed_half_life_90d",
        "email_click_decayed_half_life_30d",
        "page_view_decayed_half_life_5d",
    }
    assert {one.label for one in fading if one.half_life == 60 * DAY} == {
        "Page views, fading with a half-life of 60 days"
    }
    # Without them, and for the next project, the shipped ones hold.
    assert "page_view_decayed_half_life_30d" in names(project())


def test_a_shipped_view_never_adds_up_a_category() -> None:
    given = project(
        "{feature_views: [visits], event_properties: {duration_seconds: category, topic: number}}"
    )
    assert "page_view_duration_seconds_sum_30d" not in names(given)
    assert "page_view_topic_distinct_90d" in names(given)


def test_a_view_of_which_nothing_is_left_is_left_out() -> None:
    assert [view.name for view in views_of(project("feature_views: [visits, trial]"))] == [
        "profile",
        "visits",
    ]


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("feature_views: [visit]", "unknown feature view 'visit'", "Did you mean 'visits'?"),
        ("feature_views: [zzz]", "unknown feature view 'zzz'", "Shipped: tenure, visits"),
        ("{feature_views: [trial], attributes: {}}", "nothing to learn from", "List attributes"),
        (
            "feature_views: [{name: v, features: [{aggregate: count, events: [call], label: Calls, concept: C}]}]",
            "'Calls' reads the undeclared event type 'call'",
            "Declared: email_click, lead_created, page_view, won",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: rate, events: [page_view], numerator: [call], "
            "strength: 5, label: Calls, concept: C}]}]",
            "'Calls' reads the undeclared event type 'call'",
            "Declare it under `events`",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: max, column: price, events: [page_view], label: P, "
            "concept: C}]}]",
            "'P' reads the undeclared event property 'price'",
            "event_properties",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: mean, column: topic, events: [page_view], label: P, "
            "concept: C}]}]",
            "'P' takes the mean of 'topic', a category",
            "Declare the property as number",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: count, events: [page_view], where: {topic: {min: 1}}, "
            "label: P, concept: C}]}]",
            "'P' filters 'topic', a category",
            "a list of texts",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: count, events: [page_view], where: {hour: [9]}, "
            "label: P, concept: C}]}]",
            "'P' filters 'hour', a number",
            "a range",
        ),
        (
            "feature_views: [{name: v, features: [{aggregate: share, events: [page_view], where: {weekday: [Monday]}, "
            "label: P, concept: C}]}]",
            "'P' filters weekdays Monday",
            "mon, tue",
        ),
        (
            "feature_views: [visits, {name: v, features: [{aggregate: count, events: [page_view], window: 7d, "
            "label: P, concept: C}]}]",
            "two features are called 'page_view_count_7d'",
            "Remove one",
        ),
    ],
)
def test_a_view_that_cannot_be_read_is_refused(text: str, what: str, remedy: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        views_of(project(text))
    assert what in refused.value.what
    assert remedy in refused.value.remedy


def test_a_view_of_the_projects_own_reads_what_it_says() -> None:
    given = project(
        "feature_views: [{name: own, features: [{aggregate: count, events: [page_view, lead_created], "
        "windows: [1d, 36h], label: 'Seen, last {window}', concept: Seen, group: context}]}]"
    )
    own = views_of(given)[1].features
    assert [(one.name, one.label, one.group) for one in own] == [
        ("page_view_or_lead_created_count_1d", "Seen, last 1 day", "context"),
        ("page_view_or_lead_created_count_36h", "Seen, last 36 hours", "context"),
    ]
    assert all(isinstance(one, EventFeature) for one in own)
