"""The verbs. Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    ENGINE,
    MASTER,
    MODELS,
    PROJECT,
    SCORES,
    SHARE,
    TRACKING,
    AsOfOption,
    DatabaseOption,
    DsnOption,
    EngineOption,
    JsonOption,
    KeepOption,
    MasterOption,
    ModelsOption,
    ProjectOption,
    TrackingOption,
    engine_opener,
    example,
    now,
)

app = typer.Typer(
    name="predictive-scoring",
    help="Predictive lead scoring and nurturing: train, promote, score, explain, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring init leads.csv events.csv",
        "predictive-scoring init visits.csv --outcome Revenue",
        "predictive-scoring init hubspot_export/",
        "predictive-scoring init salesforce_export/ --out crm/scoring.yaml",
        "predictive-scoring init --dsn postgresql://reader@db/crm crm.leads crm.events",
    ),
)
def init(
    tables: Annotated[
        list[str],
        typer.Argument(
            help="Your CSV or Parquet files: one row per lead with its outcome; or leads, events and perhaps a history "
            "of attributes. Or the folder of a HubSpot or Salesforce export. With --dsn: tables of the database."
        ),
    ],
    dsn: DsnOption = None,
    out: Annotated[Path, typer.Option(help="Project file to write.")] = PROJECT,
    outcome: Annotated[
        str | None, typer.Option(help="Outcome column or conversion event, if not guessed.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing project file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a project file from your own tables, with comments that say why."""
    from predictive_scoring.cli import preparing

    with output.answering(as_json):
        preparing.init(tables, dsn, out, outcome, force, as_json, datetime.now(UTC))


