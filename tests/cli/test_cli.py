"""The command line as people and programs meet it: help, answers, named errors with their exit codes."""

import csv
import hashlib
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.timeline import format_instant

VERBS = (
    "init", "simulate", "validate", "train", "compare", "promote", "rollback", "score", "explain", "replay",
    "serve", "doctor", "monitor", "recalibrate", "plan", "connect", "keys", "webhooks", "erase", "subject", "audit",
    "export", "work",
)  # fmt: skip
PROGRAM = Path(sys.executable).with_name("predictive-scoring")
COMMANDS = typer.main.get_command(app).commands


def run(*arguments, cwd=None):
    """The real program in a process of its own."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=250, cwd=cwd
    )


def call(*arguments):
    """The same in this process, which saves seconds where the process itself is not the point."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def content(folder):
    """Every file below a folder, with a hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Help -------------------------------------------------------------------------------------------------------


def test_the_program_lists_every_verb():
    answer = run("--help")
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert [verb for verb in VERBS if verb not in answer.stdout.split()] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does_and_shows_examples_of_itself(verb):
    answer = call(verb, "--help")
    assert answer.exit_code == 0
    lines = [line.strip() for line in answer.stdout.splitlines()]
    assert "Examples" in lines
    examples = [line for line in lines[lines.index("Examples") :] if line]
    assert f"predictive-scoring {verb}" in " ".join(examples)
    assert COMMANDS[verb].help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_answer_a_program(verb):
    assert "--json" in {name for parameter in COMMANDS[verb].params for name in parameter.opts}


def test_no_verb_is_without_a_test_here():
    assert sorted(COMMANDS) == sorted(VERBS)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"init"}))
def test_every_verb_but_init_takes_the_project_file(verb):
    assert "--project" in {name for parameter in COMMANDS[verb].params for name in parameter.opts}


# Bad input --------------------------------------------------------------------------------------------------

LOG = """\
name: tiny
sources:
  leads: {path: leads.csv}
  events: {path: events.csv}
attributes:
  title: {type: category, label: Job title, immutable: true}
events:
  page_view: {label: Page view}
  deal: {label: Deal}
conversion: {event: deal, horizon: 30d}
cutoffs: {first: 2026-02-01T00:00:00Z, every: 14d}
feature_views: [visits]
readiness: {share: 0.1}
"""
SNAPSHOT = """\
name: tiny
sources:
  snapshot: {path: visits.csv}
attributes:
  pages: {type: number, label: Pages}
