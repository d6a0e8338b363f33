"""The audit names what is wrong with the data, by stable code, and leaves sound data alone."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data.audit import audit_project, data_findings
from predictive_scoring.data.leak_screen import suspicious_word
from predictive_scoring.data.simulator import SimulationConfig, World, simulate
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.settings import parse_project

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data")
END = "2025-10-28T00:00:00Z"
LOG = """
name: world
sources: {{leads: {{path: leads.parquet}}, events: {{path: events.parquet}}, touches: {{path: touches.parquet}}}}
attributes:
  title: {{type: category, label: Job title, immutable: true}}
  company_size: {{type: number, label: Employees, immutable: true}}
  country: {{type: category, label: Country, immutable: true}}
{attributes}
events:
{events}
  never_seen: {{label: Never seen}}
event_properties: {{duration_seconds: number, topic: category}}
conversion: {{event: {conversion}, horizon: 30d{expected}}}
observed_until: {until}
cutoffs: {{first: 2025-03-01T00:00:00Z, every: 14d}}
feature_views: [visits]
readiness: {{share: 0.1}}
contact: {{consent: {{email: consent_email}}, opted_out: opted_out}}
"""
SNAPSHOT = """
name: rows
sources: {{snapshot: {{path: rows.parquet}}}}
observed_until: 2026-01-01T00:00:00Z
conversion: {{column: won, positive: "1", horizon: 30d}}
attributes:
{attributes}
readiness: {{share: 0.1}}
"""


def data_folder(name: str) -> Path:
    """A public data set; absent, it fails in CI and is skipped elsewhere."""
    folder = DATA / name
    if not folder.is_dir():
        reason = f"no folder {folder}; set PREDICTIVE_SCORING_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SimulationConfig(seed=11, leads=900, days=300))


def opened(
    folder: Path,
    world: World,
    *,
    leads: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    touches: pd.DataFrame | None = None,
    attributes: str = "",
    conversion: str = "opportunity_created",
    until: str = END,
    undeclared: tuple[str, ...] = (),
    expected_rate: float | None = None,
) -> Tables:
    types = sorted({*world.events["event_type"], conversion} - set(undeclared))
    text = LOG.format(
        attributes=attributes,
        events="\n".join(f"  {name}: {{label: {name}}}" for name in types),
        conversion=conversion,
        until=until,
        expected="" if expected_rate is None else f", expected_rate: {expected_rate}",
    )
    given = {"leads": leads, "events": events, "touches": touches}
    for name, frame in given.items():
        (getattr(world, name) if frame is None else frame).to_parquet(folder / f"{name}.parquet")
    return open_tables(ProjectFile(parse_project(text, "scoring.yaml"), folder / "scoring.yaml"))


def snapshot(folder: Path, frame: pd.DataFrame) -> Tables:
    """The frame as a snapshot whose outcome is the column `won`; every other column is an attribute."""
    kinds = {
        name: "number" if pd.api.types.is_numeric_dtype(frame[name]) else "category"
        for name in frame.columns
        if name not in ("won", "lead_id")
    }
    text = SNAPSHOT.format(
        attributes="\n".join(f"  {name}: {{type: {kind}, label: {name}}}" for name, kind in kinds.items())
    )
    frame.to_parquet(folder / "rows.parquet")
    return open_tables(ProjectFile(parse_project(text, "scoring.yaml"), folder / "scoring.yaml"))


def codes(tables: Tables) -> dict[str, str]:
    """Severity by code of everything but information."""
    return {
        finding.code: finding.severity
        for finding in audit_project(tables).findings
        if finding.severity != "info"
    }


def found(tables: Tables, code: str, **named: object):
    chosen = [finding for finding in data_findings(tables, **named) if finding.code == code]
    assert len(chosen) == 1, chosen
    return chosen[0]


def test_a_sound_world_has_no_warning_and_is_ready(tmp_path: Path, world: World) -> None:
    tables = opened(tmp_path, world)
    report = audit_project(tables)
    findings = report.findings
    assert {finding.code for finding in findings} == {"PS113", "PS120"}
    assert set(data_findings(tables)) == set(findings)
    assert "never_seen" in found(tables, "PS113").what
    assert "industry" in next(f for f in findings if f.code == "PS120" and f.where == "sources.leads").what
    assert report.ready_to_train
    assert report.exit_code == 0
    assert report.summary.startswith("900 leads, ")
    document = json.loads(json.dumps(report.to_document()))
    assert document["leads"] == 900
    assert document["events"] == len(world.events)
    assert document["conversions"] == int((world.events["event_type"] == "opportunity_created").sum())
    assert set(document["examples"]) == {"train", "calibrate", "test"}
    assert all(0 < part["conversions"] < part["examples"] for part in document["examples"].values())
    assert len(document["findings"]) == len(findings)


def test_times_that_cannot_be_are_counted_with_an_example(tmp_path: Path, world: World) -> None:
    events = world.events.copy()
    created = world.leads.set_index("lead_id")["created_at"]
    born = events["lead_id"].map(created)
    events.loc[:4, "occurred_at"] = born[:5] - pd.Timedelta(days=3)
    events.loc[10:12, "known_at"] = events.loc[10:12, "occurred_at"] - pd.Timedelta(hours=1)
    events.loc[20, ["occurred_at", "known_at"]] = pd.Timestamp("2031-01-01", tz="UTC")
    leads = world.leads.copy()
    leads.loc[leads.index[-1], "created_at"] = pd.Timestamp("2031-01-02", tz="UTC")
    events = events[events["lead_id"] != leads["lead_id"].iloc[-1]]
    tables = opened(tmp_path, world, leads=leads, events=events)
    early, late, foresight = (found(tables, code) for code in ("PS110", "PS114", "PS115"))
    assert (early.count, late.count, foresight.count) == (5, 1, 3)
    assert early.example is not None
    assert "lead created" in early.example
    assert {early.severity, late.severity, foresight.severity} == {"warning"}
    assert found(tables, "PS116").count == 1
    assert int(tables.events.count().to_pandas()) == len(events) + len(leads)  # warned, and kept


def test_an_event_at_the_second_of_creation_or_of_the_end_is_sound(tmp_path: Path, world: World) -> None:
    events = world.events.copy()
    first = events.index[0]
    events.loc[first, "occurred_at"] = world.leads.set_index("lead_id")["created_at"][
        events.loc[first, "lead_id"]
    ]
    events.loc[first, "known_at"] = events.loc[first, "occurred_at"]
    until = events["occurred_at"].max().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert codes(opened(tmp_path, world, events=events, until=until)) == {}


def test_strangers_are_counted(tmp_path: Path, world: World) -> None:
    events, touches = world.events.copy(), world.touches.copy()
    events.loc[:6, "lead_id"] = "L-nobody"
    events.loc[7, "lead_id"] = "L-nobody-else"
    touches.loc[:1, "lead_id"] = "L-nobody"
    tables = opened(tmp_path, world, events=events, touches=touches, undeclared=("webinar_attend", "call"))
    assert found(tables, "PS111").count == 8
    assert found(tables, "PS126").count == 2
    undeclared = found(tables, "PS112")
    assert "webinar_attend (" in undeclared.what
    assert undeclared.count == int(events["event_type"].isin(["webinar_attend", "call"]).sum())
    known = set(world.touches["action_id"])
    assert not [finding for finding in data_findings(tables, actions=known) if finding.code == "PS127"]
    gone = touches["action_id"].iloc[0]
    strange = found(tables, "PS127", actions=known - {gone})
    assert strange.count == int((touches["action_id"] == gone).sum())


def test_the_reserved_event_type_is_named(tmp_path: Path, world: World) -> None:
    events = world.events.copy()
    events.loc[:2, "event_type"] = "lead_created"
    assert found(opened(tmp_path, world, events=events), "PS118").count == 3


def test_a_conversion_that_never_occurs_is_an_error(tmp_path: Path, world: World) -> None:
    tables = opened(tmp_path, world, conversion="contract_signed")
    report = audit_project(tables)
    findings = report.findings
    assert findings[0].code == "PS101"
    assert findings[0].severity == "error"
    assert "page_view" in findings[0].remedy
    assert not report.ready_to_train
    assert report.exit_code == 2
    assert report.examples == {}
    assert [finding.code for finding in report.findings].count("PS101") == 1


@pytest.mark.parametrize("kept", [5, 30])
def test_few_conversions_are_a_warning_with_a_way_out(tmp_path: Path, world: World, kept: int) -> None:
    converted = world.events[world.events["event_type"] == "opportunity_created"]
    first_cutoff = pd.Timestamp("2025-03-01", tz="UTC")
    few_left = converted[converted["occurred_at"] > first_cutoff].sort_values("occurred_at").index[:kept]
    audit = audit_project(
        opened(tmp_path, world, events=world.events.drop(converted.index.difference(few_left)))
    )
    (few,) = [finding for finding in audit.findings if finding.code == "PS102"]
    assert (few.severity, few.count) == ("warning", kept)
    assert "points" in few.remedy
    assert audit.exit_code == 0
    assert audit.verdict == ("ready to train, by a points card" if kept < 10 else "ready to train")
    if kept < 10:
        assert "points card" in few.what
        # Nothing is held out, so nothing is said about periods that do not exist.
        assert list(audit.examples) == ["train"]
        assert {"PS104", "PS105"}.isdisjoint({finding.code for finding in audit.findings})


def test_nobody_has_converted_yet_is_a_start_if_a_rate_is_expected(tmp_path: Path, world: World) -> None:
    tables = opened(tmp_path, world, conversion="contract_signed", expected_rate=0.02)
    audit = audit_project(tables)
    assert audit.exit_code == 0
    (few,) = [finding for finding in audit.findings if finding.code == "PS102"]
    assert "the 2.00% you expect" in few.what
    assert "PS101" not in {finding.code for finding in audit.findings}


def test_a_history_shorter_than_three_horizons_is_told(tmp_path: Path, world: World) -> None:
    tables = opened(tmp_path, world, until="2025-05-20T00:00:00Z")
    (short,) = [finding for finding in audit_project(tables).findings if finding.code == "PS106"]
    assert (short.severity, "drawn by lot" in short.what) == ("warning", True)


def test_no_matured_example_is_an_error(tmp_path: Path, world: World) -> None:
    tables = opened(tmp_path, world, until="2025-03-10T00:00:00Z")
    report = audit_project(tables)
    assert report.exit_code == 2
    assert [finding.code for finding in report.findings if finding.severity == "error"] == ["PS103"]


def test_empty_constant_and_endless_columns_are_named(tmp_path: Path, world: World) -> None:
    leads = world.leads.assign(
        empty=pd.Series(None, index=world.leads.index, dtype="str"),
        same="x",
        code=[f"c{number}" for number in range(len(world.leads))],
        consent_email=pd.Series(None, index=world.leads.index, dtype="boolean"),
    )
    extra = "\n".join(
        f"  {name}: {{type: category, label: {name}, immutable: true}}" for name in ("empty", "same", "code")
    )
    assert codes(opened(tmp_path, world, leads=leads, attributes=extra)) == {
        "PS121": "warning",
        "PS122": "warning",
        "PS123": "warning",
        "PS125": "warning",
    }


@pytest.mark.parametrize(
    "name",
    ["status", "LeadStage", "Tags", "lead-quality", "Lead Quality", "owner", "opportunity_name", "is_closed", "won",
     "lost_reason", "duration", "last_notable_activity", "Last Notable Activity", "converted"],
)  # fmt: skip
def test_names_of_things_known_afterwards(name: str) -> None:
    assert suspicious_word(name)


@pytest.mark.parametrize(
    "name",
    [
        "marital_status",
        "home_ownership",
        "home_owner",
        "title",
        "country",
        "wonder",
        "cost",
        "percentage",
        "poutcome",
    ],
)
def test_names_that_only_look_alike(name: str) -> None:
    assert suspicious_word(name) is None


def test_the_screen_is_relative_to_the_base_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(20261121)
    n = 8000
    won = rng.random(n) < 0.02
    frame = pd.DataFrame(
        {
            "won": won.astype(int),
            # Half the overall rate: an honest level although it converts at 1 %.
            "honest": np.where(rng.random(n) < np.where(won, 0.15, 0.3), "a", "b"),
            "noise": rng.normal(size=n),
            "empty_unless_won": np.where(won & (rng.random(n) < 0.9), "signed", None),
            "amount": np.where(won, rng.normal(5, 1, n), rng.normal(2, 1, n)),
            "never": np.where(~won & (rng.random(n) < 0.3), "no budget", "open"),
        }
    )
    tables = snapshot(tmp_path, frame)
    named = {finding.where for finding in audit_project(tables).findings if finding.code == "PS130"}
    assert named == {"attributes.amount", "attributes.never", "attributes.empty_unless_won"}
    assert any(finding.code == "PS124" for finding in audit_project(tables).findings)


def test_unique_texts_do_not_look_like_a_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"won": (rng.random(2000) < 0.2).astype(int), "code": [f"c{n}" for n in range(2000)]}
    )
    assert codes(snapshot(tmp_path, frame)) == {"PS123": "warning"}


@pytest.mark.data
def test_page_values_is_found_unaided(tmp_path: Path) -> None:
    frame = pd.read_csv(data_folder("online_shoppers_uci") / "online_shoppers_intention.csv")
    tables = snapshot(tmp_path, frame.assign(won=frame.pop("Revenue").astype(int)))
    leaking = [finding for finding in audit_project(tables).findings if finding.code == "PS130"]
    assert [finding.where for finding in leaking] == ["attributes.PageValues"]
    assert "AUC 0.9" in leaking[0].what
