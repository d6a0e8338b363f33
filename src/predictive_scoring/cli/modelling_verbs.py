"""Verbs about models: train, compare, promote, watch.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    ENGINE,
    MASTER,
    MODELS,
    PROJECT,
    TRACKING,
    DsnOption,
    EngineOption,
    JsonOption,
    MasterOption,
    ModelsOption,
    ProjectOption,
    TrackingOption,
    engine_opener,
    example,
    now,
)

verbs = typer.Typer(rich_markup_mode="rich")


@verbs.command(
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


@verbs.command(
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


@verbs.command(
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


@verbs.command(epilog=example("predictive-scoring rollback --project data/projects/sample/scoring.yaml"))
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


@verbs.command(
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


@verbs.command(
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
