"""Exports of HubSpot and Salesforce become project files that open, validate and train as they are."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crm_exports
from predictive_scoring.data.audit import audit_project
from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.data.drafting import Draft, draft_project
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.errors import ConversionNeverOccurs, InvalidSetting
from predictive_scoring.features.catalog import views_of
from predictive_scoring.settings import Project, parse_project
from predictive_scoring.timeline import parse_instant

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data")
TODAY = parse_instant("2026-11-21T00:00:00Z")


def drafted(folder: Path, *paths: Path, outcome: str | None = None) -> tuple[Draft, Project, Tables]:
    draft = draft_project(paths, relative_to=folder, today=TODAY, outcome=outcome)
    project = parse_project(draft.text, "scoring.yaml")
    return draft, project, open_tables(ProjectFile(project, folder / "scoring.yaml"))


@pytest.fixture(scope="module")
def salesforce(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("salesforce")
    truth = crm_exports.salesforce(folder / "export")
    return truth, *drafted(folder, folder / "export")


@pytest.fixture(scope="module")
def hubspot(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("hubspot")
    truth = crm_exports.hubspot(folder / "export")
    return truth, *drafted(folder, folder / "export")


def numbers(tables: Tables) -> dict[str, int]:
    frame = tables.events.group_by("event_type").aggregate(number=tables.events.count()).to_pandas()
    return dict(zip(frame["event_type"], frame["number"], strict=True))


# Salesforce -------------------------------------------------------------------------------------------------


def test_salesforce_leads_are_those_that_stay(salesforce) -> None:
    truth, _, project, tables = salesforce
    kept = truth[~truth["IsDeleted"]]
    assert sorted(tables.leads["lead_id"]) == sorted(kept["Id"])
    assert project.conversion.event == "converted"
    assert numbers(tables)["converted"] == int(kept["IsConverted"].sum())
    assert {"Industry", "NumberOfEmployees", "Country", "LeadSource", "email_kind", "seniority"} <= set(
        project.attributes
    )
    assert not {"FirstName", "LastName", "Email", "Status"} & set(project.attributes)
    assert project.contact.do_not_contact == "HasOptedOutOfEmail"


def test_what_sales_writes_with_the_outcome_is_a_leak(salesforce) -> None:
    _, _, project, _ = salesforce
    assert {"Status", "Rating", "OwnerId", "IsConverted", "ConvertedDate", "LastActivityDate"} <= set(
        project.leaks
    )
    assert "AUC" in project.leaks["Budget_Confirmed__c"]
    names = {
        feature
        for view in project.feature_views
        if not isinstance(view, str)
        for one in view.features
        for feature in one.events
    }
    assert not {"opportunity_won", "converted"} & names


def test_activities_of_a_converted_lead_are_taken_back_from_its_contact(salesforce) -> None:
    truth, _, _, tables = salesforce
    calls = tables.events.filter(tables.events["event_type"].isin(["call", "sales_email"])).to_pandas()
    converted = set(truth.loc[truth["IsConverted"] & ~truth["IsDeleted"], "Id"])
    assert len(set(calls["lead_id"]) & converted) > 0.5 * len(converted)
    assert set(calls["lead_id"]) <= set(truth["Id"])


def test_the_title_at_a_cutoff_is_the_one_before_the_change(salesforce) -> None:
    """`OldValue` of the oldest change stood there at creation; a field that never changed has today's value."""
    truth, _, project, tables = salesforce
    assert project.attributes["seniority"].history
    created = tables.leads.set_index("lead_id")["created"]
    source = project.sources.attribute_changes
    assert source is not None
    assert "OldValue" in str(source.sql)
    rows = tables.attribute_changes.to_pandas()
    first = rows.sort_values("occurred").drop_duplicates("lead_id").set_index("lead_id")
    assert (first["occurred"] == created.reindex(first.index)).all()
    changed = rows["lead_id"].value_counts()
    moved, still = changed.index[changed == 2], changed.index[changed == 1]
    assert len(moved) > 100
    assert set(first.loc[moved, "value"]) == {"Intern"}
    today = truth.set_index("Id")["Title"]
    assert (first.loc[still, "value"] == today.reindex(still)).all()


