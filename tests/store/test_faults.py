"""What the store survives: killed writers, a full disk, a database that stops. The long form is in tests/faults."""

import random
import secrets

import pytest

from predictive_scoring.errors import StoreUnavailable
from predictive_scoring.keeping.store.opening import open_store
from store_kills import first_refusal, judge, kill_writers
from store_messages import event, ingested


def test_a_killed_writer_leaves_no_partial_batch_and_loses_none_that_was_answered(store, url, tmp_path):
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    kill_writers(url, tmp_path, random.Random(seed), 0, writers=2)
    kept, acknowledged = judge(store, tmp_path)
    assert kept >= acknowledged > 0
    assert ingested(store, event("after")) == ["accepted"]


def test_a_full_disk_is_a_named_error_and_the_store_works_afterwards(template, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (tmp_path / "store.db").write_bytes(template.read_bytes())
    assert first_refusal(url, tmp_path, "w", limit=2_000_000).startswith("StoreUnavailable")
    store = open_store(url)
    kept, acknowledged = judge(store, tmp_path)
    assert kept == acknowledged > 3
    assert ingested(store, event("after")) == ["accepted"]
    store.close()


def test_a_database_that_was_stopped_and_started_is_found_again(server):
    store = open_store(server.get_uri(database="postgres"))
    ingested(store, event("before"))
    server.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as refused:
            ingested(store, event("meanwhile"))
        with pytest.raises(StoreUnavailable):
            store.read(lambda tx: tx.counter("history"))
    assert refused.value.exit_code == 4
    server.ensure_postgres_running()
    assert ingested(store, event("before"), event("after")) == ["duplicate", "accepted"]

    # Ended in the middle of a transaction: nothing of it is kept.
    def stopping(tx):
        tx.lock("history")
        server.stop()
        server.ensure_postgres_running()
        tx.lock("history")

    with pytest.raises(StoreUnavailable, match=r"stopped|reached|starting"):
        store.write(stopping)
    assert ingested(store, event("after"), event("later")) == ["duplicate", "accepted"]
    store.close()
