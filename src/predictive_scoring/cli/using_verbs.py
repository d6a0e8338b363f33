"""Verbs that use the champion.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

import time
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
    AsOfOption,
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
)

verbs = typer.Typer(rich_markup_mode="rich")


@verbs.command(
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
            now=int(time.time()),
            previous=previous,
            shadow=None if version is None else (version, tracking_uri),
        )


@verbs.command(
    epilog=example("predictive-scoring explain L-00012 --project data/projects/sample/scoring.yaml")
)
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


@verbs.command(
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


@verbs.command(
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
