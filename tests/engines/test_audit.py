"""The audit says the same on every engine, about a log with a bit of everything wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data.audit import audit_project
from predictive_scoring.data.engines import Engine
from predictive_scoring.data.sources import ProjectFile, open_tables
from predictive_scoring.settings import parse_project

pytestmark = pytest.mark.engine

PROJECT = """
name: faults
sources:
  leads: {path: leads.parquet}
  events: {path: events.parquet}
  attribute_changes: {path: changes.parquet}
attributes: {role: {type: category, label: Role, immutable: true}}
events: {visit: {label: Visit}, note: {label: Note}, sale: {label: Sale}}
event_properties: {seconds: number, topic: category, empty: number}
conversion: {event: sale, horizon: 30d}
cutoffs: {first: 2025-02-01T00:00:00Z, every: 14d}
readiness: {share: 0.1}
"""


def write_faults(folder: Path) -> None:
    """Doubled, late, date-only and back-dated events, a gap, a new unit, and a field overwritten after the sale."""
    rng = np.random.default_rng(8)
    start, n = pd.Timestamp("2025-01-01", tz="UTC"), 9000
    leads = pd.DataFrame({"lead_id": [f"L{number}" for number in range(400)], "created_at": start})
    moment = rng.integers(0, 200 * 86_400, n)
    visits = pd.DataFrame(
        {
            "lead_id": rng.choice(leads["lead_id"], n),
            "event_type": "visit",
            "occurred_at": start + pd.to_timedelta(moment, unit="s"),
            "seconds": np.exp(rng.normal(3, 1, n)) * np.where(moment < 100 * 86_400, 1, 1000),
            "topic": rng.choice(["a", "b"], n),
        }
    )
    visits = pd.concat([visits, visits.iloc[:40], visits.iloc[:9].assign(lead_id="nobody")])
    visits["known_at"] = visits["occurred_at"] + pd.to_timedelta(
        rng.choice([0, 60, 400_000], len(visits)), unit="s"
    )
    sold = leads.iloc[:200]
    sales = sold.assign(
        event_type="sale", occurred_at=start + pd.to_timedelta(rng.integers(40, 190, 200), unit="D")
    )
    sales["known_at"] = sales["occurred_at"]
    notes = sales.assign(event_type="note", occurred_at=sales["occurred_at"] - pd.Timedelta(days=3))
    notes["known_at"] = sales["occurred_at"] + pd.Timedelta(days=1)
    events = pd.concat([visits, sales, notes], ignore_index=True).drop(columns="created_at")
    events = events[(events["occurred_at"].dt.day_of_year // 2) != 40]
    events["event_id"] = [f"E{number}" for number in range(len(events))]
    events["empty"] = np.nan
    later = sales.assign(value="decider", occurred_at=sales["occurred_at"] + pd.Timedelta(days=1))
    changes = pd.concat([leads.assign(value="user", occurred_at=leads["created_at"]), later]).assign(
        attribute="role"
    )
    leads["role"] = np.where(np.arange(400) < 200, "decider", "user")
    leads.to_parquet(folder / "leads.parquet", index=False)
    events.to_parquet(folder / "events.parquet", index=False)
    changes[["lead_id", "attribute", "value", "occurred_at"]].to_parquet(
        folder / "changes.parquet", index=False
    )


def audited(folder: Path, engine: Engine | None = None):
    return audit_project(
        open_tables(ProjectFile(parse_project(PROJECT, "x"), folder / "scoring.yaml"), engine)
    )


def test_every_engine_finds_the_same(tmp_path: Path, engine: Engine) -> None:
    write_faults(tmp_path)
    expected, found = audited(tmp_path), audited(tmp_path, engine)
    codes = {finding.code for finding in expected.findings}
    assert {"PS111", "PS132", "PS135", "PS140", "PS142", "PS143", "PS144", "PS145", "PS146", "PS148"} <= codes
    assert found.findings == expected.findings
    assert found.to_document() == expected.to_document()
    assert found.log is not None
    assert expected.log is not None
    assert found.log.lags == expected.log.lags