def test_a_salesforce_draft_is_ready_and_has_what_to_learn_from(salesforce) -> None:
    _, _, project, tables = salesforce
    report = audit_project(tables)
    assert report.ready_to_train, [finding.what for finding in report.findings if finding.severity == "error"]
    dataset = build_dataset(tables, views_of(project))
    rows, labels, *_ = dataset.rows("train")
    assert "call_count_30d" in rows
    # The generator lets calls convert, so they must be seen to.
    calls = rows["call_count_90d"].to_numpy()
    assert calls[np.asarray(labels, dtype=bool)].mean() > 1.3 * calls.mean()


def test_upper_case_columns_and_fewer_objects_are_enough(tmp_path: Path) -> None:
    crm_exports.salesforce(tmp_path / "all", leads=200)
    (tmp_path / "some").mkdir()
    for name in ("Lead", "Task"):
        table = pd.read_csv(tmp_path / "all" / f"{name}.csv", dtype=str)
        table.rename(columns=str.upper).to_csv(tmp_path / "some" / f"extract_{name}.csv", index=False)
    draft, project, tables = drafted(tmp_path, tmp_path / "some")
    assert project.sources.attribute_changes is None
    assert set(project.events) == {"call", "sales_email", "converted"}
    assert "campaign" not in draft.text.casefold().split("leaks:")[0].split("events:")[1].split("sql:")[0]
    assert len(tables.leads) > 150


def test_a_won_opportunity_is_found_through_the_contacts_role_in_it(tmp_path: Path) -> None:
    truth = crm_exports.salesforce(tmp_path / "export", leads=200)
    lead = pd.read_csv(tmp_path / "export" / "Lead.csv", dtype=str)
    roles = lead.loc[lead["IsConverted"] == "True", ["ConvertedContactId", "ConvertedOpportunityId"]]
    roles.columns = ["ContactId", "OpportunityId"]
    roles.assign(Id=range(len(roles)), IsDeleted="false").to_csv(tmp_path / "export" / "OCR.csv", index=False)
    lead.drop(columns="ConvertedOpportunityId").to_csv(tmp_path / "export" / "Lead.csv", index=False)
    _, project, tables = drafted(tmp_path, tmp_path / "export", outcome="opportunity_won")
    assert project.conversion.event == "opportunity_won"
    assert numbers(tables)["opportunity_won"] == int((truth["IsConverted"] & ~truth["IsDeleted"]).sum())


# HubSpot ----------------------------------------------------------------------------------------------------


def test_merged_contacts_are_one_lead_and_deleted_ones_none(hubspot) -> None:
    truth, _, _, tables = hubspot
    leads = tables.leads.set_index("lead_id")["created"]
    assert str(truth["id"][1]) not in leads.index
    assert str(truth["id"][5]) not in leads.index
    assert len(leads) == len(truth) - 2
    # Born when the first of them was.
    assert leads[str(truth["id"][3])] == int(truth["at"][1].timestamp())
    events = tables.events.to_pandas()
    mine = events[(events["lead_id"] == str(truth["id"][3])) & (events["event_type"] == "email_delivered")]
    assert len(mine) == 8  # four mails to each of the two


def test_emails_find_their_contact_and_filtered_opens_count_for_nothing(hubspot) -> None:
    truth, draft, project, tables = hubspot
    found = numbers(tables)
    assert found["email_delivered"] == 4 * (len(truth) - 1)
    assert found["demo_request"] + found["form_submit"] == len(truth[::4])
    for name in ("email_open", "email_click"):
        assert project.events[name].exclude == {"filtered_event": ("true",)}
    assert any("of 5" not in note and "email_event.csv belong to no lead" in note for note in draft.notes)


def test_a_won_deal_is_the_conversion_and_nothing_that_records_it_is_read(hubspot) -> None:
    truth, draft, project, tables = hubspot
    assert project.conversion.event == "deal_won"
    won = truth[truth["won"] & (truth.index != 5)]
    assert numbers(tables)["deal_won"] == len(won)
    assert {"lifecyclestage", "num_associated_deals"} <= set(project.leaks)
    assert "Not read, as they may only record the outcome itself: became_customer, deal_created" in draft.text
    assert project.attributes["seniority"].history
    assert "lifecyclestage" not in project.attributes


