"""Law: a score is one pure function of (model, history before `as_of`), whichever way the history is read."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from scipy.special import expit

from predictive_scoring.schema import Event, Touch
from predictive_scoring.timeline import DAY, WEEK, exists_at, format_instant, parse_instant

SINGLY = 40
"""Leads read and scored one at a time; the others are scored in one call, which must be the same."""


@pytest.fixture(scope="module")
def leads(small_champion):
    """Every stored lead with its history in hand, in order of id, from one reading of the tables."""
    tables = small_champion.tables
    stored = tables.stored_leads(tables.leads["lead_id"])
    return [stored[lead_id] for lead_id in tables.leads["lead_id"]]


@pytest.fixture(scope="module")
def as_of(small_champion):
    return small_champion.as_of


@pytest.fixture(scope="module")
def batch(small_champion, as_of):
    """The documents of the stored tables, as the engine that holds them reads them."""
    return list(small_champion.scorer.score_tables(small_champion.tables, as_of))


@pytest.fixture(scope="module")
def folded(small_champion, leads, as_of):
    """The documents of the same leads with their histories in hand."""
    return small_champion.scorer.score_many(leads, as_of)


def everything_but_numbers(document):
    plain = document.model_dump()
    for name in ("probability", "interval", "explanation"):
        plain.pop(name)
    for reason in plain["reasons"]:
        reason.pop("points")
    return plain


def shares(document):
    return {row.feature: row.contribution for row in document.explanation.rows}


def test_there_is_something_of_every_kind_to_compare(folded):
    kinds = Counter((d.status, d.readiness, bool(d.actions)) for d in folded)
    assert kinds["scored", "nurture", True] > 100
    assert kinds["scored", "ready", False] > 10
    assert kinds["not_scored", None, False] > 10
    assert kinds["suppressed", None, False] > 0


def test_tables_and_history_in_hand_give_the_same_document_for_every_lead(batch, folded):
    assert [d.lead_id for d in batch] == [d.lead_id for d in folded]
    for one, other in zip(batch, folded, strict=True):
        assert everything_but_numbers(one) == everything_but_numbers(other)
        if one.status != "scored":
            continue
        assert abs(one.probability - other.probability) <= 1e-12
        assert one.interval == pytest.approx(other.interval, abs=1e-12)
        assert abs(one.explanation.output - other.explanation.output) <= 1e-12
        assert one.explanation.base == other.explanation.base
        # Floats are summed in another order by the engine; a row that is exactly 0 in one reading is not shown.
        left, right = shares(one), shares(other)
        assert all(
            abs(left.get(name, 0.0) - right.get(name, 0.0)) <= 1e-12 for name in left.keys() | right.keys()
        )
        assert [r.points for r in one.reasons] == [r.points for r in other.reasons]


def test_a_lead_scored_alone_gets_the_document_it_gets_among_others(small_champion, leads, folded, as_of):
    step = max(1, len(leads) // SINGLY)
    for lead, among in list(zip(leads, folded, strict=True))[::step]:
        stored = small_champion.tables.lead(lead.lead_id)
        assert sorted(stored.events, key=lambda e: e.event_id) == sorted(
            lead.events, key=lambda e: e.event_id
        )
        assert replace(stored, events=()) == replace(lead, events=())
        alone = small_champion.scorer.score(stored, as_of)
        assert everything_but_numbers(alone) == everything_but_numbers(among)
        if alone.status == "scored":
            # Matrix products of one row and of many may differ in the last bit.
            assert abs(alone.probability - among.probability) <= 1e-12


def test_a_chunk_of_any_size_gives_the_same_documents(small_champion, batch, as_of):
    again = list(small_champion.scorer.score_tables(small_champion.tables, as_of, chunk=350))
    assert [everything_but_numbers(d) for d in again] == [everything_but_numbers(d) for d in batch]


def test_nothing_at_or_after_the_instant_or_not_yet_known_changes_a_score(
    small_champion, leads, folded, as_of
):
    scorer = small_champion.scorer
    kinds = [*scorer.scoring.project.events, "undeclared"]

    def with_a_future(lead):
        later = [
            Event(f"later-{kind}-{shift}", kind, as_of + shift, as_of + shift, {"duration_seconds": 900.0})
            for kind in kinds
            for shift in (0, 1, 3 * DAY)
        ]
        unknown = [
            Event(f"unknown-{kind}-{lag}", kind, as_of - DAY, as_of + lag, {"topic": "pricing"})
            for kind in kinds
            for lag in (0, 40 * DAY)
        ]
        actions = scorer.scoring.playbook.actions
        touches = [
            Touch(f"later-{action.action_id}", action.action_id, action.channel, as_of + shift)
            for action in actions
            for shift in (0, DAY)
        ]
        return replace(lead, events=(*later, *lead.events, *unknown), touches=(*lead.touches, *touches))

    told = scorer.score_many([with_a_future(lead) for lead in leads], as_of)
    assert told == folded


def test_an_event_one_second_before_the_instant_does_change_a_score(small_champion, leads, folded, as_of):
    # Without this the test above would pass for a scorer that reads nothing at all.
    just_now = [
        replace(
            lead,
            events=(
                *lead.events,
                *(Event(f"now-{n}", "pricing_view", as_of - 1, as_of - 1) for n in range(9)),
            ),
        )
        for lead in leads
    ]
    told = small_champion.scorer.score_many(just_now, as_of)
    scored = [(a, b) for a, b in zip(told, folded, strict=True) if b.status == "scored"]
    assert all(after.probability != before.probability for after, before in scored)


def test_the_order_in_which_events_are_held_does_not_matter(small_champion, leads, folded, as_of):
    backwards = [replace(lead, events=lead.events[::-1], touches=lead.touches[::-1]) for lead in leads]
    assert small_champion.scorer.score_many(backwards, as_of) == folded


def test_an_opted_out_lead_is_suppressed_whatever_it_did(leads, folded):
    out = {lead.lead_id for lead in leads if lead.attributes["opted_out"]}
    assert out == {d.lead_id for d in folded if d.status == "suppressed"}


def test_a_lead_that_converted_before_the_instant_is_not_scored(leads, folded, as_of):
    for lead, document in zip(leads, folded, strict=True):
        converted = any(
            e.event_type == "opportunity_created" and e.occurred < as_of and e.known < as_of
            for e in lead.events
        )
        if document.status != "suppressed":
            assert (document.status_reason == "already_converted") == converted


def test_before_its_creation_a_lead_is_not_scored(small_champion, leads):
    middle = sorted(lead.created for lead in leads)[len(leads) // 2]
    documents = small_champion.scorer.score_many(leads, middle)
    early = [d for d in documents if d.status_reason == "not_yet_created"]
    assert early
    assert {d.lead_id for d in early} <= {
        lead.lead_id for lead in leads if not exists_at(lead.created, middle)
    }
    born = next(lead for lead in leads if lead.created == middle)
    assert small_champion.scorer.score(born, middle).status_reason != "not_yet_created"
    assert small_champion.scorer.score(born, middle - 1).status == "not_scored"


def test_a_missing_score_is_null_and_never_zero(folded):
    for document in folded:
        if document.status == "scored":
            assert document.status_reason is None
            continue
        assert document.status_reason
        numbers = (document.probability, document.score, document.interval, document.percentile)
        assert numbers == (None,) * 4
        assert (document.grade, document.readiness, document.stage, document.trend) == (None,) * 4
        assert document.explanation is None
        assert document.reasons == ()
        assert document.actions == ()


def test_the_trend_is_the_difference_to_the_score_a_week_earlier(small_champion, leads, folded, as_of):
    earlier = small_champion.scorer.score_many(leads, as_of - WEEK)
    compared = 0
    for lead, now, before in zip(leads, folded, earlier, strict=True):
        if now.status != "scored":
            continue
        if not exists_at(lead.created, as_of - WEEK):
            assert now.trend is None
            continue
        compared += 1
        assert parse_instant(now.trend.since) == as_of - WEEK
        assert before.as_of == now.trend.since == format_instant(as_of - WEEK)
        assert now.trend.change == now.score - before.score
        change = now.trend.change
        expected = "steady" if abs(change) <= 3 else "rising" if change > 0 else "falling"
        assert now.trend.direction == expected
    assert compared > 100


def test_fifty_means_the_reference_odds_and_ten_points_more_double_them(small_champion, folded):
    grading = small_champion.scorer.scoring.grading
    for step in range(-4, 5):
        assert grading.score(grading.reference_log_odds + step * math.log(2)) == 50 + 10 * step
    reference = math.exp(grading.reference_log_odds)
    for document in folded:
        if document.status == "scored":
            odds = document.probability / (1 - document.probability)
            exact = 50 + 10 * math.log2(odds / reference)
            assert abs(document.score - min(99.0, max(1.0, exact))) <= 0.5 + 1e-9


def test_the_reference_is_the_average_lead_of_the_first_training(small_champion):
    scoring = small_champion.scorer.scoring
    assert expit(scoring.grading.reference_log_odds) == pytest.approx(
        scoring.metrics["known_base_rate"], rel=0.35
    )


def test_only_nurture_leads_are_given_actions_and_an_empty_list_says_why(folded):
    for document in folded:
        if document.status == "scored":
            assert bool(document.actions) != bool(document.actions_reason)
            if document.readiness == "ready":
                assert document.actions_reason == "ready"
