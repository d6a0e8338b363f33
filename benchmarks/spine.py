"""The spine against named peers, one JSON line per case: `case ours peer ratio goal met`.

    score quality   bank marketing in date order, log-loss on the newest fifth (lower is better), against
                    scikit-learn's HistGradientBoosting and logistic regression fitted on the same rows
    one lead        feature vector by `fold`, milliseconds, against the same definitions as a query on DuckDB

Peer and ours run in this one process. A ratio below 1 means ours is better in every case here.
`--quick` leaves out the quality case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.features.batch import feature_table
from predictive_scoring.features.catalog import catalog, views_of
from predictive_scoring.features.definitions import EventFeature, features_of
from predictive_scoring.features.online import feature_values
from predictive_scoring.schema import LEAD_CREATED, Event, Lead
from predictive_scoring.timeline import DAY
from predictive_scoring.training import fit_candidate

BANK = Path(__file__).parent.parent / "data" / "projects" / "bank_marketing" / "scoring.yaml"


def report(case: str, ours: float, peer: float, goal: float) -> None:
    """Print one case; `met` when ours / peer is at most `goal`."""
    ratio = ours / peer
    line = {"case": case, "ours": ours, "peer": peer, "ratio": ratio, "goal": goal, "met": ratio <= goal}
    print(
        json.dumps(
            {key: round(value, 5) if isinstance(value, float) else value for key, value in line.items()}
        )
    )


def quality() -> None:
    """Log-loss on the newest fifth of the bank data; everything before it is the peers' training data."""
    loaded = load_project(BANK)
    tables = open_tables(loaded)
    ours = fit_candidate(loaded, tables).test.log_loss
    dataset = build_dataset(tables, views_of(loaded.project))
    known, labels, _ = dataset.rows("train", "calibrate")
    test, truth, _ = dataset.rows("test")
    texts = make_column_selector(dtype_include=object)
    numbers = make_column_selector(dtype_exclude=object)
    trees = make_pipeline(
        make_column_transformer(
            (
                OrdinalEncoder(
                    handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
                ),
                texts,
            ),
            remainder="passthrough",
        ),
        HistGradientBoostingClassifier(random_state=0),
    )
    linear = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), texts), (StandardScaler(), numbers)),
        LogisticRegression(max_iter=2000),
    )
    medians = known.select_dtypes("number").median()
    for name, peer in (("hist_gradient_boosting", trees), ("logistic_regression", linear)):
        fitted = peer.fit(_filled(known, medians), labels)
        loss = log_loss(truth, fitted.predict_proba(_filled(test, medians))[:, 1])
        report(f"bank_in_order_log_loss_vs_{name}", ours, float(loss), 1.0)


def _filled(frame: pd.DataFrame, medians: pd.Series) -> pd.DataFrame:
    """Peers that refuse missing values get medians and the text `missing`."""
    texts = {name: frame[name].fillna("missing") for name in frame.columns if name not in medians.index}
    return frame.fillna(medians).assign(**texts)


def one_lead(events: int = 200) -> None:
    """Milliseconds for the shipped catalogue's features of one lead with `events` events."""
    import ibis

    features = [feature for feature in features_of(catalog().values()) if isinstance(feature, EventFeature)]
    types = sorted({kind for feature in features for kind in feature.event_types} - {LEAD_CREATED})
    draw = np.random.default_rng(1)
    now = 1_780_000_000
    lead = Lead(
        "L-1",
        now - 400 * DAY,
        {},
        tuple(
            Event(
                str(number),
                types[draw.integers(len(types))],
                occurred,
                occurred,
                {"duration_seconds": 30.0, "topic": "roi"},
            )
            for number, occurred in enumerate((now - draw.integers(1, 300 * DAY, events)).tolist())
        ),
    )
    connection = ibis.duckdb.connect()
    rows = [
        {"lead_id": "L-1", "event_id": e.event_id, "event_type": e.event_type, "occurred": e.occurred, "known": e.known,
         **e.properties}
        for e in lead.events
    ]  # fmt: skip
    table = connection.create_table("events", pd.DataFrame(rows))
    observation = connection.create_table(
        "observations", pd.DataFrame({"observation_id": [0], "lead_id": ["L-1"], "cutoff": [now]})
    )
    query = ibis.to_sql(feature_table(observation, table, features), dialect="duckdb")
    folded = _milliseconds(lambda: feature_values(lead, now, features), 200)
    queried = _milliseconds(lambda: connection.con.sql(str(query)).fetchall(), 20)
    report(f"one_lead_{events}_events_fold_ms_vs_duckdb_query_ms", folded, queried, 0.1)


def _milliseconds(call: Callable[[], object], times: int) -> float:
    """Median of single calls, after one that is not counted."""
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the quality case")
    arguments = parser.parse_args()
    one_lead()
    if not arguments.quick:
        quality()
