"""The background worker: what changed is scored, what was promised is delivered, what is over its time is forgotten."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from crm_servers import CLIENT, NOW, Fault, Receiver
from predictive_scoring.cli.app import app
from predictive_scoring.connectors.signatures import SeenInMemory, verify_standard
from predictive_scoring.connectors.webhooks_out import Endpoint
from predictive_scoring.errors import InvalidSetting, UnknownModel
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.activity import Feedback, record
from predictive_scoring.keeping.store.erasure import erase_lead
from predictive_scoring.keeping.store.facts import read_fact
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.jobs import cancel, create_job, read_job
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.outbox import outbox_counts, revive
from predictive_scoring.keeping.store.scores import page
from predictive_scoring.live.delivery import endpoints_of
from predictive_scoring.live.jobs import claim_job, step_job
from predictive_scoring.live.rescoring import rescore_some
from predictive_scoring.live.retention import forget_some
from predictive_scoring.live.stored import score_stored
from predictive_scoring.live.worker import HEARTBEAT, work_off
from predictive_scoring.scoring import Scorer
from predictive_scoring.timeline import DAY, format_instant
from worker_worlds import workplace

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LEADS = 30


@pytest.fixture
def place(small_champion, tmp_path):
    found = workplace(small_champion, tmp_path, LEADS)
    yield found
    found.store.close()


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.close()


def visit(place, lead, number=1, at=0):
    """A page view, known `at` seconds after what the store knows."""
    known = place.store.read(observed_until) + at
    message = Message(f"m-{lead}-{number}", known, known, lead, event_type="page_view")
    place.store.write(lambda tx: ingest(tx, [message]))


def broken(scorer, lead):
    """The same scorer, which cannot score one lead."""

    class Broken(Scorer):
        def score_many(self, leads, *args, **more):
            if any(one.lead_id == lead for one in leads):
                raise RuntimeError("no")
            return super().score_many(leads, *args, **more)

    return Broken(scorer.scoring, scorer.identity, scorer.version, scorer.manifest)


# Re-scoring ---------------------------------------------------------------------------------------------------


def test_what_changed_is_scored_as_anybody_would_score_it_and_then_nothing_is_left(place, small_champion):
    done = work_off(place.worker(limit=7), None)
    assert (done.rescored, done.failed, done.outdated) == (LEADS, 0, 0)
    kept = place.rows(tables.scores)
    found = score_stored(place.store, small_champion.scorer, place.ids)
    assert {row.lead_id: row.document for row in kept} == {
        one: score.score.model_dump_json() for one, score in found.scored.scores.items()
    }
    assert {row.lead_id: json.loads(row.vector) for row in kept if row.vector} == {
        one: dict(score.vector)
        for one, score in found.scored.scores.items()
        if score.score.status == "scored"
    }
    assert not work_off(place.worker(), None)
    visit(place, place.ids[3])
    assert work_off(place.worker(), None).rescored == 1
    assert place.scores()[-1]["lead_id"] == place.ids[3]
    assert place.store.read(lambda tx: read_fact(tx, HEARTBEAT)) == str(NOW)


def test_a_lead_that_cannot_be_scored_is_noted_and_left_alone_until_it_changes(place, small_champion):
    scorer, bad = broken(small_champion.scorer, place.ids[4]), place.ids[4]
    assert rescore_some(place.store, scorer, NOW, limit=10) == (10, 1)
    said = {one["lead_id"]: (one["status"], one["status_reason"]) for one in place.scores()}
    assert said.pop(bad) == ("not_scored", "scoring_failed")
    assert all(status == "scored" for status, _ in said.values())
    assert rescore_some(place.store, scorer, NOW, limit=100) == (LEADS - 10, 0)
    assert rescore_some(place.store, scorer, NOW + 1000) == (0, 0)
    visit(place, bad)
    assert rescore_some(place.store, small_champion.scorer, NOW + 1000) == (1, 0)
    assert place.scores()[-1]["status"] == "scored"


def test_a_lead_that_was_erased_or_taken_by_another_meanwhile_gets_no_second_score(place, small_champion):
    scorer = small_champion.scorer

    class Interrupted(Scorer):
        def score_many(self, leads, *args, **more):
            erase_lead(place.store, place.ids[0], now=NOW, actor="test")
            rescore_some(place.store, scorer, NOW + 60, limit=2, lease=60)
            return super().score_many(leads, *args, **more)

    slow = Interrupted(scorer.scoring, scorer.identity, scorer.version, scorer.manifest)
    rescore_some(place.store, slow, NOW, limit=5, lease=60)
    assert [one["lead_id"] for one in place.scores()] == place.ids[1:5]


def test_scores_follow_time_and_the_promoted_model_without_being_asked(place):
    work_off(place.worker(), None)
    visit(place, place.ids[0], at=2 * DAY)
    done = work_off(place.worker(), None)
    assert (done.rescored, done.outdated) == (LEADS, LEADS - 1)
    until = place.store.read(observed_until)
    latest = {row.lead_id: row.as_of for row in place.rows(tables.latest_scores)}
    assert set(latest.values()) == {until}
    # As if another model had scored some of them.
    another = update(tables.latest_scores).where(tables.latest_scores.c.lead_id.in_(place.ids[:9]))
    place.store.write(lambda tx: tx.execute(another.values(bundle="sha256:before")))
    assert work_off(place.worker(), None).outdated == 9


def test_a_promotion_is_followed_and_a_bad_one_is_not(place):
    worker = place.worker(limit=5)
    worker.round()
    first = worker.scorer
    pointer = place.bundles.pointer.read_text()
    place.bundles.pointer.write_text(pointer.replace(place.bundles.champion().bundle, "0" * 16))
    worker.round()
    assert worker.scorer is first
    assert worker.follower.refused.name == "UnknownModel"
    place.clock.slept.append(10)
    place.bundles.pointer.write_text(pointer)
    worker.round()
    assert worker.follower.refused is None
    assert len(place.scores()) == 15


def test_without_a_champion_the_work_waits_and_working_off_says_why(place):
    place.bundles.pointer.unlink()
    assert not place.worker().round()
    with pytest.raises(UnknownModel, match="no model has been promoted"):
        work_off(place.worker(), None)


# Jobs ---------------------------------------------------------------------------------------------------------


def job_over(place, **parameters):
    work_off(place.worker(), None)
    return place.store.write(lambda tx: create_job(tx, "score", parameters, now=NOW, actor="key"))


def test_a_job_scores_its_leads_at_its_instant(place, small_champion):
    as_of = small_champion.as_of - 9 * DAY
    job = job_over(place, as_of=as_of)
    before = len(place.scores())
    done = work_off(place.worker(limit=7), None)
    assert (done.job_leads, done.jobs) == (LEADS, 1)
    ended = place.store.read(lambda tx: read_job(tx, job.job_id))
    assert (ended.state, ended.done, ended.failed) == ("done", LEADS, 0)
    made = place.scores()[before:]
    assert [one["lead_id"] for one in made] == place.ids
    assert {one["as_of"] for one in made} == {format_instant(as_of)}
    # Scores of the past do not take the place of today's.
    assert {row.as_of for row in place.rows(tables.latest_scores)} == {small_champion.as_of}


def test_a_job_tells_what_it_could_not_score(place, small_champion):
    wanted = ["nobody", *place.ids[:3]]
    job = place.store.write(lambda tx: create_job(tx, "score", {}, now=NOW, actor="key", lead_ids=wanted))
    claimed = claim_job(place.store, "w", NOW)
    scorer = broken(small_champion.scorer, place.ids[1])
    while claimed is not None:
        claimed = step_job(place.store, scorer, claimed, "w", NOW, limit=2)
    ended = place.store.read(lambda tx: read_job(tx, job.job_id))
    assert (ended.state, ended.total, ended.failed) == ("done", 4, 2)
    assert [one["status"] for one in place.scores()] == ["scored", "not_scored", "scored"]


def test_a_step_of_a_job_that_is_not_ours_any_more_keeps_nothing(place, small_champion):
    job = job_over(place)
    before = len(place.scores())
    claimed = claim_job(place.store, "w", NOW)
    place.store.write(lambda tx: cancel(tx, job.job_id, NOW))
    assert step_job(place.store, small_champion.scorer, claimed, "w", NOW) is None
    assert len(place.scores()) == before


def test_a_job_of_an_unknown_kind_is_ended_and_said_so(place):
    job = place.store.write(lambda tx: create_job(tx, "bake", {}, now=NOW, actor="key"))
    assert claim_job(place.store, "w", NOW) is None
    ended = place.store.read(lambda tx: read_job(tx, job.job_id))
    assert (ended.state, ended.error) == ("failed", "InvalidValue")


def test_a_worker_that_stops_lets_others_go_on_at_once(place):
    job_over(place)
    first = place.worker("w1", limit=4)
    first.round()
    first.let_go()
    assert work_off(place.worker("w2"), None).job_leads == LEADS - 4


# Webhooks -----------------------------------------------------------------------------------------------------


def test_what_changed_is_told_once_signed_and_only_if_a_crm_shows_it(place, receiver):
    crm = Endpoint("crm", f"{receiver.base}/hook", (SECRET,))
    worker = place.worker(endpoints=[crm])
    assert work_off(worker, CLIENT).delivered == LEADS
    seen = SeenInMemory()
    ids = {verify_standard(headers, body, [SECRET], NOW, seen) for headers, body in receiver.got}
    assert len(ids) == LEADS
    told = [json.loads(body) for _, body in receiver.got]
    assert sorted(one["data"]["lead_id"] for one in told) == place.ids
    # A repeated scoring changes nothing, so nobody is told.
    place.store.write(lambda tx: create_job(tx, "score", {}, now=NOW, actor="key"))
    done = work_off(worker, CLIENT)
    assert (done.job_leads, done.delivered) == (LEADS, 0)
    known = place.store.read(observed_until)
    opted = Message("m-out", known, known, place.ids[2], traits={"opted_out": True})
    place.store.write(lambda tx: ingest(tx, [opted]))
    place.clock.slept.append(60)
    work_off(worker, CLIENT)
    last = {one["data"]["lead_id"]: one["data"] for one in (json.loads(body) for _, body in receiver.got)}
    assert (last[place.ids[2]]["status"], last[place.ids[2]]["score"]) == ("suppressed", None)


def test_what_is_not_delivered_is_tried_again_and_in_the_end_waits_for_a_person(place, receiver):
    crm = Endpoint("crm", f"{receiver.base}/hook", (SECRET,))
    worker = place.worker(endpoints=[crm], limit=1)
    worker.round()
    receiver.faults = dict.fromkeys(range(1, 40), Fault(500))
    times = []
    for _ in range(12):
        done = worker.deliver(CLIENT)
        times.append(sum(place.clock.slept))
        if done.dead:
            break
        ((waiting,),) = [place.rows(tables.outbox)]
        place.clock.slept.append(waiting.due - NOW - times[-1])
    assert len(receiver.got) == 10
    assert times[-1] > 3 * DAY
    assert place.store.read(outbox_counts) == (0, 1)
    names = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(names) == 1
    receiver.faults = {}
    place.store.write(lambda tx: revive(tx, NOW))
    assert worker.deliver(CLIENT).delivered == 1
    assert place.rows(tables.outbox) == []


def test_an_erased_lead_is_told_to_nobody(place, receiver):
    crm = Endpoint("crm", f"{receiver.base}/hook", (SECRET,))
    worker = place.worker(endpoints=[crm], limit=2)
    worker.round()
    erase_lead(place.store, place.ids[0], now=NOW, actor="test")
    worker.deliver(CLIENT)
    assert [json.loads(body)["data"]["lead_id"] for _, body in receiver.got] == [place.ids[1]]


def test_endpoints_are_named_by_the_environment():
    address = "https://crm.example.com/hooks"
    environment = {
        "PREDICTIVE_SCORING_WEBHOOK_CRM_URL": address,
        "PREDICTIVE_SCORING_WEBHOOK_CRM_SECRET": f"{SECRET} {SECRET}",
        "PREDICTIVE_SCORING_DATABASE_URL": "sqlite:///x.db",
    }
    assert endpoints_of(environment) == (Endpoint("crm", address, (SECRET, SECRET)),)
    assert endpoints_of({}) == ()
    for missing in ("URL", "SECRET"):
        part = {name: value for name, value in environment.items() if not name.endswith(missing)}
        part["PREDICTIVE_SCORING_WEBHOOK_B_URL"] = "" if missing == "URL" else address
        with pytest.raises(InvalidSetting, match=f"PREDICTIVE_SCORING_WEBHOOK_.*_{missing}"):
            endpoints_of(part)


# Forgetting ---------------------------------------------------------------------------------------------------


def test_superseded_scores_go_when_their_time_is_over_and_latest_ones_and_judged_ones_stay(
    place, small_champion
):
    scorer = small_champion.scorer
    for turn in range(3):
        place.store.write(
            lambda tx: create_job(tx, "score", {}, now=NOW, actor="key", lead_ids=place.ids[:4])
        )
        job = claim_job(place.store, "w", NOW)
        while job is not None:
            job = step_job(place.store, scorer, job, "w", NOW + turn * DAY)
    judged = Feedback("f1", place.ids[0], "bad", NOW, "anna", score_cursor=1)
    place.store.write(lambda tx: record(tx, [judged], NOW))
    assert forget_some(place.store, NOW + 10 * DAY, 10 * DAY) == 0
    assert forget_some(place.store, NOW + 11 * DAY, 10 * DAY, limit=2) == 2
    assert forget_some(place.store, NOW + 11 * DAY, 10 * DAY) == 1
    assert forget_some(place.store, NOW + 900 * DAY, 10 * DAY) == 4
    found = place.store.read(lambda tx: page(tx, 0, 100, every=True))
    assert [row.cursor for row in found.rows] == [1, 9, 10, 11, 12]


# The verb -----------------------------------------------------------------------------------------------------


def arguments(place, project):
    return [
        *("work", "--project", str(project.file), "--models", str(place.folder / "models")),
        *("--database-url", f"sqlite:///{place.folder / 'store.db'}"),
    ]


def begin(place, project):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from predictive_scoring.cli import main; main()"),
            *arguments(place, project),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PREDICTIVE_SCORING_LOG": "json"},
    )


def until(process, place, scores):
    deadline = time.monotonic() + 60
    while len(place.scores()) < scores:
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "it does nothing"
        time.sleep(0.05)


def test_the_verb_works_until_it_is_asked_to_stop_and_finishes_its_step(place, small_champion):
    with begin(place, small_champion) as process:
        try:
            until(process, place, LEADS)
            begun = time.monotonic()
            visit(place, place.ids[0])
            until(process, place, LEADS + 1)
            assert time.monotonic() - begun < 5
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "")
    lines = [json.loads(line) for line in err.splitlines()]
    assert sum(line.get("rescored", 0) for line in lines if line["event"] == "worked") == LEADS + 1
    assert not any(lead in err for lead in place.ids)


@pytest.fixture
def logging_as_before():
    """The verb takes over the logging of its process."""
    root, ours = logging.getLogger(), logging.getLogger("predictive_scoring")
    before = root.handlers, root.level, ours.level, sys.excepthook, threading.excepthook
    yield
    root.handlers, root.level, ours.level, sys.excepthook, threading.excepthook = before
    logging.captureWarnings(False)


@pytest.mark.usefixtures("logging_as_before")
def test_the_verb_says_what_it_did_once(place, small_champion):
    command = [*arguments(place, small_champion), "--once"]
    first = CliRunner().invoke(app, [*command, "--json"])
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["rescored"] == LEADS
    assert "Nothing was left to do." in CliRunner().invoke(app, command).stdout
    place.bundles.pointer.unlink()
    assert CliRunner().invoke(app, command).exit_code == 2
