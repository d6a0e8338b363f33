"""Verbs that lay the ground: a project file, tables, their check.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    ENGINE,
    MASTER,
    PROJECT,
    DsnOption,
    EngineOption,
    JsonOption,
    MasterOption,
    ProjectOption,
    engine_opener,
    example,
)

verbs = typer.Typer(rich_markup_mode="rich")


@verbs.command(
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


@verbs.command(
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


@verbs.command(
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