def test_a_hubspot_draft_is_ready(hubspot) -> None:
    _, _, _, tables = hubspot
    report = audit_project(tables)
    assert report.ready_to_train, [finding.what for finding in report.findings if finding.severity == "error"]


def test_without_deals_the_lifecycle_stage_converts(tmp_path: Path) -> None:
    crm_exports.hubspot(tmp_path / "export", leads=300)
    for name in ("deal", "deal_contact", "deal_pipeline_stage"):
        (tmp_path / "export" / f"{name}.csv").unlink()
    _, project, tables = drafted(tmp_path, tmp_path / "export")
    assert project.conversion.event == "became_customer"
    assert numbers(tables)["became_customer"] > 10
    (tmp_path / "export" / "contact_property_history.csv").unlink()
    with pytest.raises(InvalidSetting, match="does not say who converted") as refused:
        drafted(tmp_path, tmp_path / "export")
    assert "demo_request" in refused.value.remedy
    _, project, _ = drafted(tmp_path, tmp_path / "export", outcome="demo_request")
    assert project.conversion.event == "demo_request"


def test_files_exported_from_hubspots_screen(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n = 200
    at = pd.Series(pd.Timestamp("2025-01-01 09:00") + pd.to_timedelta(np.arange(n), unit="D"))
    contacts = pd.DataFrame(
        {
            "Record ID": np.arange(n) + 1,
            "First Name": "Ann",
            "Email": [f"p{k}@acme.com" for k in range(n)],
            "Job Title": rng.choice(["CEO", "Developer"], n),
            "Country/Region": rng.choice(["Germany", "France"], n),
            "Lifecycle Stage": "Lead",
            "Number of Pageviews": rng.integers(0, 50, n),
            "Last Activity Date": "2026-01-01 10:00",
            "First Conversion Date": at.dt.strftime("%Y-%m-%d %H:%M").where(rng.random(n) < 0.5),
            "Create Date": at.dt.strftime("%Y-%m-%d %H:%M"),
        }
    )
    deals = pd.DataFrame(
        {
            "Record ID": [901, 902, 903],
            "Deal Name": "Deal",
            "Deal Stage": ["Closed Won (Sales Pipeline)", "Closed Lost", "Closed Won"],
            "Close Date": "2025-09-01 12:00",
            "Associated Contact IDs": ["1;2", "3", "9999"],
        }
    )
    contacts.to_csv(tmp_path / "all-contacts.csv", index=False)
    deals.to_csv(tmp_path / "all-deals.csv", index=False)
    draft, project, tables = drafted(tmp_path, tmp_path / "all-deals.csv", tmp_path / "all-contacts.csv")
    assert project.conversion.event == "deal_won"
    assert numbers(tables)["deal_won"] == 2
    assert {"Seniority", "Country region"} <= {attribute.label for attribute in project.attributes.values()}
    assert {"lifecycle_stage", "number_of_pageviews", "last_activity_date"} <= set(project.leaks)
    assert any("1 of 4 rows of all-deals.csv" in note for note in draft.notes)
    assert any("holds no history" in note for note in draft.notes)


@pytest.mark.data
def test_the_public_hubspot_tables_are_read_although_nothing_joins(tmp_path: Path) -> None:
    folder = DATA / "hubspot_schema_seeds"
    if not folder.is_dir():
        reason = f"no folder {folder}; set PREDICTIVE_SCORING_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    draft, project, tables = drafted(tmp_path, folder)
    assert len(tables.leads) == 19  # 22 contacts, of which three were merged into one
    assert {"email_open", "email_click", "email_bounce", "email_unsubscribe", "email_spam_report", "form_submit",
            "meeting", "call", "deal_won"} <= set(project.events)  # fmt: skip
    assert any("100 of 100 rows of email_event_data.csv" in note for note in draft.notes)
    assert any("hashed names" in note for note in draft.notes)
    report = audit_project(tables)
    assert not report.ready_to_train
    assert {"PS101", "PS102", "PS103"} & {finding.code for finding in report.findings}
    with pytest.raises(ConversionNeverOccurs):
        build_dataset(tables, views_of(project))
