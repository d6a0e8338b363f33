"""Law: what was served is read again by batch, value by value; what changed in the tables since is named."""

from dataclasses import replace

import ibis
import pytest

from predictive_scoring.features.definitions import AttributeFeature
from predictive_scoring.features.online import FeatureReader
from predictive_scoring.keeping.vectors import VectorLog, sample
from predictive_scoring.replay import bundle_features, replay
from predictive_scoring.timeline import DAY

STEP = 8
"""Every eighth stored lead is served."""


@pytest.fixture(scope="module")
def served(small_champion, tmp_path_factory):
    """A log of vectors that were served lead by lead, at three instants."""
    tables, scorer = small_champion.tables, small_champion.scorer
    log = VectorLog(tmp_path_factory.mktemp("served"))

    def keep(scores, values):
        assert log.append(sample(scores, values, share=1.0, source="stored", served_at=now)).lost == 0

    now = tables.observed_until
    for lead in tables.stored_leads(tables.leads["lead_id"][::STEP]).values():
        for back in (0, 30 * DAY, 61 * DAY + 12_345):
            scorer.score(lead, now - back, keep)
    return log


@pytest.fixture(scope="module")
def features_of(small_champion):
    return bundle_features(small_champion.store)


def test_every_vector_served_lead_by_lead_is_read_again_by_batch(small_champion, served, features_of):
    found = replay(served.read(), small_champion.tables, features_of)
    assert found.is_clean
    assert found.stored.vectors == served.count() > 100
    scorer = small_champion.scorer
    assert list(found.stored.features) == [feature.name for feature in scorer.features]
    # Not because there was nothing to read.
    for feature in scorer.features:
        values = {vector.values[feature.name] for vector in served.read()}
        assert len(values) > 1, feature.name
    assert (found.repeated, found.not_in_tables, found.ahead, found.torn) == (0, 0, 0, 0)


def changed_features(small_champion, lead, altered, as_of):
    """The model's features whose value in hand is another for the altered lead."""
    read = FeatureReader(small_champion.scorer.features)
    before, after = read(lead, as_of), read(altered, as_of)
    return {name for name in before if before[name] != after[name]}


def differing(section):
    return {name for name, counts in section.features.items() if counts["match"] < section.vectors}


@pytest.fixture(scope="module")
def victim(small_champion, served):
    """A served lead with a pricing view well before the last instant."""
    tables = small_champion.tables
    as_of = tables.observed_until
    for vector in served.read():
        lead = tables.lead(vector.lead_id)
        views = [e for e in lead.events if e.event_type == "pricing_view" and e.occurred < as_of - DAY]
        if vector.as_of == as_of and views:
            return lead, max(views, key=lambda event: event.occurred)
    raise AssertionError("no served lead viewed the pricing page")


def test_an_event_that_came_late_under_an_early_known_at_is_found_and_named(
    small_champion, served, features_of, victim
):
    tables, (lead, view) = small_champion.tables, victim
    as_of = tables.observed_until
    row = tables.events.filter(tables.events["event_id"] == view.event_id)
    late = row.mutate(
        event_id=ibis.literal("late"),
        occurred=ibis.literal(as_of - 100, "int64"),
        known=ibis.literal(as_of - 100, "int64"),
    )
    events = tables.events.union(late.select(*tables.events.columns).cast(tables.events.schema()))
    found = replay(served.read(), replace(tables, events=events), features_of)
    arrived = view._replace(event_id="late", occurred=as_of - 100, known=as_of - 100)
    altered = replace(lead, events=(*lead.events, arrived))
    expected = changed_features(small_champion, lead, altered, as_of)
    assert not found.is_clean
    assert found.stored.differing == 1
    assert "pricing_view_count_30d" in expected
    assert differing(found.stored) == expected
    assert {one.lead_id for one in found.stored.examples} == {lead.lead_id}
    # Honest about when it was learned of, the same event changes nothing that was served.
    honest = late.mutate(known=ibis.literal(as_of, "int64"))
    events = tables.events.union(honest.select(*tables.events.columns).cast(tables.events.schema()))
    assert replay(served.read(), replace(tables, events=events), features_of).is_clean


def test_a_deleted_history_makes_values_missing_and_a_stored_one_extra(
    small_champion, served, features_of, victim
):
    tables, (lead, _) = small_champion.tables, victim
    as_of = tables.observed_until
    gone = (tables.events["lead_id"] == lead.lead_id) & (tables.events["event_type"] == "pricing_view")
    without = replace(tables, events=tables.events.filter(~gone))
    own = [v for v in served.read() if v.lead_id == lead.lead_id and v.as_of == as_of]
    found = replay(own, without, features_of)
    assert found.stored.features["days_since_pricing_view"]["missing"] == 1
    altered = replace(lead, events=tuple(e for e in lead.events if e.event_type != "pricing_view"))
    assert differing(found.stored) == changed_features(small_champion, lead, altered, as_of)
    values = FeatureReader(small_champion.scorer.features)(altered, as_of)
    back = replay([replace(own[0], values=values)], tables, features_of)
    assert back.stored.features["days_since_pricing_view"]["extra"] == 1


def test_an_overwritten_immutable_attribute_is_found(small_champion, served, features_of):
    tables = small_champion.tables
    vector = next(v for v in served.read() if v.values["country"] is not None)
    leads = tables.leads.copy()
    leads.loc[leads["lead_id"] == vector.lead_id, "country"] = "Atlantis"
    found = replay(served.read(), replace(tables, leads=leads), features_of)
    assert differing(found.stored) == {"country"}
    (*_, example) = found.stored.examples
    assert (example.lead_id, example.served, example.batch) == (
        vector.lead_id,
        vector.values["country"],
        "Atlantis",
    )


def test_a_history_of_attributes_that_is_gone_makes_what_was_read_from_it_missing(
    small_champion, served, features_of
):
    scorer = small_champion.scorer
    dated = {one.name for one in scorer.features if isinstance(one, AttributeFeature) and one.history}
    found = replay(served.read(), replace(small_champion.tables, attribute_changes=None), features_of)
    assert dated
    assert differing(found.stored) == dated
    for name in dated:
        known = sum(vector.values[name] is not None for vector in served.read())
        assert found.stored.features[name]["missing"] == known


def test_a_bundle_that_is_gone_or_damaged_is_counted_and_stops_nothing(world, small_champion, served):
    own = list(served.read())
    wrong = own[0].bundle[:-4] + "0000"
    mixed = [
        replace(own[0], bundle="sha256:" + "0" * 64),
        replace(own[1], bundle="short"),
        replace(own[2], bundle=wrong),
        *own[3:6],
    ]
    found = replay(mixed, small_champion.tables, bundle_features(world.store))
    assert found.unknown_bundles == {"sha256:" + "0" * 64: 1, "short": 1, wrong: 1}
    assert found.stored.vectors == 3
    (world.store.path(own[0].bundle) / "model.txt").write_text("damaged")
    found = replay(mixed, small_champion.tables, bundle_features(world.store))
    assert found.stored.vectors == 0
    assert found.unknown_bundles[own[0].bundle] == 3
