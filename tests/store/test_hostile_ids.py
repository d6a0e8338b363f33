"""Ids that no lead can have: nobody is found, nothing breaks, on either database."""

import pytest

from predictive_scoring.errors import InvalidValue, UnknownJob, UnknownKey, UnknownLead
from predictive_scoring.keeping.store.erasure import erase_lead
from predictive_scoring.keeping.store.histories import read_leads
from predictive_scoring.keeping.store.identity import lead_of
from predictive_scoring.keeping.store.jobs import cancel, read_job
from predictive_scoring.keeping.store.keys import check_key, revoke_key
from predictive_scoring.keeping.store.scores import holding_scores, latest_scores, ranked
from predictive_scoring.keeping.store.subject import subject_report
from store_messages import NOON, event, ingested


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800", "'; DROP TABLE leads; --", "%", "x" * 10_000], ids=ascii)
def test_an_impossible_id_is_nobodys(store, odd):
    ingested(store, event("e1"))
    assert list(store.read(lambda tx: read_leads(tx, [odd, "L-1"]))) == ["L-1"]
    assert store.read(lambda tx: holding_scores(tx, [odd])) == {}
    assert store.read(lambda tx: latest_scores(tx, [odd])) == {}
    assert store.read(lambda tx: ranked(tx, search=odd)).total == 0
    assert store.read(lambda tx: check_key(tx, odd, NOON)) is None
    for ask, error in (
        (lambda tx: lead_of(tx, odd), UnknownLead),
        (lambda tx: subject_report(tx, odd), UnknownLead),
        (lambda tx: read_job(tx, odd), UnknownJob),
        (lambda tx: cancel(tx, odd, NOON), UnknownJob),
        (lambda tx: revoke_key(tx, odd, now=NOON), UnknownKey),
    ):
        with pytest.raises(error):
            store.write(ask)


@pytest.mark.parametrize("odd", ["", "a\0b", "a\ud800", "x" * 300], ids=ascii)
def test_an_impossible_id_cannot_be_erased(store, odd):
    with pytest.raises(InvalidValue):
        erase_lead(store, odd, now=NOON, actor="cli")
