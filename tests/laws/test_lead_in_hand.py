"""Laws of the quick way to a score: what it shares, it may share, and it needs few libraries."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import CUTOFFS, FEATURES, INSTANTS, worlds
from predictive_scoring.features.aggregates import AGGREGATES, Reading, Seen
from predictive_scoring.features.definitions import AttributeFeature
from predictive_scoring.features.online import FeatureReader, seen_events
from predictive_scoring.model.columns import Column, encode, encode_values
from predictive_scoring.schema import AttributeChange
from predictive_scoring.timeline import DAY, WEEK

CHANGING = (
    AttributeFeature("title", "category", "Title", "Role", history=True),
    AttributeFeature("size", "number", "Size", "Company", history=True),
    AttributeFeature("country", "category", "Country", "Place"),
)
READER = FeatureReader((*FEATURES, *CHANGING))
MEGABYTES = 150
HEAVY = (
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "lightgbm",
    "ibis",
    "duckdb",
    "matplotlib",
    "mlflow",
    "sqlalchemy",
)

_CHANGES = st.lists(
    st.builds(
        lambda name, value, occurred, lag: AttributeChange(name, value, occurred, occurred + lag),
        st.sampled_from(("title", "size")),
        st.sampled_from(("1", "2", "")),
        INSTANTS,
        st.sampled_from((0, 1, WEEK)),
    ),
    max_size=4,
)


@settings(deadline=None)
@given(leads=worlds(most=3), changes=_CHANGES, earlier=st.sampled_from((1, DAY, WEEK, 40 * DAY)))
def test_two_cutoffs_read_together_are_the_two_read_apart(leads, changes, earlier):
    for lead in leads:
        changed = replace(lead, changes=tuple(changes), attributes={"title": "3", "country": "de"})
        for cutoff in CUTOFFS:
            now, before = READER.twice(changed, seen_events(changed, cutoff), cutoff, cutoff - earlier)
            assert now == READER(changed, cutoff)
            assert before == READER(changed, cutoff - earlier)


_AGES = st.lists(st.integers(1, 900 * DAY), min_size=1, max_size=30).map(sorted)
_LIVES = st.sampled_from((3600, 7 * DAY, 30 * DAY, 365 * DAY))


@given(st.lists(st.tuples(_AGES, _LIVES), min_size=1, max_size=6))
def test_fading_counts_together_are_those_one_by_one_to_the_last_bit(drawn):
    decayed = AGGREGATES["decayed"]
    shared = [(Seen(ages), Reading(half_life=life)) for ages, life in drawn]
    # Whole half-lives are powers of two, where a last bit decides.
    shared += [(Seen([life * n for n in range(1, 45)]), Reading(half_life=life)) for _, life in drawn]
    shared += [(seen, Reading(half_life=5 * DAY)) for seen, _ in shared]
    assert decayed.folds(shared) == [decayed.fold(seen, reading) for seen, reading in shared]


COLUMNS = (Column("n", "number"), Column("c", "category", ("a", "b")), Column("m", "number", (), 1))
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.floats(allow_nan=False),
            "c": st.none() | st.sampled_from(("a", "b", "other", "")),
            "m": st.none() | st.integers(-3, 3).map(float),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(rows=_ROWS)
def test_values_by_name_are_encoded_as_a_frame_is(rows):
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in "ncm"})
    assert np.array_equal(encode_values(rows, COLUMNS), encode(frame, COLUMNS), equal_nan=True)


PROGRAM = """
import json, sys
from pathlib import Path
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.schema import Event, Lead
from predictive_scoring.scoring import champion_scorer

scorer = champion_scorer(BundleStore(Path(sys.argv[1])))
start = 1_770_000_000
events = tuple(Event(f"e{n}", "page_view", start + n, start + n) for n in range(100))
score = scorer.score(Lead("L", start, {"country": "DE"}, events), start + 40 * 86_400)
pages = int(Path("/proc/self/statm").read_text().split()[1])
told = {"status": score.status, "loaded": sorted({name.partition(".")[0] for name in sys.modules}), "rss": pages * 4096}
print(json.dumps(told))
"""


def test_a_process_that_scores_a_lead_in_hand_loads_no_heavy_library(small_champion):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_champion.store.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["status"] == "scored"
    assert not set(HEAVY) & set(told["loaded"])
    assert told["rss"] < MEGABYTES * 2**20
