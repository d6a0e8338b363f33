"""Definitions are data: names derived and unique, documents read back, fingerprints of what is computed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import (
    AttributeFeature,
    EventFeature,
    FeatureView,
    expand,
    features_of,
    fingerprint,
    from_document,
    to_document,
)
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.transforms import shipped_transforms
from predictive_scoring.timeline import DAY, HOUR

SENIORITY = AttributeFeature(
    "seniority",
    "category",
    "Seniority",
    "Role",
    history=True,
    of="title",
    transform=shipped_transforms()["seniority"],
)
FILTERED = EventFeature(
    "share", ("page_view",), "Pricing", "Topics",
    where=(EventFilter("topic", ("pricing",)), EventFilter("pages", low=2.0)),
    exclude=(EventFilter("opened_by", ("bot",), drop=True, events=("page_view",)),),
)  # fmt: skip
VIEWS = (
    FeatureView("profile", (AttributeFeature("title", "category", "Job title", "Role"), SENIORITY)),
    FeatureView("filtered", (FILTERED,)),
    *catalog().values(),
)


def feature(aggregate: str = "count", events: tuple[str, ...] = ("page_view",), **more: Any) -> EventFeature:
    return EventFeature(aggregate, events, more.pop("label", "Views"), more.pop("concept", "Visits"), **more)


RATE = feature(
    "rate", ("email_delivered",), numerator=("email_click",), prior=0.05, strength=10.0, window=90 * DAY
)
PRICING = EventFilter("topic", ("pricing", "roi"))
MORNING = EventFilter("hour", low=6, high=11)
BOUNCED = EventFilter("pages", high=1)
DECAYED = feature("decayed", half_life=30 * DAY)
SUM = feature("sum", column="duration_seconds", window=30 * DAY)


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        (feature("count", ("pricing_view",), window=30 * DAY), "pricing_view_count_30d"),
        (feature("count"), "page_view_count"),
        (feature("count", ("a", "b"), window=36 * HOUR), "a_or_b_count_36h"),
        (feature("count", ("a", "b"), alias="social"), "social_count"),
        (feature("days_since", ("email_open",)), "days_since_email_open"),
        (feature("ever", ("trial_start",), window=DAY), "ever_trial_start_1d"),
        (feature("trend", window=14 * DAY), "page_view_trend_14d"),
        (feature("latest", column="topic"), "page_view_topic_latest"),
        (SUM, "page_view_duration_seconds_sum_30d"),
        (RATE, "email_click_rate_per_email_delivered_90d"),
        (DECAYED, "page_view_decayed_half_life_30d"),
        (feature("days_since_first"), "days_since_first_page_view"),
        (feature("gap", window=90 * DAY), "page_view_gap_90d"),
        (feature("repeat", column="topic"), "page_view_topic_repeat"),
        (feature("share", ("a", "b"), numerator=("a",), window=DAY), "a_share_of_a_or_b_1d"),
        (
            feature("share", where=(PRICING, MORNING)),
            "page_view_share_topic_pricing_or_roi_and_hour_from_6_to_11",
        ),
        (feature("count", where=(BOUNCED,), window=DAY), "page_view_pages_up_to_1_count_1d"),
        (feature("sum", column="amount", where=(PRICING,)), "page_view_topic_pricing_or_roi_amount_sum"),
        (feature("count", exclude=(replace(PRICING, drop=True),)), "page_view_count"),
    ],
)
def test_a_name_is_derived_from_what_is_computed(definition: EventFeature, name: str) -> None:
    assert definition.name == name
    assert replace(definition, label="Other", concept="Other", said="Did", group="fit").name == name


def test_every_name_of_the_catalog_is_unique_and_every_label_says_its_window() -> None:
    features = features_of(VIEWS)
    assert len({one.name for one in features}) == len(features) == sum(len(view.features) for view in VIEWS)
    labels = [one.label for one in features]
    assert len(set(labels)) == len(labels)
    assert not [label for label in labels if "{" in label]
    for one in features:
        if isinstance(one, EventFeature) and one.window:
            assert f"{one.window // DAY} days" in one.label


def test_two_features_of_one_name_are_refused_wherever_they_stand() -> None:
    other = replace(RATE, prior=0.5)
    for views in (
        [FeatureView("a", (RATE, other))],
        [FeatureView("a", (RATE,)), FeatureView("b", (other,))],
        [
            FeatureView("a", (feature("count"),)),
            FeatureView("b", (AttributeFeature("page_view_count", "number", "x", "y"),)),
        ],
    ):
        with pytest.raises(InvalidSetting, match="two features are called"):
            features_of(views)


def test_a_document_is_plain_json_and_is_read_back_to_equal_views() -> None:
    document = to_document(VIEWS)
    back = from_document(json.loads(json.dumps(document)))
    assert back == VIEWS
    assert to_document(back) == document
    assert fingerprint(back) == fingerprint(VIEWS)


COMPUTING: list[tuple[EventFeature | AttributeFeature, dict[str, Any]]] = [
    (SUM, {"aggregate": "max"}),
    (SUM, {"events": ("page_view", "call")}),
    (SUM, {"window": 31 * DAY}),
    (SUM, {"window": None}),
    (SUM, {"column": "amount"}),
    (DECAYED, {"half_life": 7 * DAY}),
    (RATE, {"numerator": ("email_open",)}),
    (RATE, {"prior": 0.06}),
    (RATE, {"strength": 11.0}),
    (SUM, {"alias": "visits"}),
    (SUM, {"where": (PRICING,)}),
    (SUM, {"exclude": (PRICING,)}),
    (replace(SUM, where=(PRICING,)), {"where": (replace(PRICING, values=("pricing",)),)}),
    (AttributeFeature("seniority", "category", "l", "c", of="title"), {"of": "role"}),
    (AttributeFeature("seniority", "category", "l", "c"), {"transform": shipped_transforms()["seniority"]}),
    (AttributeFeature("seniority", "category", "l", "c"), {"history": True}),
    (AttributeFeature("title", "category", "l", "c"), {"attribute": "role"}),
    (AttributeFeature("title", "category", "l", "c"), {"kind": "number"}),
]


@pytest.mark.parametrize(("one", "change"), COMPUTING, ids=[str(change) for _, change in COMPUTING])
def test_a_change_of_what_is_computed_changes_the_fingerprint(
    one: EventFeature | AttributeFeature, change: dict[str, Any]
) -> None:
    assert fingerprint([FeatureView("v", (replace(one, **change),))]) != fingerprint(
        [FeatureView("v", (one,))]
    )


def test_a_change_of_wording_does_not_change_the_fingerprint() -> None:
    worded = replace(RATE, label="Other", concept="Other", said="Other", none="Other", direction="raises")
    assert fingerprint([FeatureView("v", (worded,))]) == fingerprint([FeatureView("v", (RATE,))])
    assert SENIORITY.transform is not None
    spoken = replace(SENIORITY, transform=replace(SENIORITY.transform, label="Rank", reads="a rank"))
    assert fingerprint([FeatureView("v", (spoken,))]) == fingerprint([FeatureView("v", (SENIORITY,))])


def test_leaving_a_feature_out_or_reordering_changes_the_fingerprint() -> None:
    prints = {fingerprint([FeatureView("v", part)]) for part in ((SUM, RATE), (RATE, SUM), (SUM,), ())}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"aggregate": "median"}, "unknown aggregate 'median'"),
        ({"events": ()}, "no event types"),
        ({"aggregate": "sum"}, "sum needs column"),
        ({"column": "topic"}, "count takes no column"),
        ({"aggregate": "trend"}, "trend needs a window"),
        ({"aggregate": "decayed"}, "half_life belongs to"),
        ({"half_life": DAY}, "half_life belongs to"),
        ({"aggregate": "rate", "strength": 5.0}, "a rate needs a numerator"),
        ({"strength": 5.0}, "prior and strength belong to"),
        ({"prior": None}, "prior and strength belong to"),
        ({"aggregate": "share"}, "a share needs to know"),
        ({"aggregate": "share", "numerator": ("call",)}, "a share counts some of its own"),
        ({"numerator": ("call",)}, "numerator belongs to"),
        ({"aggregate": "rate", "numerator": ("page_view",), "strength": 5.0}, "a rate counts trials"),
        ({"aggregate": "rate", "numerator": ("call",)}, "a rate counts trials"),
    ],
)
def test_a_definition_that_means_nothing_is_refused_with_its_label(
    arguments: dict[str, Any], what: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        feature(**arguments)
    assert what in refused.value.what
    assert "'Views'" in refused.value.where


def test_an_entry_expands_to_one_feature_per_window_or_half_life() -> None:
    entry = {"aggregate": "count", "events": ["a"], "label": "A, last {window}", "concept": "C"}
    assert [(one.name, one.label) for one in expand({**entry, "windows": [7 * DAY, DAY]})] == [
        ("a_count_7d", "A, last 7 days"),
        ("a_count_1d", "A, last 1 day"),
    ]
    assert [one.label for one in expand(entry)] == ["A, last all time"]
    fading = expand({**entry, "aggregate": "decayed", "half_lives": [DAY, 2 * DAY], "label": "A {half_life}"})
    assert [one.label for one in fading] == ["A 1 day", "A 2 days"]


@pytest.mark.parametrize("label", ["100 {percent}", "{0}", "a { b", "}{"])
def test_other_braces_in_a_label_are_only_text(label: str) -> None:
    assert expand({"aggregate": "count", "events": ["a"], "label": label, "concept": "C"})[0].label == label


def test_a_trend_looks_two_windows_back_and_a_count_one() -> None:
    assert feature("trend", window=7 * DAY).lookback == 14 * DAY
    assert feature("count", window=7 * DAY).lookback == 7 * DAY
    assert feature("count").lookback is None