@app.command(
    epilog=example(
        "predictive-scoring simulate --project data/projects/sample/scoring.yaml",
        "predictive-scoring simulate -p scoring.yaml --leads 20000 --seed 3 --leak near_pure_level",
    )
)
def simulate(
    project: ProjectOption = PROJECT,
    leads: Annotated[int, typer.Option(min=50, help="How many leads.")] = 5000,
    seed: Annotated[int, typer.Option(help="Same seed, same tables.")] = 7,
    leak: Annotated[
        list[str] | None,
        typer.Option(
            help="Plant a leak (repeatable): late_value, near_pure_level, fill_rate, suspicious_name "
            "or overwritten_field."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write simulated lead histories into the project's tables."""
    from predictive_scoring.cli import preparing

    with output.answering(as_json):
        preparing.simulate(project, leads, seed, tuple(leak or ()), as_json)


@app.command(
    epilog=example(
        "predictive-scoring validate --project data/projects/sample/scoring.yaml --json",
        "predictive-scoring validate --report readiness.html",
    )
)
def validate(
    project: ProjectOption = PROJECT,
    report: Annotated[
        Path | None, typer.Option(help="Also write the findings, with pictures, as one HTML page.")
    ] = None,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Check project file and tables: can a model be trained? Exit 2 if not, 3 if leaks are suspected."""
    from predictive_scoring.cli import preparing

    with output.answering(as_json):
        preparing.validate(project, report, as_json, engine_opener(engine, dsn, master))


@app.command(
    epilog=example(
        "predictive-scoring train --project data/projects/sample/scoring.yaml",
        "predictive-scoring train -p data/projects/bank_marketing/scoring.yaml --json",
        "predictive-scoring train --report report.html",
        "predictive-scoring train --trials 60 --minutes 10",
    )
)
def train(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    report: Annotated[
        Path | None, typer.Option(help="Also write what the model is and how good, as one HTML page.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Search for better settings: trials in all, those of a killed run counted."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Search for better settings: for at most so long.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train, judge and register a candidate. Exit 3 if it is rejected; it serves only once promoted."""
    from predictive_scoring.cli import modelling

    with output.answering(as_json):
        modelling.train(
            project,
            models,
            tracking_uri,
            as_json,
            engine_opener(engine, dsn, master),
            report=report,
            trials=trials,
            minutes=minutes,
        )


@app.command(
    epilog=example(
        "predictive-scoring compare --report compare.html",
        "predictive-scoring compare --version 3 --against 1 --json",
    )
)
def compare(
    project: ProjectOption = PROJECT,
    version: Annotated[str | None, typer.Option(help="The candidate; default: the newest.")] = None,
    against: Annotated[str | None, typer.Option(help="The other version; default: the champion.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write the comparison, with pictures, as one HTML page.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do not record the verdict on the version.")
    ] = False,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Judge a version against the champion on the same newest rows, and record the verdict that promote goes by."""
    from predictive_scoring.cli import modelling

    with output.answering(as_json):
        modelling.compare(
            project,
            version,
            against,
            models,
            tracking_uri,
            as_json,
            engine_opener(engine, dsn, master),
            dry_run=dry_run,
            report=report,
        )


@app.command(
    epilog=example(
        "predictive-scoring promote",
        'predictive-scoring promote --version 3 --override "pilot, see ticket 12"',
    )
)
def promote(
    project: ProjectOption = PROJECT,
    version: Annotated[str | None, typer.Option(help="The version; default: the newest.")] = None,
    override: Annotated[
        str | None,
        typer.Option(
            help="Written reason (10 characters or more) to promote a version that has not earned it."
        ),
    ] = None,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion: alias and pointer together. Exit 3 if it has not earned it against the champion."""
    from predictive_scoring.cli import modelling

    with output.answering(as_json):
        modelling.promote(project, version, override, models, tracking_uri, as_json, now())


@app.command(epilog=example("predictive-scoring rollback --project data/projects/sample/scoring.yaml"))
def rollback(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    as_json: JsonOption = False,
) -> None:
    """Make the champion before this one champion again."""
    from predictive_scoring.cli import modelling

    with output.answering(as_json):
        modelling.rollback(project, models, tracking_uri, as_json)


@app.command(
    epilog=example(
        "predictive-scoring score --project data/projects/sample/scoring.yaml --top 20",
        "predictive-scoring score --as-of 2026-05-01T00:00:00Z --out scores.csv",
        "predictive-scoring score --previous yesterday.csv --out today.csv",
        "predictive-scoring score --engine spark --out scores.parquet",
        "predictive-scoring score --keep-vectors 0.05",
        "predictive-scoring score --version 4 --out challenger.csv",
    )
)
def score(
    project: ProjectOption = PROJECT,
    as_of: AsOfOption = None,
    lead: Annotated[list[str] | None, typer.Option(help="Only this lead (repeatable).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table for people.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Also write all scores: .jsonl, .csv or .parquet.")] = None,
    previous: Annotated[
        Path | None,
        typer.Option(
            help="An earlier --out: leads keep their readiness unless they clearly crossed the line."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Score with this version instead of the champion: a challenger in its shadow."),
    ] = None,
    keep_vectors: KeepOption = 0.0,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Score the project's leads with the champion, or with another version in its shadow."""
    from predictive_scoring.cli import using

    with output.answering(as_json):
        using.score(
            project,
            as_of,
            tuple(lead or ()),
            top,
            out,
            models,
            as_json,
            engine_opener(engine, dsn, master),
            keep_vectors=keep_vectors,
            now=int(datetime.now(UTC).timestamp()),
            previous=previous,
            shadow=None if version is None else (version, tracking_uri),
        )


@app.command(epilog=example("predictive-scoring explain L-00012 --project data/projects/sample/scoring.yaml"))
def explain(
    lead: Annotated[str, typer.Argument(help="Lead id.")],
    project: ProjectOption = PROJECT,
    as_of: AsOfOption = None,
    models: ModelsOption = MODELS,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Say why one lead has its score, and what to do next."""
    from predictive_scoring.cli import using

    with output.answering(as_json):
        using.explain(project, lead, as_of, models, as_json, engine_opener(engine, dsn, master))


@app.command(
    epilog=example(
        "predictive-scoring plan --project data/projects/sample/scoring.yaml",
        "predictive-scoring plan --capacity 40 --json",
    )
)
def plan(
    project: ProjectOption = PROJECT,
    capacity: Annotated[
        int | None,
        typer.Option(min=1, help="Leads that sales can work a week; default: readiness.weekly_capacity."),
    ] = None,
    models: ModelsOption = MODELS,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Say which leads to work with the time there is, how many should convert, and what more time would bring."""
    from predictive_scoring.cli import planning

    with output.answering(as_json):
        planning.plan(project, capacity, models, as_json, engine_opener(engine, dsn, master))


@app.command(
    epilog=example(
        "predictive-scoring monitor --report monitoring.html",
        "predictive-scoring monitor -p data/projects/sample/scoring.yaml --no-log --json",
    )
)
def monitor(
    project: ProjectOption = PROJECT,
    report: Annotated[
        Path | None, typer.Option(help="Also write what was found, with pictures, as one HTML page.")
    ] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Record the look as a run in MLflow.")] = True,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Compare the present leads with those of training, and scores with what became of them. Exit 3 on an alarm."""
    from predictive_scoring.cli import watching

    with output.answering(as_json):
        watching.monitor(
            project, report, log, models, tracking_uri, as_json, engine_opener(engine, dsn, master)
        )


@app.command(
    epilog=example(
        "predictive-scoring recalibrate --project data/projects/sample/scoring.yaml",
        "predictive-scoring recalibrate --json",
    )
)
def recalibrate(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Register the champion with a new level of its probabilities, without retraining. Exit 3 if it is rejected."""
    from predictive_scoring.cli import watching

    with output.answering(as_json):
        watching.recalibrate(project, models, tracking_uri, as_json, engine_opener(engine, dsn, master))


@app.command(
    epilog=example(
        "predictive-scoring replay --project data/projects/sample/scoring.yaml",
        "predictive-scoring replay --since 2026-11-01 --until 2026-11-07 --json",
    )
)
def replay(
    project: ProjectOption = PROJECT,
    since: Annotated[
        str | None, typer.Option(help="First day of serving, UTC, 2026-11-01; default: the oldest kept.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day of serving; default: the newest kept.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="How far apart equal numbers may be, absolutely or relatively.")
    ] = 1e-9,
    models: ModelsOption = MODELS,
    engine: EngineOption = ENGINE,
    dsn: DsnOption = None,
    master: MasterOption = MASTER,
    as_json: JsonOption = False,
) -> None:
    """Read served feature vectors again by batch. Exit 3 if one of a stored lead comes out otherwise."""
    from predictive_scoring.cli import replaying

    with output.answering(as_json):
        replaying.replay(
            project, since, until, tolerance, models, as_json, engine_opener(engine, dsn, master)
        )


@app.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring connect hubspot pull --project crm/scoring.yaml",
        "predictive-scoring connect hubspot push --scores scores.jsonl --create-fields",
        "predictive-scoring connect salesforce pull --since 2025-01-01T00:00:00Z",
        "predictive-scoring connect salesforce push --scores scores.jsonl --key External_Id__c --dry-run",
    ),
)
def connect(
    system: Annotated[str, typer.Argument(help="hubspot or salesforce.")],
    direction: Annotated[str, typer.Argument(help="pull (tables from the CRM) or push (scores into it).")],
    project: ProjectOption = PROJECT,
    tables: Annotated[
        Path | None,
        typer.Option(help="Folder of the tables; default: tables/SYSTEM beside the project file."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="pull: the first one begins here, with offset; default: from the start."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="pull: only these properties of a lead (repeatable); default: all but personal ones."
        ),
    ] = None,
    scores: Annotated[Path, typer.Option(help="push: the scores, as score --out wrote them.")] = SCORES,
    key: Annotated[
        str | None,
        typer.Option(help="push: the CRM's unique field that holds the lead id; default: its record id."),
    ] = None,
    create_fields: Annotated[
        bool, typer.Option("--create-fields", help="push: create missing properties (HubSpot).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="push: say how much would be written, ask nobody.")
    ] = False,
    deadline: Annotated[str, typer.Option(help="Stop after this time; run again, it goes on.")] = "2h",
    as_json: JsonOption = False,
) -> None:
    """Pull tables from a CRM, or push changed scores into it. Credentials are read from the environment."""
    with output.answering(as_json):
        from predictive_scoring.cli import connecting

        connecting.connect(
            system,
            direction,
            project=project,
            tables=tables,
            since=since,
            fields=tuple(field or ()),
            scores=scores,
            key=key,
            create_fields=create_fields,
            dry_run=dry_run,
            deadline=deadline,
            as_json=as_json,
        )


@app.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring keys create --name HubSpot --scope crm --expires 365d",
        "predictive-scoring keys list --json",
        "predictive-scoring keys revoke 0f3a9c51d2b7",
    ),
)
def keys(
    action: Annotated[str, typer.Argument(help="create, list or revoke.")],
    key_id: Annotated[str | None, typer.Argument(help="revoke: the id of the key.")] = None,
    name: Annotated[str | None, typer.Option(help="create: which system will use it.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="create: crm, marketer, analyst or admin (repeatable).")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="create: valid for so long, such as 365d; default: until revoked.")
    ] = None,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create, list and revoke the API keys of the service. A new key is shown once and kept as a hash."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.keys(
            action,
            key_id,
            name=name,
            scopes=tuple(scope or ()),
            expires=expires,
            project=project,
            models=models,
            url=database_url,
            now=int(datetime.now(UTC).timestamp()),
            as_json=as_json,
        )


@app.command(
    no_args_is_help=True,
    epilog=example("predictive-scoring erase CRM-4711", "predictive-scoring erase CRM-4711 --yes --json"),
)
def erase(
    lead: Annotated[str, typer.Argument(help="Any id of the lead.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it only the counts are shown.")] = False,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a lead from the store and the kept vectors, for good: late events do not bring it back."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.erase(
            lead,
            yes,
            project=project,
            models=models,
            url=database_url,
            now=int(datetime.now(UTC).timestamp()),
            as_json=as_json,
        )


@app.command(no_args_is_help=True, epilog=example("predictive-scoring subject CRM-4711"))
def subject(
    lead: Annotated[str, typer.Argument(help="Any id of the lead.")],
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print everything that is held about one lead, as one JSON document (with or without --json)."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.subject(lead, project=project, models=models, url=database_url)


@app.command(
    no_args_is_help=True,
    epilog=example("predictive-scoring audit verify", "predictive-scoring audit verify --head 5d41… --json"),
)
def audit(
    action: Annotated[str, typer.Argument(help="verify.")],
    head: Annotated[
        str | None, typer.Option(help="A hash that was noted elsewhere and must still be in the chain.")
    ] = None,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the audit log. Exit 3, with the first broken row, if it was changed after it was written."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.audit(action, head, project=project, models=models, url=database_url, as_json=as_json)


@app.command(
    epilog=example(
        "predictive-scoring export --project crm/scoring.yaml",
        "predictive-scoring export --database-url postgresql://scoring@db/scoring",
    )
)
def export(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the store's history into the project's tables (Parquet), to train and score on."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.export(project=project, models=models, url=database_url, as_json=as_json)


@app.command(
    epilog=example("predictive-scoring serve --project data/projects/sample/scoring.yaml --port 3001")
)
def serve(
    project: ProjectOption = PROJECT,
    host: Annotated[str, typer.Option(help="Loopback address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    keep_vectors: KeepOption = SHARE,
    models: ModelsOption = MODELS,
    as_json: JsonOption = False,
) -> None:
    """Serve the HTTP API and the marketer's pages until Ctrl-C."""
    from predictive_scoring.cli.serving import serve as launch

    with output.answering(as_json):
        code = launch(
            project,
            models,
            host,
            port,
            keep_vectors=keep_vectors,
            say=lambda text: output.aside.print(text, soft_wrap=True),
        )
    raise typer.Exit(code)


@app.command(epilog=example("predictive-scoring doctor --json"))
def doctor(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    as_json: JsonOption = False,
) -> None:
    """Look at the environment and say what is missing and how to mend it. Exit 4 if something is."""
    from predictive_scoring.cli import diagnosing

    with output.answering(as_json):
        diagnosing.doctor(project, models, tracking_uri, as_json)