observed_until: 2026-06-30T00:00:00Z
conversion: {column: bought, positive: "yes", horizon: 30d}
readiness: {share: 0.1}
"""
LEADS = "lead_id,created_at,title\nL-1,2026-01-01T00:00:00Z,CEO\nL-2,2026-01-02T00:00:00Z,CTO\n"
EVENTS = (
    "event_id,lead_id,event_type,occurred_at\n"
    "e1,L-1,page_view,2026-01-05T00:00:00Z\n"
    "e2,L-1,deal,2026-02-05T00:00:00Z\n"
    "e3,L-2,page_view,2026-06-05T00:00:00Z\n"
)
VISITS = "lead_id,pages,bought\n" + "".join(f"V-{n},{n % 7},yes\n" for n in range(40))
TINY = {"scoring.yaml": LOG, "leads.csv": LEADS, "events.csv": EVENTS}
LINE = {key.split(":")[0]: number for number, key in enumerate(LOG.splitlines(), start=1)}


@dataclass(frozen=True)
class Bad:
    """What differs from a good project, the error it must get, and words that its message must hold."""

    files: dict
    error: str
    words: tuple


BAD = {
    "a column is missing": Bad(
        {"scoring.yaml": LOG.replace("  title:", "  industry:")},
        "MissingColumn",
        ("industry", "sources.leads", "title"),
    ),
    "a lead id stands twice": Bad(
        {"leads.csv": LEADS + "L-1,2026-01-03T00:00:00Z,CFO\n"}, "DuplicateKey", ("L-1", "lead_id")
    ),
    "a time has no zone": Bad(
        {"events.csv": EVENTS.replace("2026-02-05T00:00:00Z", "2026-02-05 00:00:00")},
        "NaiveTimestamp",
        ("2026-02-05 00:00:00", "occurred_at", "row 2"),
    ),
    "a table is not there": Bad({"events.csv": None}, "UnreadableFile", ("events.csv",)),
    "a table is not of its format": Bad(
        {
            "scoring.yaml": LOG.replace("events.csv", "events.parquet"),
            "events.parquet": "certainly no Parquet",
        },
        "UnreadableFile",
        ("events.parquet",),
    ),
    "a key is unknown": Bad(
        {"scoring.yaml": LOG.replace("attributes:", "atributes:")},
        "InvalidDocument",
        ("atributes", f"line {LINE['attributes']}", "attributes"),
    ),
    "the YAML contains itself": Bad(
        {"scoring.yaml": LOG.replace("readiness: {share: 0.1}", "readiness: &r\n  share: *r")},
        "InvalidDocument",
        ("contains itself", "line"),
    ),
    "the conversion never occurs": Bad(
        {"events.csv": EVENTS.replace("deal", "page_view")}, "ConversionNeverOccurs", ("deal", "page_view")
    ),
    "there is only one class": Bad(
        {"scoring.yaml": SNAPSHOT, "visits.csv": VISITS}, "TrainingImpossible", ("fewer than two classes",)
    ),
    "no row is positive": Bad(
        {"scoring.yaml": SNAPSHOT, "visits.csv": VISITS.replace("yes", "Yes")},
        "ConversionNeverOccurs",
        ("bought", "'yes'"),
    ),
    "the project file is not there": Bad({"scoring.yaml": None}, "UnreadableFile", ("scoring.yaml",)),
}


def laid_out(folder, changes):
    for name, text in {**TINY, **changes}.items():
        if text is not None:
            (folder / name).write_text(text, "utf-8")


def assert_named(error, words, document):
    assert list(document) == ["error", "what", "where", "remedy"]
    assert document["error"] == error
    assert all(isinstance(value, str) and value for value in document.values())
    told = " ".join(document.values())
    assert [word for word in words if word not in told] == []


FURTHER = ("a table is not of its format", "no row is positive", "the project file is not there")
"""Cases beside the others; in this process, because another start of the program would tell nothing new."""


@pytest.mark.parametrize("name", FURTHER)
def test_bad_input_of_a_further_kind_is_named_and_nothing_is_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, BAD[name].files)
    before = content(tmp_path)
    answer = call("train", "--json")
    assert answer.exit_code == 2
    assert_named(BAD[name].error, BAD[name].words, json.loads(answer.stdout))
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in BAD if name not in FURTHER])
def test_bad_input_is_named_on_both_streams_with_exit_2_and_nothing_is_written(name, tmp_path):
    case = BAD[name]
    laid_out(tmp_path, case.files)
    before = content(tmp_path)
    answer = run("train", "--json", cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert_named(case.error, case.words, json.loads(answer.stdout))
    assert answer.stdout.count("\n") == 1
    assert case.error in answer.stderr
    assert "to do:" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert content(tmp_path) == before


def test_without_json_a_refusal_goes_to_standard_error_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, BAD["a lead id stands twice"].files)
    answer = call("train")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert "DuplicateKey" in answer.stderr
    assert "L-1" in answer.stderr


def test_an_unknown_lead_is_refused_by_name_with_an_example_of_an_id(small_champion, tmp_path):
    options = ("--project", small_champion.file, "--models", small_champion.models)
    answer = run("explain", "nobody", *options, "--json", cwd=tmp_path)
    assert answer.returncode == 2
    known = small_champion.tables.leads["lead_id"].iloc[0]
    assert_named("UnknownLead", ("nobody", known), json.loads(answer.stdout))
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--as-of", "2026-06-01T00:00:00"), "NaiveTimestamp"),
        (("--as-of", "yesterday"), "InvalidSetting"),
        (("--lead", "nobody"), "UnknownLead"),
        (("--lead", "L-00001", "--out", "scores.xlsx"), "InvalidSetting"),
        (("--lead", "L-00001", "--out", "no/such/folder/scores.csv"), "UnreadableFile"),
    ],
)
def test_an_impossible_argument_of_score_is_refused_and_nothing_is_written(
    small_champion, tmp_path, monkeypatch, arguments, error
):
    monkeypatch.chdir(tmp_path)
    lead = small_champion.tables.leads["lead_id"].iloc[0]
    arguments = [lead if part == "L-00001" else part for part in arguments]
    options = ("--project", small_champion.file, "--models", small_champion.models)
    answer = call("score", *options, *arguments, "--json")
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["error"] == error
    assert content(tmp_path) == {}


@pytest.mark.parametrize("verb", ["score", "explain", "promote", "rollback", "compare", "serve"])
def test_before_anything_was_trained_the_verbs_that_need_a_model_say_so(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, {})
    # `serve` and the others ask the store first; promote and compare ask MLflow.
    answer = call(verb, *(["L-1"] if verb == "explain" else []), "--json")
    assert answer.exit_code == 2
    document = json.loads(answer.stdout)
    assert document["error"] == "UnknownModel"
    assert "train" in document["remedy"] or "promote" in document["remedy"]


def test_serve_refuses_a_port_in_use_and_an_address_that_others_can_reach(small_champion):
    options = ("--project", small_champion.file, "--models", small_champion.models, "--json")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        answer = call("serve", *options, "--port", port)
    assert answer.exit_code == 2
    assert_named("PortInUse", (str(port),), json.loads(answer.stdout))
    answer = call("serve", *options, "--host", "0.0.0.0")  # noqa: S104 it must be refused
    assert answer.exit_code == 2
    assert_named("InvalidSetting", ("0.0.0.0",), json.loads(answer.stdout))  # noqa: S104


def test_validate_keeps_an_event_before_its_leads_creation_and_warns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, {"events.csv": EVENTS + "e0,L-2,page_view,2025-12-01T00:00:00Z\n"})
    answer = call("validate", "--json")
    findings = json.loads(answer.stdout)["findings"]
    told = [
        finding for finding in findings if "creat" in finding["what"] and finding["severity"] == "warning"
    ]
    assert told, findings
    assert all(finding["remedy"] for finding in findings)
    # Two leads are enough for a points card.
    assert answer.exit_code == 0


def test_train_keeps_such_an_event_too_and_warns_and_starts_cold_with_two_leads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, {"events.csv": EVENTS + "e0,L-2,page_view,2025-12-01T00:00:00Z\n"})
    answer = call("train", "--json")
    assert answer.exit_code == 0, answer.stdout
    assert "PS110 warning: 1 event" in answer.stderr
    trained = json.loads(answer.stdout)
    assert trained["evidence"]["basis"] == "points_card"
    assert trained["metrics"]["test"] is None
    assert any("Cold start" in reason for reason in trained["reasons"])


# Promote and rollback ---------------------------------------------------------------------------------------


def registry(world):
    return (
        "--project",
        world.file,
        "--models",
        world.models,
        "--tracking-uri",
        world.uri,
        "--json",
    )


def test_promoting_a_rejected_version_exits_with_3_and_moves_nothing(world, tmp_path):
    world.add("rejected", "rejected")
    answer = run("promote", *registry(world), cwd=tmp_path)
    assert answer.returncode == 3, answer.stderr
    document = json.loads(answer.stdout)
    assert document["error"] == "GateRefused"
    assert "--override" in document["remedy"]
    assert (world.alias, world.line) == ("1", ["1"])


def test_an_override_promotes_it_and_its_reason_is_kept_then_rollback_goes_back(world):
    world.add("rejected", "rejected")
    answer = call("promote", *registry(world), "--override", "pilot, ticket 12")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["champion"]["override"] == "pilot, ticket 12"
    assert world.store.champion().override == "pilot, ticket 12"
    assert (world.alias, world.line) == ("2", ["1", "2"])
    answer = call("rollback", *registry(world))
    assert json.loads(answer.stdout)["champion"]["version"] == "1"
    assert (world.alias, world.line) == ("1", ["1"])
    assert call("rollback", *registry(world)).exit_code == 2


def test_a_damaged_bundle_is_not_promoted_and_exits_with_4(world):
    second = world.add("second")
    card = world.store.path(second.bundle) / "model_card.md"
    card.write_text(card.read_text("utf-8") + " ", "utf-8")
    answer = call("promote", *registry(world))
    assert answer.exit_code == 4
    assert_named("CorruptBundle", ("model_card.md",), json.loads(answer.stdout))
    assert (world.alias, world.line) == ("1", ["1"])


def test_compare_judges_both_versions_on_the_same_rows_and_promote_goes_by_it(world, tmp_path):
    world.add("second")
    page = tmp_path / "compare.html"
    dry = call("compare", *registry(world), "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["recorded"] is False
    assert world.tags("2")["verdict"] == "validated"
    answer = call("compare", *registry(world), "--report", page)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert (document["candidate"]["version"], document["against"]["version"]) == ("2", "1")
    # They differ in their cards only: nothing would be gained, so the place is not earned.
    assert document["candidate"]["metrics"] == document["against"]["metrics"]
    assert document["verdict"] == "rejected"
    assert document["rows"]["newer_than_both_models"] is True
    today = document["open_leads"]
    assert (today["moved"], today["to_ready"], today["to_nurture"]) == (0, [], [])
    assert today["leads"] > 0
    assert document["recorded"] is True
    assert world.tags("2")["verdict"] == "rejected"
    assert world.tags("2")["judged_on"] == document["rows"]["what"]
    text = page.read_text("utf-8")
    for sentence in document["reasons"]:
        assert sentence in html.unescape(text)
    assert text.count("<svg") >= 3
    assert not re.search(r"(src|href)=[\"'](https?:)?//", text), "the page opens offline"
    refused = call("promote", *registry(world))
    assert refused.exit_code == 3
    assert (world.alias, world.line) == ("1", ["1"])


def test_compare_with_a_version_that_is_not_champion_records_nothing(world):
    world.add("second"), world.add("third", "rejected")
    people = call("compare", *registry(world)[:-1], "--version", "3", "--against", "2")
    assert people.exit_code == 0, people.output
    said = " ".join(people.stdout.split())
    assert "not the champion, so the verdict is not recorded" in said
    assert "Judged on" in said
    assert "open leads" in said


def test_a_version_judged_against_an_earlier_champion_is_refused_by_name(world):
    second = world.add("second")
    world.add("third")
    world.promote(second)
    answer = call("promote", *registry(world))
    assert answer.exit_code == 3
    assert_named(
        "GateRefused", ("judged against version 1", "compare --version 3"), json.loads(answer.stdout)
    )
    assert (world.alias, world.line) == ("2", ["1", "2"])


# Score and explain ------------------------------------------------------------------------------------------

FORMULA = '=HYPERLINK("http://example.org","click")'


@pytest.fixture(scope="module")
def formula_project(small_champion, tmp_path_factory):
    """The small project with one lead whose id a spreadsheet would run."""
    folder = tmp_path_factory.mktemp("formula")
    for name in ("scoring.yaml", "playbook.yaml"):
        shutil.copy(small_champion.folder / name, folder)
    (folder / "tables").mkdir()
    chosen = list(small_champion.tables.leads["lead_id"].iloc[:3])
    for name in ("leads", "events", "touches", "attribute_changes"):
        frame = pd.read_parquet(small_champion.folder / "tables" / f"{name}.parquet")
        frame = frame[frame["lead_id"].isin(chosen)].copy()
        frame["lead_id"] = frame["lead_id"].replace({chosen[0]: FORMULA})
        frame.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    return folder / "scoring.yaml"


def test_scores_are_written_whole_as_json_lines_and_flat_and_safe_as_csv_and_parquet(
    small_champion, formula_project, tmp_path
):
    options = (
        "--project",
        formula_project,
        "--models",
        small_champion.models,
        "--as-of",
        format_instant(small_champion.as_of),
        "--json",
    )
    answers = {}
    for ending in ("jsonl", "csv", "parquet"):
        answer = call("score", *options, "--out", tmp_path / f"scores.{ending}")
        assert answer.exit_code == 0, answer.output
        answers[ending] = json.loads(answer.stdout)["scores"]
    assert answers["jsonl"] == answers["csv"] == answers["parquet"]
    documents = answers["jsonl"]
    assert FORMULA in {document["lead_id"] for document in documents}

    lines = (tmp_path / "scores.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == documents

    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["lead_id"] for row in rows] == [
        "'" + FORMULA if document["lead_id"] == FORMULA else document["lead_id"] for document in documents
    ]
    for row in rows:
        assert not [cell for cell in row.values() if cell[:1] in ("=", "+", "@", "\t", "\r")]
    for row, document in zip(rows, documents, strict=True):
        assert row["score"] == ("" if document["score"] is None else str(document["score"]))

    frame = pd.read_parquet(tmp_path / "scores.parquet")
    assert frame["lead_id"].tolist() == [document["lead_id"] for document in documents]
    assert frame["probability"].tolist() == pytest.approx(
        [float("nan") if d["probability"] is None else d["probability"] for d in documents], nan_ok=True
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"scores.{ending}" for ending in ("csv", "jsonl", "parquet")
    ]


def test_explain_says_to_people_what_it_says_to_programs(small_champion):
    scorer, as_of = small_champion.scorer, small_champion.as_of
    document = next(
        score
        for score in scorer.score_tables(small_champion.tables, as_of)
        if score.actions and len(score.reasons) > 1
    )
    options = (
        "explain",
        document.lead_id,
        "--project",
        small_champion.file,
        "--models",
        small_champion.models,
    )
    program = json.loads(call(*options, "--json").stdout)
    assert program["score"] == document.score
    assert program["reasons"] == [reason.model_dump() for reason in document.reasons]
    people = " ".join(call(*options).stdout.split())
    assert f"score {document.score}" in people
    for reason in document.reasons:
        assert reason.text in people
    assert document.actions[0].label in people


# init, simulate, doctor -------------------------------------------------------------------------------------


def test_init_drafts_a_project_and_never_overwrites_one_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"V-{n},{n % 7},{'yes' if n % 5 == 0 else 'no'}\n" for n in range(200))
    (tmp_path / "visits.csv").write_text("lead_id,pages,bought\n" + rows, "utf-8")
    first = call("init", "visits.csv", "--outcome", "bought", "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["project"] == "scoring.yaml"
    mine = (tmp_path / "scoring.yaml").read_text("utf-8") + "# my own work\n"
    (tmp_path / "scoring.yaml").write_text(mine, "utf-8")
    again = call("init", "visits.csv", "--outcome", "bought", "--json")
    assert again.exit_code == 2
    assert_named("InvalidSetting", ("scoring.yaml", "--force"), json.loads(again.stdout))
    assert (tmp_path / "scoring.yaml").read_text("utf-8") == mine
    assert call("init", "visits.csv", "--outcome", "bought", "--force").exit_code == 0
    assert "my own work" not in (tmp_path / "scoring.yaml").read_text("utf-8")


def test_simulate_never_overwrites_tables_that_are_not_its_own_parquet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    laid_out(tmp_path, {})
    before = content(tmp_path)
    answer = call("simulate", "--leads", "50", "--json")
    assert answer.exit_code == 2
    assert_named("InvalidSetting", ("sources.leads", "Parquet"), json.loads(answer.stdout))
    assert content(tmp_path) == before


def test_simulate_gives_the_same_tables_for_the_same_seed(small_champion, tmp_path, monkeypatch):
    made = []
    for seed in (3, 3, 4):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        for name in ("scoring.yaml", "playbook.yaml"):
            shutil.copy(small_champion.folder / name, folder)
        answer = call(
            "simulate", "--project", folder / "scoring.yaml", "--leads", "60", "--seed", seed, "--json"
        )
        assert answer.exit_code == 0, answer.output
        document = json.loads(answer.stdout)
        assert document["rows"]["leads"] == 60
        made.append({name: Path(path).read_bytes() for name, path in document["tables"].items()})
    assert made[0] == made[1]
    assert made[0]["events"] != made[2]["events"]


def test_doctor_tells_programs_each_check_and_exits_with_4_when_the_champion_is_damaged(world):
    options = (
        "doctor",
        "--project",
        world.file,
        "--models",
        world.models,
        "--tracking-uri",
        world.uri,
        "--json",
    )
    answer = call(*options)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["healthy"] is True
    checks = {check["name"]: check for check in document["checks"]}
    assert {"python", "lightgbm", "duckdb", "mlflow", "models folder", "MLflow", "project"} <= set(checks)
    assert "golden rows" in checks["project"]["detail"]
    assert all(check["remedy"] for check in document["checks"] if check["health"] != "ok")

    bundle = world.store.path(world.store.champion().bundle)
    (bundle / "model.txt").write_bytes((bundle / "model.txt").read_bytes()[:-1])
    answer = call(*options)
    assert answer.exit_code == 4
    document = json.loads(answer.stdout)
    assert document["healthy"] is False
    (sick,) = [check for check in document["checks"] if check["health"] == "missing"]
    assert sick["name"] == "project"
    assert "model.txt" in sick["detail"]


def test_a_refusal_is_plain_text_even_where_it_holds_markup(tmp_path):
    laid_out(tmp_path, {"leads.csv": LEADS + "[red]x[/],2026-01-03T00:00:00Z,\n" * 2})
    answer = call("validate", "--project", tmp_path / "scoring.yaml")
    assert answer.exit_code == 2
    assert "[red]x[/]" in answer.stderr
    assert os.linesep in answer.stderr
