"""The data contract: each fault that an export can have is found by its own code, and a sound log has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data import audit as audit_module
from predictive_scoring.data.audit import audit_project, data_findings, remedies
from predictive_scoring.data.audit_log import profile_log
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.data.units import unit_jump
from predictive_scoring.schema import Finding
from predictive_scoring.settings import parse_project

ROOT = Path(__file__).parents[3]
START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS, LEADS = 210, 300
PROJECT = """
name: contract
sources: {leads: {path: leads.parquet}, events: {path: events.parquet}CHANGES}
attributes:
  title: {type: category, label: Job title, immutable: true}
  employees: {type: number, label: Employees, immutable: true}
events: {visit: {label: Visit}, click: {label: Click}, sale: {label: Sale}}
event_properties: {seconds: number, topic: category}
conversion: {event: sale, horizon: 30d}
cutoffs: {first: 2025-02-01T00:00:00Z, every: 14d}
readiness: {share: 0.1}
WAIVERS
"""

Frames = tuple[pd.DataFrame, pd.DataFrame]


def sound() -> Frames:
    """A log without a fault: 300 leads, some 60 events a day for 30 weeks, each known within minutes."""
    rng = np.random.default_rng(20261121)
    lead = [f"L{number}" for number in range(LEADS)]
    n = 60 * DAYS
    moment = np.sort(rng.integers(0, DAYS * 86_400, n))
    kind = rng.choice(["visit", "click", "sale"], n, p=[0.7, 0.285, 0.015])
    events = pd.DataFrame(
        {
            "event_id": [f"E{number}" for number in range(n)],
            "lead_id": rng.choice(lead, n),
            "event_type": kind,
            "occurred_at": START + pd.to_timedelta(moment, unit="s"),
            "known_at": START + pd.to_timedelta(moment + rng.integers(1, 600, n), unit="s"),
            "seconds": np.where(kind == "visit", np.exp(rng.normal(3, 1, n)), np.nan),
            "topic": rng.choice(["a", "b", "c"], n),
        }
    )
    leads = pd.DataFrame(
        {
            "lead_id": lead,
            "created_at": START - pd.to_timedelta(rng.integers(1, 200, LEADS), unit="D"),
            "title": rng.choice(["CEO", "Buyer", "Engineer"], LEADS),
            "employees": np.exp(rng.normal(4, 1, LEADS)).round(),
        }
    )
    return leads, events


def opened(folder: Path, frames: Frames, *, changes: pd.DataFrame | None = None, more: str = "") -> Tables:
    for name, frame in zip(("leads", "events"), frames, strict=True):
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    if changes is not None:
        changes.to_parquet(folder / "changes.parquet", index=False)
    text = PROJECT.replace(
        "CHANGES", "" if changes is None else ", attribute_changes: {path: changes.parquet}"
    )
    project = parse_project(text.replace("WAIVERS", more), "scoring.yaml")
    return open_tables(ProjectFile(project, folder / "scoring.yaml"))


def by_code(tables: Tables) -> dict[str, Finding]:
    return {finding.code: finding for finding in data_findings(tables)}


def day(number: int) -> pd.Timestamp:
    return START + pd.Timedelta(days=number)


def test_a_sound_log_has_no_finding(tmp_path: Path) -> None:
    assert by_code(opened(tmp_path, sound())) == {}


def _empty_property(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads, events.assign(seconds=np.nan)


def _constant_property(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads, events.assign(topic="a")


def _slow_import(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    late = np.arange(len(events)) % 20 == 0
    return leads, events.assign(
        known_at=events["known_at"].mask(late, events["known_at"] + pd.Timedelta(days=3))
    )


def _dates_only(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    berlin = events["occurred_at"].dt.tz_convert("Europe/Berlin").dt.normalize().dt.tz_convert("UTC")
    clicked = events["event_type"] == "click"
    return leads, events.assign(occurred_at=events["occurred_at"].mask(clicked, berlin))


def _logged_twice(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    again = events[events["event_type"] == "click"].iloc[:50]
    return leads, pd.concat([events, again.assign(event_id="again-" + again["event_id"])])


def _milliseconds(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    later = events["occurred_at"] >= day(130)
    return leads, events.assign(seconds=events["seconds"].mask(later, events["seconds"] * 1000))


def _outage(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads, events[(events["occurred_at"] < day(100)) | (events["occurred_at"] >= day(102))]


def _renamed_type(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads, events[(events["event_type"] != "click") | (events["occurred_at"] < day(120))]


def _new_type(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads, events[(events["event_type"] != "click") | (events["occurred_at"] >= day(90))]


def _imported_leads(leads: pd.DataFrame, events: pd.DataFrame) -> Frames:
    return leads.assign(created_at=day(150)), events


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (_empty_property, "PS140", "'seconds'"),
        (_constant_property, "PS141", "'topic'"),
        (_slow_import, "PS142", "5.0%"),
        (_dates_only, "PS143", "click"),
        (_logged_twice, "PS144", "50 events"),
        (_milliseconds, "PS145", "factor of 1000"),
        (_outage, "PS146", "2025-04-11, 2025-04-12"),
        (_renamed_type, "PS147", "'click' stops on 2025-04-30"),
        (_new_type, "PS147", "'click' starts only on 2025-04-01"),
        (_imported_leads, "PS117", "before their lead's creation"),
    ],
)
def test_each_fault_has_its_code(
    tmp_path: Path, break_it: Callable[..., Frames], code: str, words: str
) -> None:
    found = by_code(opened(tmp_path, break_it(*sound())))
    assert words in found[code].what
    # Faults have consequences (an import after the events puts events before the leads), but few.
    assert set(found) <= {code, "PS110"}
    assert found[code].remedy


def test_a_number_that_changes_its_unit_with_new_leads(tmp_path: Path) -> None:
    leads, events = sound()
    leads["created_at"] = START - pd.to_timedelta(np.arange(LEADS) * 240 // LEADS, unit="D")
    # Entered in full at first, in thousands later.
    leads["employees"] *= np.where(leads["created_at"] < START - pd.Timedelta(days=120), 1000, 1)
    found = by_code(opened(tmp_path, (leads, events)))
    assert found["PS145"].where == "attributes.employees"
    assert "0.001" in found["PS145"].what


def test_an_immutable_attribute_that_changes(tmp_path: Path) -> None:
    leads, events = sound()
    changed = leads.iloc[:30]
    rows = pd.concat(
        [
            leads.assign(value="Student", at=leads["created_at"]).iloc[:30],
            changed.assign(value=changed["title"], at=day(50)),
        ]
    )
    changes = pd.DataFrame(
        {"lead_id": rows["lead_id"], "attribute": "title", "value": rows["value"], "occurred_at": rows["at"]}
    )
    found = by_code(opened(tmp_path, (leads, events), changes=changes))
    assert found["PS148"].where == "attributes.title"
    assert found["PS148"].count == 30
    # Today's value is the one at creation: nothing to say.
    assert "PS148" not in by_code(opened(tmp_path, (leads, events), changes=changes[changes["value"] != "Student"]
                                         .assign(occurred_at=START - pd.Timedelta(days=300))))  # fmt: skip


def test_a_period_with_few_conversions_is_told(tmp_path: Path) -> None:
    leads, events = sound()
    events = events[(events["event_type"] != "sale") | (np.arange(len(events)) % 7 == 0)]
    report = audit_project(opened(tmp_path, (leads, events)))
    assert "PS104" in {finding.code for finding in report.findings}
    assert any("period has only" in missing for missing in report.readiness.missing)


def test_an_event_type_that_only_buyers_have_is_suspected_where_a_feature_reads_it(tmp_path: Path) -> None:
    leads, events = sound()
    signed = events[events["event_type"] == "sale"].drop_duplicates("lead_id")
    signed = signed.assign(
        event_id="signed-" + signed["event_id"],
        event_type="click",
        occurred_at=signed["occurred_at"] - pd.Timedelta(days=45),
        known_at=signed["known_at"] - pd.Timedelta(days=45),
    )
    frames = leads, pd.concat([events[events["event_type"] != "click"], signed])
    view = "{aggregate: ever, events: [click], label: Contract signed, concept: Contract}"
    report = audit_project(
        opened(tmp_path, frames, more=f"feature_views: [{{name: own, features: [{view}]}}]")
    )
    assert ("PS130", "ever_click", "refused") in {
        (one.code, one.feature, one.verdict) for one in report.leaks
    }
    assert report.exit_code == 3
    assert "feature_views" in remedies(opened(tmp_path, frames).project, report.refused)
    assert audit_project(opened(tmp_path, frames)).exit_code == 0


def test_columns_set_aside_and_waivers_without_a_finding_are_told(tmp_path: Path) -> None:
    more = (
        "leaks: {stage: written by sales}\nwaivers: [{code: PS130, feature: title, reason: looked into it}]"
    )
    report = audit_project(opened(tmp_path, sound(), more=more))
    told = {finding.code: finding for finding in report.findings}
    assert "written by sales" in told["PS136"].what
    assert told["PS136"].severity == "info"
    assert "PS130" in told["PS137"].what
    assert report.to_document()["set_aside"] == {"stage": "written by sales"}
    assert report.exit_code == 0


def test_lags_are_counted_once(tmp_path: Path) -> None:
    leads, events = sound()
    profile = profile_log(opened(tmp_path, (leads, events)))
    assert sum(profile.lags.values()) == len(events) == int(profile.daily["number"].sum())
    assert profile.lags["up to 1 hour"] == len(events)


def test_a_growing_business_has_no_change_of_unit() -> None:
    months = pd.Series(range(24))
    counts = pd.Series([50] * 24)
    growing = pd.Series(np.log(2.0) * np.arange(24))
    assert unit_jump(months, growing, counts) is None
    assert unit_jump(months, pd.Series(np.where(np.arange(24) % 12 < 2, 2.3, 0.0)), counts) is None
    jumped = pd.Series(np.where(np.arange(24) >= 9, np.log(60.0), 0.0))
    assert unit_jump(months, jumped, counts) == (60.0, 9)
    assert unit_jump(months, jumped, counts - 30) is None


def test_every_code_that_can_be_emitted_is_documented_and_no_other() -> None:
    emitted = {
        code
        for name in ("audit", "audit_log", "audit_columns", "leak_screen", "units")
        for code in re.findall(
            r'"(PS\d{3})"', (ROOT / f"src/predictive_scoring/data/{name}.py").read_text("utf-8")
        )
    }
    drawn = re.findall(r"(PS\d{3}) (error|warning|info)", str(audit_module.__doc__))
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    rows = re.findall(r"^\| `(PS\d{3})` \| (error|warning|info)", page, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {code for code, _ in drawn} == emitted
    assert sorted(rows) == sorted(drawn)
