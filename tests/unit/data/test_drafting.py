"""A drafted project file parses, opens, and says why it guessed what it guessed."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data.audit import audit_project
from predictive_scoring.data.drafting import Draft, draft_project
from predictive_scoring.data.guesses import event_label, plain, scalar, shipped_type
from predictive_scoring.data.simulator import SimulationConfig, World, simulate
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.document import parse_yaml
from predictive_scoring.errors import InvalidSetting, UnreadableFile
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.definitions import features_of
from predictive_scoring.settings import Project, parse_project
from predictive_scoring.timeline import parse_instant

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data")
TODAY = parse_instant("2026-11-21T00:00:00Z")


def data_file(name: str) -> Path:
    """A public data file; absent, it fails in CI and is skipped elsewhere."""
    path = DATA / name
    if not path.is_file():
        reason = f"no file {path}; set PREDICTIVE_SCORING_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SimulationConfig(seed=3, leads=700, days=300, leaks=("suspicious_name",)))


def drafted(
    folder: Path, *paths: Path, outcome: str | None = None, today: int = TODAY
) -> tuple[Draft, Project, Tables]:
    draft = draft_project(paths, relative_to=folder, today=today, outcome=outcome)
    project = parse_project(draft.text, "scoring.yaml")
    return draft, project, open_tables(ProjectFile(project, folder / "scoring.yaml"))


def rows(folder: Path, **columns: object) -> Path:
    path = folder / "rows.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.data
def test_online_shoppers_as_it_is(tmp_path: Path) -> None:
    source = data_file("online_shoppers_uci/online_shoppers_intention.csv")
    draft, project, tables = drafted(tmp_path, source)
    assert (project.conversion.column, project.conversion.positive) == ("Revenue", "TRUE")
    assert "AUC 0.8" in project.leaks["PageValues"]
    assert project.attributes["Browser"].type == "category"  # a code, not a quantity
    assert "Placeholder" in draft.text
    assert project.observed_until == TODAY
    report = audit_project(tables)
    assert report.ready_to_train
    assert any("PageValues" in finding.what for finding in report.findings)
    assert any("PageValues" in note and "AUC" in note for note in draft.notes)
    assert project.attributes["Month"].type == "category"


@pytest.mark.data
def test_bank_additional_proposes_duration_as_a_leak(tmp_path: Path) -> None:
    draft, project, tables = drafted(
        tmp_path, data_file("bank_marketing_uci/bank-additional/bank-additional.csv")
    )
    source = project.sources.snapshot
    assert source is not None
    assert (source.separator, source.missing) == (";", ("unknown",))
    assert (project.conversion.column, project.conversion.positive) == ("y", "yes")
    assert list(project.leaks) == ["duration"]
    assert any("duration" in note for note in draft.notes)
    assert len(tables.leads) == 4119
    assert tables.leads["default"].isna().any()
    assert project.attributes["poutcome"].type == "category"


def test_canonical_log_is_read_as_it_is(tmp_path: Path, world: World) -> None:
    for name in ("leads", "events", "touches"):
        getattr(world, name).to_parquet(tmp_path / f"{name}.parquet")
    # In no particular order: tables are recognised by their columns.
    paths = [tmp_path / f"{name}.parquet" for name in ("touches", "leads", "events")]
    draft, project, tables = drafted(tmp_path, *paths)
    for source in (project.sources.leads, project.sources.events, project.sources.touches):
        assert source is not None
        assert source.path is not None
    assert project.conversion.event == "opportunity_created"
    assert set(project.attributes) == {
        "seniority",
        "department",
        "industry",
        "company_size",
        "country",
        "source",
    }
    assert (project.attributes["seniority"].of, project.attributes["seniority"].transform) == (
        "title",
        "seniority",
    )
    assert project.attributes["country"].transform == "country"
    assert project.attributes["company_size"].transform is None  # numbers need no normal form
    assert all(attribute.immutable for attribute in project.attributes.values())
    assert list(project.leaks) == ["last_notable_activity"]
    assert project.contact.consent == {"email": "consent_email", "phone": "consent_phone"}
    assert project.contact.withdrawn_by == {"email": ("email_unsubscribe",)}
    assert (project.contact.do_not_contact, project.contact.opted_out) == ("do_not_contact", "opted_out")
    assert project.contact.time_zone == "time_zone"
    assert project.event_properties == {"duration_seconds": "number", "topic": "category"}
    assert set(project.feature_views) == {
        "tenure", "visits", "pricing", "email", "requests", "content", "trial", "social", "momentum"
    }  # fmt: skip
    assert project.events["pricing_view"].stage == "decision"
    assert project.events["opportunity_created"].stage is None
    assert project.observed_until == int(world.events["occurred_at"].max().timestamp())
    assert audit_project(tables).ready_to_train
    assert len(tables.touches) == len(world.touches)
    assert draft.text.count("Check") >= 5


def test_foreign_names_are_renamed_by_queries(tmp_path: Path, world: World) -> None:
    leads = world.leads.rename(columns={"lead_id": "Contact ID", "created_at": "CreateDate"})
    leads["CreateDate"] = leads["CreateDate"].dt.strftime("%d/%m/%Y %H:%M:%S")
    leads["email"] = leads["Contact ID"] + "@example.org"
    leads.to_csv(tmp_path / "contacts.csv", index=False)
    events = world.events.rename(
        columns={"lead_id": "contact_id", "event_type": "type", "occurred_at": "timestamp"}
    )
    events = events.drop(columns=["event_id", "known_at"])
    spelled = {
        "email_open": "Email Opened",
        "page_view": "Page View",
        "opportunity_created": "Closed Won",
        "call": "Bob's call",
    }
    events["type"] = events["type"].replace(spelled)
    events["timestamp"] = events["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    events.to_csv(tmp_path / "activities.csv", index=False, sep="\t")
    (tmp_path / "here").mkdir()
    draft, project, tables = drafted(
        tmp_path / "here", tmp_path / "activities.csv", tmp_path / "contacts.csv"
    )
    assert project.sources.leads is not None
    assert project.sources.leads.tables == {"rows": "../contacts.csv"}
    assert project.sources.leads.time_zone == "UTC"
    assert project.sources.events is not None
    assert project.sources.events.time_zone is None
    assert project.conversion.event == "closed_won"
    assert {"email_open", "page_view", "bob_s_call"} <= set(project.events)
    assert "email" not in project.attributes
    assert "personal data" in draft.text
    # Nothing is lost on the way: the same leads, instants and events as the simulator made.
    expected = world.leads.set_index("lead_id")["created_at"].map(lambda moment: int(moment.timestamp()))
    assert tables.leads.set_index("lead_id")["created"].to_dict() == expected.to_dict()
    opened = tables.events.filter(tables.events["event_type"] == "email_open").to_pandas()
    original = world.events[world.events["event_type"] == "email_open"]
    assert sorted(opened["occurred"]) == sorted(int(moment.timestamp()) for moment in original["occurred_at"])
    names = {feature.name for feature in features_of(views_of(project))}
    assert {"page_view_count_30d", "email_open_count_30d", "bob_s_call_count_90d"} <= names
    assert not any("closed_won" in name for name in names)
    assert audit_project(tables).ready_to_train


def test_the_conversion_of_a_log_can_be_named(tmp_path: Path, world: World) -> None:
    events = world.events[world.events["event_type"] != "opportunity_created"]
    world.leads.to_parquet(tmp_path / "leads.parquet")
    events.to_parquet(tmp_path / "events.parquet")
    paths = (tmp_path / "leads.parquet", tmp_path / "events.parquet")
    with pytest.raises(InvalidSetting, match="--outcome EVENT_TYPE") as refused:
        drafted(tmp_path, *paths)
    assert "demo_request" in str(refused.value)
    _, project, tables = drafted(tmp_path, *paths, outcome="demo_request")
    assert project.conversion.event == "demo_request"
    names = {feature.name for feature in features_of(views_of(project))}
    assert "page_view_count_30d" in names
    assert len(tables.leads) == len(world.leads)
    with pytest.raises(InvalidSetting, match="no event is of type 'nothing'"):
        drafted(tmp_path, *paths, outcome="nothing")


def test_a_snapshot_is_sorted_by_its_date_and_keyed(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    days = rng.permutation(400)
    path = rows(
        tmp_path,
        customer_id=[f"{n:05d}" for n in range(400)],
        signup_date=(pd.Timestamp("2025-01-01") + pd.to_timedelta(days, unit="D")).strftime("%Y-%m-%d"),
        renewal=pd.Timestamp("2031-01-01").strftime("%Y-%m-%d"),
        size=rng.integers(1, 50, 400),
        comment=[f"free text number {n}" for n in range(400)],
        lead_status=rng.choice(["open", "done"], 400),
        region_code=rng.integers(1, 5, 400),
        won=rng.choice([0, 1], 400),
        converted=rng.choice(["no", "yes"], 400),
    )
    draft, project, tables = drafted(tmp_path, path)
    assert (project.conversion.column, project.conversion.positive) == ("converted", "yes")
    assert set(project.attributes) == {"size", "region_code"}
    assert project.attributes["region_code"].type == "category"
    assert set(project.leaks) == {"lead_status", "won"}
    assert "comment: about" in draft.text
    assert list(tables.leads["lead_id"]) == [f"{n:05d}" for n in np.argsort(days)]
    assert project.observed_until == parse_instant(
        "2026-02-04T00:00:00Z"
    )  # the newest date that is not in the future


def test_the_outcome_can_be_named_and_its_rarer_value_counts(tmp_path: Path) -> None:
    path = rows(tmp_path, size=range(60), kind=["a", "b", "c"] * 20, reached=["cold"] * 50 + ["hot"] * 10)
    with pytest.raises(InvalidSetting, match="--outcome COLUMN") as refused:
        drafted(tmp_path, path)
    assert "reached" in refused.value.remedy
    draft, project, _ = drafted(tmp_path, path, outcome="reached")
    assert (project.conversion.column, project.conversion.positive) == ("reached", "hot")
    assert "rarer value" in draft.text
    with pytest.raises(InvalidSetting, match="3 different values"):
        drafted(tmp_path, path, outcome="kind")
    with pytest.raises(InvalidSetting, match="no column 'absent'"):
        drafted(tmp_path, path, outcome="absent")


def test_odd_names_and_values_survive(tmp_path: Path) -> None:
    path = rows(
        tmp_path,
        **{
            "no": range(40),
            'a "b": c, #d': ["x: y", "x: y", "z", "z"] * 10,
            "y": ["-", "on"] * 20,
            "outcome": ["off", "on"] * 20,
        },
        null=[1.5, 1.5, 2.5, 2.5] * 10,
        created=[1, 2, 3, 4] * 10,
    )
    draft, project, tables = drafted(tmp_path, path)
    assert (project.conversion.column, project.conversion.positive) in {("outcome", "on"), ("outcome", "off")}
    assert {"no", 'a "b": c, #d', "null"} <= set(project.attributes)
    assert "created" not in project.attributes  # would hide the canonical column
    assert set(tables.leads['a "b": c, #d']) == {"x: y", "z"}
    assert parse_yaml(draft.text, "scoring.yaml").value["conversion"]["column"] == "outcome"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00broken\x00\xff"])
def test_unreadable_files_are_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"rows\.parquet"):
        drafted(tmp_path, path)


def test_tables_of_no_known_role_are_refused(tmp_path: Path, world: World) -> None:
    world.leads.to_parquet(tmp_path / "leads.parquet")
    with pytest.raises(InvalidSetting, match="looks like events"):
        drafted(tmp_path, tmp_path / "leads.parquet", tmp_path / "leads.parquet")
    world.events.to_parquet(tmp_path / "events.parquet")
    with pytest.raises(InvalidSetting, match="looks like leads"):
        drafted(tmp_path, tmp_path / "events.parquet", tmp_path / "events.parquet")
    with pytest.raises(InvalidSetting, match="no table"):
        draft_project((), relative_to=tmp_path, today=TODAY)


@pytest.mark.parametrize(
    ("raw", "name"),
    [("Email Opened", "email_open"), ("PageView", "page_view"), ("page_view", "page_view"), ("!", "unnamed"),
     ("lead_created", "lead_created_in_log"), ("3rd party", "type_3_rd_party"), ("$pageview", "page_view"),
     ("Demo Requested", "demo_request")],
)  # fmt: skip
def test_event_types_get_valid_or_shipped_names(raw: str, name: str) -> None:
    assert shipped_type(raw) == name


def test_small_guesses() -> None:
    assert plain("property_hs_createdate") == "createdate"
    assert event_label("quote_sent") == ("Quote sent", "decision")
    for text in ("yes", "a: b", "NA", "", "null", "x y", "12", "ä"):
        assert parse_yaml(f"key: {scalar(text)}", "x").value["key"] == text


def test_a_history_of_attributes_is_read_as_changes(tmp_path: Path, world: World) -> None:
    """Also under other names, and what only the history knows becomes an attribute too."""
    leads = world.leads.drop(columns=["title", "industry"])
    changes = world.attribute_changes.rename(
        columns={
            "lead_id": "contact_id",
            "attribute": "field",
            "value": "new_value",
            "occurred_at": "changed_at",
        }
    )
    changes = changes.drop(columns=[name for name in ("known_at",) if name in changes])
    leads.to_parquet(tmp_path / "leads.parquet")
    world.events.to_parquet(tmp_path / "events.parquet")
    changes.to_parquet(tmp_path / "audit_trail.parquet")
    paths = [tmp_path / f"{name}.parquet" for name in ("audit_trail", "events", "leads")]
    _, project, _ = drafted(tmp_path, *paths)
    assert project.sources.attribute_changes is not None
    assert project.sources.touches is None
    moving = {name for name, attribute in project.attributes.items() if attribute.history}
    assert {"seniority", "department"} <= moving
    assert project.attributes["seniority"].of == "title"
    assert not any(project.attributes[name].immutable for name in moving)


def test_free_text_is_read_through_normal_forms_and_addresses_are_no_attributes(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path = rows(
        tmp_path,
        email=[f"person{n}@{'gmail.com' if n % 3 else 'acme.com'}" for n in range(300)],
        job_title=rng.choice(["VP Sales", "Head of Marketing", "Developer", "CEO"], 300),
        employees=rng.choice(["1-10", "51-200", "5000+"], 300),
        country=rng.choice(["Germany", "United States", "USA", "FR"], 300),
        position=rng.choice(["zxqv", "wwkk"], 300),
        converted=rng.choice(["no", "no", "yes"], 300),
    )
    draft, project, _ = drafted(tmp_path, path)
    read = {
        name: (attribute.type, attribute.of, attribute.transform)
        for name, attribute in project.attributes.items()
    }
    assert read == {
        "email_kind": ("category", "email", "email_kind"),
        "seniority": ("category", "job_title", "seniority"),
        "department": ("category", "job_title", "department"),
        "employees": ("number", None, "company_size"),
        "country": ("category", None, "country"),
        "position": ("category", None, None),  # named like a title, but nothing in it is recognised as one
    }
    assert "personal data" in draft.text
    assert "person1@" not in draft.text


def test_a_column_that_tells_the_outcome_alone_is_set_aside_with_the_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    converted = rng.random(600) < 0.3
    path = rows(
        tmp_path,
        size=rng.integers(1, 50, 600),
        discount=np.where(converted, rng.normal(3, 1, 600), rng.normal(0, 1, 600)).round(3),
        note=np.where(converted, "signed", "open"),
        converted=np.where(converted, "yes", "no"),
    )
    _, project, _ = drafted(tmp_path, path)
    assert list(project.attributes) == ["size"]
    assert "AUC 0.9" in project.leaks["discount"]
    assert "converted" in project.leaks["note"]


def test_a_folder_stands_for_its_tables_and_an_unknown_one_is_told_what_was_looked_for(
    tmp_path: Path, world: World
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "notes.md").write_text("not a table")
    with pytest.raises(InvalidSetting, match="holds no table"):
        drafted(tmp_path, folder)
    world.leads.to_parquet(folder / "leads.parquet")
    pd.DataFrame({"colour": ["red", "blue"]}).to_csv(folder / "colours.csv", index=False)
    with pytest.raises(InvalidSetting, match="looks like events") as refused:
        drafted(tmp_path, folder)
    assert "colours.csv: colour" in refused.value.where
    assert "HubSpot" in refused.value.remedy
    assert "Lead.csv" in refused.value.remedy
    world.events.to_parquet(folder / "events.parquet")
    draft, project, _ = drafted(tmp_path, folder)
    assert project.conversion.event == "opportunity_created"
    assert any("colours.csv is not used" in note for note in draft.notes)
