"""Pulls: what arrives, once and whole, however often the way there breaks."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from crm_servers import (
    BROKEN,
    DAY,
    EXPIRED,
    HALF,
    NOW,
    TOO_MANY,
    Fault,
    small_hubspot,
    small_salesforce,
    to_hubspot,
    to_salesforce,
)
from predictive_scoring.connectors.landing import LandedTable, landing
from predictive_scoring.connectors.pulling import pull_hubspot, pull_salesforce
from predictive_scoring.data.drafting import draft_project
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.errors import CrmRefused, InvalidSetting, UnreadableFile


def content(folder: Path) -> dict[str, list[dict]]:
    """The rows of every table, with columns in the order of their names."""
    return {
        file.stem: pd.read_parquet(file).sort_index(axis=1).to_dict("records")
        for file in sorted(folder.glob("*.parquet"))
    }


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def everything(folder: Path) -> str:
    """All cells of all tables, the inner ones too, and the cursor."""
    tables = [pd.read_parquet(file).to_csv() for file in sorted(folder.rglob("*.parquet"))]
    return " ".join([*tables, *(file.read_text() for file in folder.rglob("*.json"))]).lower()


def pulled(server, clock, folder, now=NOW, **options):
    with to_hubspot(server, clock, now=now) as door:
        return pull_hubspot(door, folder, **options)


# HubSpot --------------------------------------------------------------------------------------------------------


def test_what_hubspot_holds_becomes_leads_events_and_changes(hubspot, clock, tmp_path):
    small_hubspot(hubspot)
    pulled(hubspot, clock, tmp_path / "tables")
    draft = draft_project([tmp_path / "tables"], relative_to=tmp_path, today=NOW)
    (tmp_path / "scoring.yaml").write_text(draft.text)
    tables = open_tables(load_project(tmp_path / "scoring.yaml"))
    assert len(tables.leads) == 90
    lead = tables.lead("2")
    assert lead.created == NOW - 198 * DAY
    kinds = {event.event_type for event in lead.events}
    assert {"email_delivered", "email_open", "email_click"} <= kinds
    # Known when it happened, to the second.
    assert {(event.occurred, event.known) for event in lead.events if event.event_type == "email_open"} == {
        (lead.created + 2 * DAY, lead.created + 2 * DAY)
    }
    changes = [(c.value, c.occurred) for c in tables.lead("4").changes if c.attribute == "jobtitle"]
    assert changes == [("Intern", NOW - 196 * DAY), ("VP of Marketing", NOW - 176 * DAY)]
    assert "deal_won" in {event.event_type for event in tables.lead("6").events}
    assert "deal_won" not in {event.event_type for event in tables.lead("9").events}
    assert any(kind in kinds_of(tables, "1") for kind in ("form_submit", "demo_request"))


def test_calls_and_meetings_become_events_of_who_took_part(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 90)
    hubspot.engagement("calls", 8001, NOW - 9 * DAY, [4, 5, 6], hs_call_duration="90000")
    held = {"hs_meeting_start_time": "2026-05-20T10:00:00.000Z"}
    hubspot.engagement("meetings", 8002, NOW - 8 * DAY, [4], hs_meeting_outcome="COMPLETED", **held)
    hubspot.engagement("meetings", 8003, NOW - 8 * DAY, [5], hs_meeting_outcome="NO_SHOW", **held)
    hubspot.engagement("meetings", 8004, NOW - 8 * DAY, [], **held)
    pulled(hubspot, clock, tmp_path / "tables")
    assert "ann doe" not in everything(tmp_path / "tables")
    draft = draft_project([tmp_path / "tables"], relative_to=tmp_path, today=NOW)
    (tmp_path / "scoring.yaml").write_text(draft.text)
    start = 1_779_271_200

    def took_part(lead):
        tables = open_tables(load_project(tmp_path / "scoring.yaml"))
        kinds = ("call", "meeting")
        return sorted(
            (one.event_type, one.occurred) for one in tables.lead(lead).events if one.event_type in kinds
        )

    assert took_part("4") == [("call", NOW - 9 * DAY), ("meeting", start)]
    assert took_part("5") == took_part("6") == [("call", NOW - 9 * DAY)]
    hubspot.objects["calls"][8001]["archived"] = True
    pulled(hubspot, clock, tmp_path / "tables", now=NOW + DAY)
    assert took_part("4") == [("meeting", start)]


def kinds_of(tables, lead):
    return {event.event_type for event in tables.lead(lead).events}


def test_a_query_never_asks_beyond_what_a_search_shows(hubspot, clock, tmp_path):
    hubspot.most_found = 300
    for number in range(1, 651):
        # A bulk import: all at the same moment.
        hubspot.contact(number, NOW - DAY, email=f"p{number}@acme.com")
    pulled(hubspot, clock, tmp_path)
    assert table(tmp_path, "contact")["id"].astype(int).tolist() == sorted(range(1, 651), key=str)
    searches = [body for method, path, body in hubspot.asked if path.endswith("contacts/search")]
    assert len(searches) == 4


def test_what_identifies_a_person_is_not_fetched_and_addresses_are_in_no_id(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 20)
    hubspot.submissions["f1"].append(
        {
            "submittedAt": 1000 * (NOW - DAY),
            "values": [{"name": "email", "value": "person1@acme.com"}],
            "pageUrl": "x?a=b",
        }
    )
    pulled(hubspot, clock, tmp_path)
    assert "property_firstname" not in table(tmp_path, "contact")
    forms = table(tmp_path, "contact_form_submission")
    assert not forms.astype(str).apply(lambda column: column.str.contains("@")).any(axis=None)
    assert not table(tmp_path, "email_event")["id"].str.contains("@").any()
    pulled(hubspot, clock, tmp_path / "asked", properties=("firstname",))
    assert "property_firstname" in table(tmp_path / "asked", "contact")


def test_the_next_pull_fetches_what_changed_and_each_row_stays_once(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 40)
    hubspot.deal(7000, NOW - 3 * DAY, [1, 2, 3, 4, 5])
    pulled(hubspot, clock, tmp_path)
    before = content(tmp_path)
    assert sorted(table(tmp_path, "deal_contact").query("deal_id == '7000'")["contact_id"]) == list("12345")
    hubspot.asked.clear()
    later = NOW + DAY
    hubspot.contact(2, later - 60, NOW - 198 * DAY, jobtitle="CEO")
    hubspot.deal(7000, later - 60, [2])
    pulled(hubspot, clock, tmp_path, now=later)
    reads = [body["inputs"] for _, path, body in hubspot.asked if path.endswith("contacts/batch/read")]
    assert [{"id": "2"}] in reads
    assert len(table(tmp_path, "contact")) == 40
    assert (
        not table(tmp_path, "contact_property_history").duplicated(["contact_id", "name", "timestamp"]).any()
    )
    assert table(tmp_path, "deal_contact").query("deal_id == '7000'")["contact_id"].tolist() == ["2"]
    changed = {name for name, rows in content(tmp_path).items() if rows != before[name]}
    assert changed == {"contact", "contact_property_history", "deal", "deal_contact", "deal_property_history"}
    pulled(hubspot, clock, tmp_path, now=later + DAY)
    assert {name: len(rows) for name, rows in content(tmp_path).items()} == {
        name: len(rows) + {"contact_property_history": 1, "deal_property_history": 1, "deal_contact": -4}.get(name, 0)
        for name, rows in before.items()
    }  # fmt: skip


def test_of_a_deleted_contact_nothing_stays_but_that_it_was(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 12)
    pulled(hubspot, clock, tmp_path)
    assert "person7@acme.com" in everything(tmp_path)
    hubspot.objects["contacts"][7]["archived"] = True
    pulled(hubspot, clock, tmp_path, now=NOW + DAY)
    contact = table(tmp_path, "contact").set_index("id")
    assert contact.loc["7", "_fivetran_deleted"] == "true"
    assert contact.loc["7"].drop(["_fivetran_deleted", "property_createdate"]).isna().all()
    assert "person7@" not in everything(tmp_path)
    assert "7" not in set(table(tmp_path, "contact_property_history")["contact_id"])
    assert "8" in set(table(tmp_path, "contact_property_history")["contact_id"])


@pytest.mark.parametrize("fault", [TOO_MANY, BROKEN, HALF], ids=["429", "500", "half"])
def test_faults_on_the_way_change_no_row(hubspot, clock, tmp_path, fault):
    small_hubspot(hubspot, 30)
    pulled(hubspot, clock, tmp_path / "calm")
    requests = len(hubspot.asked)
    hubspot.asked.clear()
    # Every third request fails the first time.
    hubspot.faults = dict.fromkeys(range(3, 3 * requests, 3), fault)
    pulled(hubspot, clock, tmp_path / "rough")
    assert len(hubspot.asked) > requests
    assert content(tmp_path / "rough") == content(tmp_path / "calm")


def test_a_pull_that_stops_at_any_request_goes_on_to_the_same_tables(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 12)
    pulled(hubspot, clock, tmp_path / "whole")
    whole, requests = content(tmp_path / "whole"), len(hubspot.asked)
    for stop in range(1, requests + 1, 3):
        hubspot.asked.clear()
        hubspot.faults = {stop: Fault(403)}
        folder = tmp_path / str(stop)
        with pytest.raises(CrmRefused, match="403"):
            pulled(hubspot, clock, folder)
        assert list(folder.glob("*.parquet")) == []
        # Later by the clock, but the window that was begun is finished first.
        pulled(hubspot, clock, folder, now=NOW + 100)
        assert content(folder) == whole


def test_e_mail_events_are_not_lost_between_pages(hubspot, clock, tmp_path, monkeypatch):
    monkeypatch.setattr("predictive_scoring.connectors.hubspot_pull.EMAIL_PAGE", 3)
    hubspot.events = [
        {"id": f"e{number}", "type": "OPEN", "recipient": "a@b.de", "created": 1000 * NOW - 1 - number // 5}
        for number in range(23)
    ]
    pulled(hubspot, clock, tmp_path / "whole")
    assert len(table(tmp_path / "whole", "email_event")) == 23
    pages = [number for number, line in enumerate(hubspot.paths(), start=1) if "events" in line]
    assert len(pages) == 8
    for stop in pages[1::3]:
        hubspot.asked.clear()
        hubspot.faults = {stop: Fault(403)}
        with pytest.raises(CrmRefused):
            pulled(hubspot, clock, tmp_path / str(stop))
        pulled(hubspot, clock, tmp_path / str(stop))
        assert content(tmp_path / str(stop)) == content(tmp_path / "whole")


def test_a_pull_that_is_killed_goes_on_to_the_same_tables(hubspot, clock, tmp_path):
    """A real process, a real kill -9, in the middle."""
    small_hubspot(hubspot, 60)
    pulled(hubspot, clock, tmp_path / "whole", properties=("jobtitle",))
    requests = len(hubspot.asked)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from predictive_scoring.connectors.http import World, opened\n"
        "from predictive_scoring.connectors.tokens import FixedToken\n"
        "from predictive_scoring.connectors.pulling import pull_hubspot\n"
        f"world = World(lambda: {NOW}, time.monotonic, time.sleep, lambda: 0.5)\n"
        f"with opened(FixedToken({hubspot.base!r}, 'pat-secret'), world) as door:\n"
        "    pull_hubspot(door, Path(sys.argv[1]), properties=('jobtitle',))"
    )
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    hubspot.asked.clear()
    reached = threading.Event()

    def stop(number):
        if number == 2 * requests // 3:
            reached.set()
            threading.Event().wait(0.2)  # its answer never comes

    hubspot.on_request = stop
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert list(folder.glob("*.parquet")) == []
    pulled(hubspot, clock, folder, now=NOW + 50, properties=("jobtitle",))
    assert content(folder) == content(tmp_path / "whole")


# Salesforce -----------------------------------------------------------------------------------------------------


def pulled_salesforce(server, clock, folder, now=NOW, **options):
    with to_salesforce(server, clock, now=now) as door:
        return pull_salesforce(door, folder, **options)


def test_what_salesforce_holds_becomes_leads_events_and_changes(salesforce, clock, tmp_path):
    small_salesforce(salesforce, 90)
    salesforce.page = 40
    pulled_salesforce(salesforce, clock, tmp_path / "tables")
    assert "FirstName" not in table(tmp_path / "tables", "Lead")
    draft = draft_project([tmp_path / "tables"], relative_to=tmp_path, today=NOW)
    (tmp_path / "scoring.yaml").write_text(draft.text)
    tables = open_tables(load_project(tmp_path / "scoring.yaml"))
    lead = tables.lead("00Q000000000003")
    assert {"call", "webinar_attend", "converted"} <= {event.event_type for event in lead.events}
    call = next(event for event in lead.events if event.event_type == "call")
    assert (call.occurred, call.known) == (NOW - 292 * DAY, NOW - 292 * DAY)
    assert sorted((c.occurred, c.value) for c in lead.changes if c.attribute == "Title") == [
        (NOW - 297 * DAY, "Intern"),
        (NOW - 277 * DAY, "VP of Marketing"),
    ]


def test_a_pull_from_salesforce_that_stops_at_any_request_goes_on_to_the_same_tables(
    salesforce, clock, tmp_path
):
    small_salesforce(salesforce, 4)
    salesforce.page = 2
    pulled_salesforce(salesforce, clock, tmp_path / "whole")
    whole, requests = content(tmp_path / "whole"), len(salesforce.asked)
    assert len(whole["Lead"]) == 4
    for stop in range(2, requests + 1, 3):
        salesforce.asked.clear()
        salesforce.faults = {stop: Fault(403)}
        with pytest.raises(CrmRefused, match="403"):
            pulled_salesforce(salesforce, clock, tmp_path / str(stop))
        # The locators of the first run are gone.
        salesforce.locators.clear()
        pulled_salesforce(salesforce, clock, tmp_path / str(stop))
        assert content(tmp_path / str(stop)) == whole


def test_a_session_that_expires_between_pages_is_renewed(salesforce, clock, tmp_path):
    small_salesforce(salesforce, 7)
    pulled_salesforce(salesforce, clock, tmp_path / "whole")
    salesforce.asked.clear()
    salesforce.faults = dict.fromkeys((4, 9, 15), EXPIRED)
    pulled_salesforce(salesforce, clock, tmp_path / "expired")
    assert content(tmp_path / "expired") == content(tmp_path / "whole")
    assert salesforce.grants == 5


def test_deleted_leads_lose_what_they_were(salesforce, clock, tmp_path):
    small_salesforce(salesforce, 5)
    pulled_salesforce(salesforce, clock, tmp_path)
    gone = salesforce.rows["Lead"][2]
    gone |= {"IsDeleted": True, "SystemModstamp": "2026-05-29T00:00:00.000+0000"}
    pulled_salesforce(salesforce, clock, tmp_path, now=NOW + 2 * DAY)
    lead = table(tmp_path, "Lead").set_index("Id").loc[gone["Id"]]
    assert lead["IsDeleted"] == "true"
    assert pd.isna(lead["Email"])
    assert gone["Id"] not in set(table(tmp_path, "LeadHistory")["LeadId"])


def test_an_object_that_the_app_may_not_see(salesforce, clock, tmp_path):
    small_salesforce(salesforce, 5)
    del salesforce.rows["LeadHistory"]
    pulled_salesforce(salesforce, clock, tmp_path / "a")
    assert table(tmp_path / "a", "LeadHistory").empty
    del salesforce.rows["Lead"]
    with pytest.raises(CrmRefused, match="may not see the object Lead"):
        pulled_salesforce(salesforce, clock, tmp_path / "b")


def test_other_fields_or_a_lost_table_mean_a_first_pull_again(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 12)
    pulled(hubspot, clock, tmp_path, properties=("country",))
    pulled(hubspot, clock, tmp_path, now=NOW + DAY, properties=("jobtitle",))
    assert table(tmp_path, "contact")["property_jobtitle"].notna().all()
    (tmp_path / "deal.parquet").unlink()
    pulled(hubspot, clock, tmp_path, now=NOW + 2 * DAY, properties=("jobtitle",))
    assert len(table(tmp_path, "deal")) == 4
    assert (
        pulled(hubspot, clock, tmp_path, now=NOW + 3 * DAY, properties=("jobtitle",)).window.since > NOW + DAY
    )


def test_a_later_start_than_the_last_end_leaves_no_gap(hubspot, clock, tmp_path):
    pulled(hubspot, clock, tmp_path)
    window = pulled(hubspot, clock, tmp_path, now=NOW + 9 * DAY, first=NOW + 5 * DAY).window
    assert window.since < NOW


# The folder -----------------------------------------------------------------------------------------------------


def test_one_pull_at_a_time(tmp_path):
    with landing(tmp_path, ()), pytest.raises(InvalidSetting, match="another pull"), landing(tmp_path, ()):
        pass
    with landing(tmp_path, ()):
        pass


def test_a_cursor_that_is_no_cursor_is_named(tmp_path):
    (tmp_path / ".pull").mkdir()
    (tmp_path / ".pull" / "cursor.json").write_text("{half")
    with pytest.raises(UnreadableFile, match="cursor"), landing(tmp_path, ()):
        pass


def test_a_table_that_nobody_wrote_is_there_and_empty(tmp_path):
    with landing(tmp_path, (LandedTable("none", ("id", "what"), ("id",)),)) as landed:
        landed.begin(NOW, 0, 0)
        assert landed.finish() == {"none": 0}
    assert table(tmp_path, "none").columns.tolist() == ["id", "what"]
