"""Today's attributes by whichever of a lead's ids, in both databases."""

from predictive_scoring.keeping.store.histories import attributes_behind
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from store_messages import NOON, identify


def test_attributes_are_found_by_every_id_of_a_lead(store):
    merge = Message("m", NOON + 2, NOON + 3, "B", previous_id="C")
    told = [identify("1", "A", opted_out=True), identify("2", "B", title="VP"), merge]
    store.write(lambda tx: ingest(tx, told))
    asked = ["A", "B", "C", "nobody", "A", 'it\'s "quoted" {é}', "never\x00stored"]
    found = store.read(lambda tx: attributes_behind(tx, asked))
    assert found == {"A": {"opted_out": True}, "B": {"title": "VP"}, "C": {"title": "VP"}}
    assert store.read(lambda tx: attributes_behind(tx, [])) == {}
