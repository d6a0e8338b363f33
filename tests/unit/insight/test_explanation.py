"""Sentences and rows from contributions; and on leads of all kinds, through the one door to a score."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import logit

from histories import TEXTS, events
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, features_of
from predictive_scoring.insight.explanation import (
    LIMIT_ROW,
    Explainer,
    probability_points,
    reasons,
    sentence,
)
from predictive_scoring.model.calibration import LOGIT_LIMIT, PlattCalibration
from predictive_scoring.schema import Explanation, ExplanationRow, Lead
from predictive_scoring.scoring import Scorer
from predictive_scoring.timeline import DAY

POINTS = 10 / math.log(2)
MOST_WORDS = 20
AS_OF = 1_772_323_200  # 2026-03-01, one of the instants around which `histories.events` draws
TITLE = AttributeFeature("title", "category", "Job title", "Role fit")
SIZE = AttributeFeature("company_size", "number", "Employees", "Company fit")


def feature(aggregate, label, said=None, *, window=30 * DAY, **more):
    return EventFeature(aggregate, ("page_view",), label, "Site visits", window=window, said=said, **more)


VIEWS_7 = feature("count", "Page views, last 7 days", "Viewed pages", window=7 * DAY)
VIEWS_30 = feature("count", "Page views, last 30 days", "Viewed pages")
SINCE = feature("days_since", "Days since the last page view", "Last viewed a page", window=None)
SPENT = feature("sum", "Time on the site, last 30 days", column="duration_seconds")


# Sentences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "of", "value"),
    [
        ("Viewed pages once in the last 30 days", VIEWS_30, 1.0),
        ("Viewed pages twice in the last 30 days", VIEWS_30, 2.0),
        ("Viewed pages 17 times in the last 7 days", VIEWS_7, 17.0),
        ("No page views in the last 30 days", VIEWS_30, 0.0),
        ("Last viewed a page within the last day", SINCE, 0.4),
        ("Last viewed a page 1 day ago", SINCE, 1.9),
        ("Last viewed a page 12 days ago", SINCE, 12.0),
        ("No page view so far", SINCE, None),
        ("Viewed pages once in the last 1 day", replace(VIEWS_7, window=DAY), 1.0),
        ("Time on the site, last 30 days: 60 seconds", SPENT, 60.0),
        ("Time on the site, last 30 days: 5 minutes", SPENT, 300.0),
        ("Job title: Head of Sales", TITLE, "Head of Sales"),
        ("Job title is unknown", TITLE, None),
        ("Employees: 1,200", SIZE, 1200.0),
        ("Employees: 12.50", SIZE, 12.5),
    ],
)
def test_a_fact_reads_as_a_person_would_say_it(said, of, value):
    assert sentence(of, value) == said


def test_an_attribute_that_is_blank_is_called_unknown_instead_of_ending_in_a_colon():
    assert sentence(TITLE, "  ") == "Job title is unknown"


def test_an_endless_attribute_value_is_cut_and_put_on_one_line():
    text = sentence(TITLE, "Global\nHead " + "of many things " * 20)
    assert text.startswith("Job title: Global Head of many")
    assert text.endswith("…")
    assert len(text.split()) <= MOST_WORDS
    assert len(sentence(TITLE, "x" * 5000)) < 100


def assert_readable(text):
    assert len(text.split()) <= MOST_WORDS, text
    assert text[0].isupper() or text[0].isdigit(), text
    debris = re.search(
        r"[{}]|None|nan|inf\b|\b1 times\b|\b0 times\b|\b1 days\b|  |: *$|[:.] *in the last|_", text
    )
    assert debris is None, (text, debris)


SHIPPED = features_of(catalog().values())


@pytest.mark.parametrize("of", SHIPPED, ids=lambda of: of.name)
@pytest.mark.parametrize("value", [None, 0.0, 1.0, 2.0, 30.0, 86_400.0])
def test_every_shipped_feature_has_a_sentence_for_nothing_for_one_and_for_many(of, value):
    if of.kind == "number":
        assert_readable(sentence(of, value))


def test_equal_counts_read_differently_only_where_the_window_differs():
    assert sentence(VIEWS_7, 3.0) != sentence(VIEWS_30, 3.0)


# Concepts and reasons ---------------------------------------------------------------------------------------


def test_windows_of_one_interest_are_one_concept_whose_contribution_is_their_sum():
    values = {VIEWS_7.name: 2.0, VIEWS_30.name: 9.0, TITLE.name: "CEO"}
    found = Explainer((VIEWS_7, VIEWS_30, TITLE)).concepts(values, [0.1, 0.25, -0.9])
    assert [(c.name, c.contribution) for c in found] == [
        ("Role fit", -0.9),
        ("Site visits", pytest.approx(0.35)),
    ]


def test_the_feature_that_speaks_pulls_in_the_direction_of_its_concept():
    values = {VIEWS_7.name: 0.0, VIEWS_30.name: 9.0}
    (raised,) = Explainer((VIEWS_7, VIEWS_30)).concepts(values, [-0.5, 0.6])
    assert raised.feature == VIEWS_30
    (lowered,) = Explainer((VIEWS_7, VIEWS_30)).concepts(values, [-0.7, 0.6])
    assert lowered.feature == VIEWS_7


def test_a_plainly_worded_feature_speaks_before_a_stronger_technical_one():
    values = {SPENT.name: 500.0, VIEWS_30.name: 9.0}
    (found,) = Explainer((SPENT, VIEWS_30)).concepts(values, [0.9, 0.1])
    assert found.feature == VIEWS_30


def test_reasons_name_only_what_moves_the_score_by_a_point_but_never_nothing():
    values = {VIEWS_30.name: 1.0, TITLE.name: "CEO"}
    told = reasons(Explainer((VIEWS_30, TITLE)).concepts(values, [1.0, 0.001]))
    assert [(r.text, r.direction, r.points) for r in told] == [
        ("Viewed pages once in the last 30 days", "raises", 14)
    ]
    faint = reasons(Explainer((VIEWS_30, TITLE)).concepts(values, [0.001, -0.002]))
    assert [(r.text, r.direction, r.points) for r in faint] == [("Job title: CEO", "lowers", 0)]


def test_at_most_five_reasons_are_told_and_the_strongest_come_first():
    features = tuple(
        AttributeFeature(f"a{n}", "category", f"Attribute {n}", f"Concept {n}") for n in range(9)
    )
    told = reasons(
        Explainer(features).concepts({f.name: "x" for f in features}, [0.1 * (n + 1) for n in range(9)])
    )
    assert [r.text for r in told] == [f"Attribute {n}: x" for n in (8, 7, 6, 5, 4)]


# Rows -------------------------------------------------------------------------------------------------------


def test_rows_are_ordered_by_size_and_leave_out_what_contributes_nothing():
    explanation = Explainer((VIEWS_7, VIEWS_30, TITLE)).explanation(
        {VIEWS_7.name: 0.0, VIEWS_30.name: 9.0, TITLE.name: "CEO"},
        -2.0,
        [0.0, 0.25, -0.5],
        0.0,
        -2.25,
    )
    assert [(row.feature, row.contribution, row.value) for row in explanation.rows] == [
        ("title", -0.5, "CEO"),
        ("page_view_count_30d", 0.25, 9.0),
    ]


def test_fit_and_engagement_split_the_contributions_by_who_they_are_and_what_they_did():
    fit, engagement = Explainer((TITLE, VIEWS_7, SIZE)).fit_and_engagement(
        np.array([[1.0, 10.0, 2.0], [0.5, -1.0, 0.0]])
    )
    assert fit.tolist() == [3.0, 0.5]
    assert engagement.tolist() == [10.0, -1.0]


# Through the one door ---------------------------------------------------------------------------------------

attributes = st.fixed_dictionaries(
    {},
    optional={
        "title": st.none()
        | st.sampled_from(["CEO", "a title never seen", "", *TEXTS])
        # Without what the sentences are searched for as debris.
        | st.text(st.characters(exclude_characters="{}_"), max_size=200),
        "industry": st.none() | st.sampled_from(["Software", "an industry never seen"]),
        "company_size": st.none() | st.sampled_from([0, 1, -5, 1e308]) | st.integers(1, 10**6),
        "country": st.none() | st.sampled_from(["DE", "US", "ZZ"]),
        "source": st.none() | st.sampled_from(["webinar", "carrier pigeon"]),
        "consent_email": st.none() | st.booleans(),
        "do_not_contact": st.none() | st.booleans(),
        "time_zone": st.none() | st.sampled_from(["Europe/Berlin", "UTC"]),
        "undeclared": st.just("ignored"),
    },
)
leads = st.builds(
    lambda created, values, history: Lead("made-up", AS_OF - created, values, history),
    st.integers(0, 500 * DAY),
    attributes,
    events("made-up") | st.just(()),
)


def assert_obeys_the_law(scorer, document):
    explanation = document.explanation
    total = explanation.base + math.fsum(row.contribution for row in explanation.rows)
    assert abs(total - explanation.output) <= 1e-9
    assert abs(explanation.output - logit(document.probability)) <= 1e-9
    assert document.interval[0] <= document.probability <= document.interval[1]
    assert 1 <= document.score <= 99
    _assert_reasons_follow(scorer, document)


def _assert_reasons_follow(scorer, document):
    concept = {feature.name: feature.concept for feature in scorer.features}
    sums = {}
    for row in document.explanation.rows:
        if row.feature != LIMIT_ROW:
            sums[concept[row.feature]] = sums.get(concept[row.feature], 0.0) + row.contribution
    assert 1 <= len(document.reasons) <= 5
    strongest = sorted((POINTS * total for total in sums.values()), key=lambda points: -abs(points))
    for reason, points in zip(document.reasons, strongest, strict=False):
        assert abs(reason.points - points) <= 0.5 + 1e-6
        assert (reason.direction == "raises") == (points > 0)
        assert_readable(re.sub("_", "", reason.text))


@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(lead=leads)
def test_every_score_of_any_lead_adds_up_and_is_told_in_sentences(small_champion, lead):
    scorer = small_champion.scorer
    document = scorer.score(lead, AS_OF)
    if (
        any(e.event_type == scorer.scoring.project.conversion.event for e in lead.events)
        and not document.score
    ):
        assert document.status_reason == "already_converted"
        return
    assert document.status == "scored"
    assert_obeys_the_law(scorer, document)


@pytest.mark.parametrize(
    "lead",
    [
        Lead("bare", AS_OF),
        Lead("new", AS_OF - 1),
        Lead("unseen", AS_OF - DAY, {"title": "a title never seen", "country": "ZZ", "company_size": 1e308}),
        Lead("missing", AS_OF - DAY, {"title": None, "industry": None, "company_size": float("nan")}),
    ],
    ids=lambda lead: lead.lead_id,
)
def test_a_lead_of_whom_little_is_known_still_gets_a_score_that_adds_up(small_champion, lead):
    document = small_champion.scorer.score(lead, AS_OF)
    assert document.status == "scored"
    assert_obeys_the_law(small_champion.scorer, document)


def test_points_of_the_rows_are_their_contributions_times_ten_over_ln_2(small_champion):
    scorer = small_champion.scorer
    document = scorer.score(small_champion.tables.lead(small_champion.tables.leads["lead_id"][0]), AS_OF)
    reference = scorer.scoring.grading.reference_log_odds
    points = 50 + POINTS * (document.explanation.base - reference)
    points += sum(POINTS * row.contribution for row in document.explanation.rows)
    assert document.score == min(99, max(1, round(points)))


@pytest.mark.parametrize("intercept", [-80.0, 80.0])
def test_where_the_bound_bites_it_has_a_row_of_its_own_and_the_law_still_holds(small_champion, intercept):
    scoring = small_champion.scorer.scoring
    sure = replace(scoring.model, calibration=PlattCalibration(3.0, intercept))
    scorer = Scorer(replace(scoring, model=sure), "sha256:made-up")
    document = scorer.score(Lead("bare", AS_OF), AS_OF)
    limits = [row for row in document.explanation.rows if row.feature == LIMIT_ROW]
    assert len(limits) == 1
    assert limits[0].group == "limit"
    assert math.copysign(1, limits[0].contribution) == -math.copysign(1, intercept)
    assert document.explanation.output == math.copysign(LOGIT_LIMIT, intercept)
    assert_obeys_the_law(scorer, document)


def test_where_the_bound_does_not_bite_there_is_no_such_row(small_champion):
    document = small_champion.scorer.score(Lead("bare", AS_OF), AS_OF)
    assert all(row.feature != LIMIT_ROW for row in document.explanation.rows)


# Probability points -----------------------------------------------------------------------------------------


def explanation_of(base, contributions):
    rows = tuple(
        ExplanationRow(feature=f"f{number}", label="", value=None, group="fit", contribution=share)
        for number, share in enumerate(contributions)
    )
    return Explanation(base=base, output=base + math.fsum(contributions), rows=rows)


@given(st.floats(-8, 8), st.lists(st.floats(-3, 3), max_size=8))
def test_probability_points_add_up_to_the_way_from_a_typical_lead_and_keep_every_sign(base, contributions):
    explanation = explanation_of(base, contributions)
    points = probability_points(explanation)
    p0, p = (1 / (1 + math.exp(-z)) for z in (explanation.base, explanation.output))
    assert math.fsum(points.values()) == pytest.approx(p - p0, abs=1e-12)
    for row in explanation.rows:
        assert math.copysign(1, points[row.feature]) == math.copysign(1, row.contribution)


def test_probability_points_of_contributions_that_cancel_are_those_of_the_limit():
    points = probability_points(explanation_of(-2.0, (0.5, -0.5)))
    near = probability_points(explanation_of(-2.0, (0.5, -0.5 + 1e-7)))
    p0 = 1 / (1 + math.exp(2.0))
    assert points == pytest.approx({"f0": 0.5 * p0 * (1 - p0), "f1": -0.5 * p0 * (1 - p0)})
    assert points["f0"] == pytest.approx(near["f0"], rel=1e-5)
