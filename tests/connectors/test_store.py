"""CRM and store: pulled tables go into it, changed scores come out of it, and an erasure reaches what was pulled."""

import json
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

from conftest import SAMPLE
from crm_servers import DAY, NOW, small_hubspot, small_salesforce, to_hubspot, to_salesforce
from predictive_scoring.cli.app import app
from predictive_scoring.connectors.erasing import forget_in_folder
from predictive_scoring.connectors.landing import landing
from predictive_scoring.connectors.pulling import pull_hubspot, pull_salesforce
from predictive_scoring.connectors.written import WrittenFile
from predictive_scoring.errors import InvalidSetting, StoreUnavailable
from predictive_scoring.keeping.store.histories import count_leads, read_lead
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.live.crm import LandingFolder, erase_everywhere, landing_folders, note_folder
from store_messages import event, ingested
from store_scores import append, scored


@pytest.fixture
def call(hubspot, tmp_path, monkeypatch):
    """Runs a verb in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_URL", hubspot.base)
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_TOKEN", hubspot.token)
    monkeypatch.setenv("PREDICTIVE_SCORING_DATABASE_URL", f"sqlite:///{tmp_path / 'store.db'}")

    def run(*arguments):
        answer = CliRunner().invoke(app, [*arguments, "--json"])
        return answer.exit_code, json.loads(answer.stdout)

    return run


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def holds(folder, *texts):
    """The files below `folder` in whose cells, lines or names one of the texts stands."""
    found = set()
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            said = pd.read_parquet(file).to_csv()
        elif file.is_file():
            said = file.read_text()
        else:
            continue
        found |= {file.name for text in texts if text.lower() in said.lower()}
    return found


def test_what_is_pulled_comes_into_the_store_and_what_comes_again_adds_nothing(hubspot, call, store):
    small_hubspot(hubspot, 90)
    code, said = call("connect", "hubspot", "pull", "--into-store")
    assert (code, said["store"]["leads"], store.read(count_leads)) == (0, 90, 90)
    first = store.read(lambda tx: read_lead(tx, "4"))
    assert {one.event_type for one in first.events} >= {"email_delivered", "email_open"}
    assert [(c.value, c.occurred) for c in first.changes if c.attribute == "jobtitle"] == [
        ("Intern", NOW - 196 * DAY),
        ("VP of Marketing", NOW - 176 * DAY),
    ]
    clicked = {"id": "new", "type": "CLICK", "recipient": "person4@acme.com"}
    hubspot.events.append({**clicked, "created": 1000 * int(time.time() - 1)})
    code, said = call("connect", "hubspot", "pull", "--into-store")
    assert (code, said["store"]["new_events"]) == (0, 1)
    assert len(store.read(lambda tx: read_lead(tx, "4")).events) == len(first.events) + 1
    code, said = call("connect", "hubspot", "pull", "--into-store")
    assert (code, said["store"]["new_events"], store.read(count_leads)) == (0, 0, 90)


def test_changed_scores_are_written_once_and_refused_ones_again(hubspot, call, store, tmp_path):
    project = ("--project", str(SAMPLE / "scoring.yaml"), "--tables", str(tmp_path / "crm"))
    leads = [str(number) for number in range(4)]
    ingested(store, *(event(f"e{lead}", lead) for lead in leads))
    append(store, *(scored(lead, 40, grade="B2") for lead in leads))
    push = ("connect", "hubspot", "push", "--from-store", *project)
    code, said = call(*push, "--dry-run")
    assert (code, said["changed"], said["written"], hubspot.asked) == (0, 4, 0, [])
    hubspot.bad = {"2": "OBJECT_NOT_FOUND"}
    code, said = call(*push, "--create-fields")
    assert (code, said["written"], said["failed_leads"]) == (2, 3, {"2": "OBJECT_NOT_FOUND"})
    hubspot.bad = {}
    code, said = call(*push)
    assert (code, said["changed"], said["written"]) == (0, 1, 1)
    hubspot.asked.clear()
    code, said = call(*push)
    assert (code, said["scores"], said["written"], hubspot.asked) == (0, 0, 0, [])
    append(store, scored("1", 40, grade="B2", at=5), scored("3", 70, grade="A1", at=5))
    code, said = call(*push)
    assert (code, said["scores"], said["unchanged"], said["written"]) == (0, 2, 1, 1)


def test_an_erasure_reaches_the_folders_of_the_store_and_spares_others(hubspot, clock, store, tmp_path):
    small_hubspot(hubspot, 12)
    folder = tmp_path / "elsewhere"
    with to_hubspot(hubspot, clock) as door:
        pull_hubspot(door, folder)
    hubspot.asked.clear()
    # One that broke off: what it fetched so far waits in pages.
    hubspot.contact(7, NOW - 90 * DAY, email="person7@acme.com", jobtitle="Boss")
    shares = pd.read_parquet(folder / "contact.parquet")
    pages = folder / ".pull" / "contact"
    pages.mkdir()
    shares[shares["id"].isin(["7", "8"])].to_parquet(pages / "000000099.parquet")
    WrittenFile(folder / ".push" / "written.jsonl").remember({"7": "mark", "8": "mark"})
    ingested(store, event("e7", "7"))
    store.write(lambda tx: note_folder(tx, "hubspot", folder))
    store.write(lambda tx: note_folder(tx, "hubspot", folder))
    store.write(lambda tx: note_folder(tx, "salesforce", tmp_path / "gone"))
    assert len(store.read(landing_folders)) == 2
    assert holds(folder, "person7@acme.com") >= {
        "contact.parquet",
        "email_event.parquet",
        "form_submission.parquet",
    }
    before = len(pd.read_parquet(folder / "email_event.parquet"))
    usual = [LandingFolder("hubspot", folder)]
    erased = erase_everywhere(store, "7", now=NOW, actor="test", folders=usual)
    assert erased.rows["events"] == 1
    assert erased.landed > 5
    assert holds(folder, "person7@acme.com", "e7-0") == set()
    assert not (pd.read_parquet(folder / "contact_property_history.parquet")["contact_id"] == "7").any()
    assert len(pd.read_parquet(folder / "email_event.parquet")) == before - 3
    assert len(pd.read_parquet(pages / "000000099.parquet")) == 1
    written = WrittenFile(folder / ".push" / "written.jsonl")
    assert (written.last("7"), written.last("8")) == (None, "mark")
    assert erase_everywhere(store, "7", now=NOW, actor="test").landed == 0


def test_an_address_that_two_contacts_share_stays_the_others(hubspot, clock, tmp_path):
    small_hubspot(hubspot, 6)
    hubspot.contact(9, NOW - 90 * DAY, email="person4@acme.com")
    with to_hubspot(hubspot, clock) as door:
        pull_hubspot(door, tmp_path)
    assert forget_in_folder("hubspot", tmp_path, ["9"]) >= 1
    assert "person4@acme.com" in set(pd.read_parquet(tmp_path / "email_event.parquet")["recipient"])
    assert "9" not in set(pd.read_parquet(tmp_path / "contact.parquet")["id"])


def test_a_lead_of_salesforce_goes_with_what_was_done_to_it(salesforce, clock, tmp_path):
    small_salesforce(salesforce)
    with to_salesforce(salesforce, clock) as door:
        pull_salesforce(door, tmp_path)
    task = pd.read_parquet(tmp_path / "Task.parquet")
    lead = task["WhoId"].value_counts().index[0]
    assert holds(tmp_path, lead) >= {"Lead.parquet", "Task.parquet"}
    assert forget_in_folder("salesforce", tmp_path, [lead]) >= 2
    assert holds(tmp_path, lead) == set()
    assert len(pd.read_parquet(tmp_path / "Lead.parquet")) > 5


def test_nothing_is_erased_below_a_running_pull_or_for_an_unknown_system(hubspot, clock, store, tmp_path):
    small_hubspot(hubspot, 4)
    with to_hubspot(hubspot, clock) as door:
        pull_hubspot(door, tmp_path)
    folders = [LandingFolder("hubspot", tmp_path)]
    with landing(tmp_path, ()), pytest.raises(StoreUnavailable, match="another pull"):
        erase_everywhere(store, "1", now=NOW, actor="test", folders=folders)
    with pytest.raises(InvalidSetting, match="no connector"):
        forget_in_folder("pipedrive", tmp_path, ["1"])
