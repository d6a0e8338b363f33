"""Verbs that run and look after the product.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    MODELS,
    PROJECT,
    SHARE,
    TRACKING,
    DatabaseOption,
    JsonOption,
    KeepOption,
    ModelsOption,
    ProjectOption,
    TrackingOption,
    example,
)

verbs = typer.Typer(rich_markup_mode="rich")


@verbs.command(
    epilog=example("predictive-scoring serve --project data/projects/sample/scoring.yaml --port 3001")
)
def serve(
    project: ProjectOption = PROJECT,
    host: Annotated[
        str,
        typer.Option(help="IP address to bind to; one that others reach needs an API key and --allow-host."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that answer requests; each holds a model.")
    ] = 1,
    background: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run the background worker (verb work) as well.")
    ] = True,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name in the service's public address, as in https://NAME/ (repeatable); also "
            "PREDICTIVE_SCORING_HOSTS, with commas."
        ),
    ] = None,
    keep_vectors: KeepOption = SHARE,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the HTTP API and the marketer's pages until Ctrl-C."""
    from predictive_scoring.cli.serving import Plan
    from predictive_scoring.cli.serving import serve as launch

    with output.answering(as_json):
        plan = Plan(
            project,
            models,
            host,
            port,
            workers=workers,
            background=background,
            hosts=tuple(
                allow_host or filter(None, os.environ.get("PREDICTIVE_SCORING_HOSTS", "").split(","))
            ),
            database=database_url,
            keep_vectors=keep_vectors,
        )
        code = launch(plan, say=lambda text: output.aside.print(text, soft_wrap=True))
    raise typer.Exit(code)


@verbs.command(epilog=example("predictive-scoring doctor --json"))
def doctor(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    tracking_uri: TrackingOption = TRACKING,
    database_url: DatabaseOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that should be free to serve on.")] = 3000,
    as_json: JsonOption = False,
) -> None:
    """Look at environment, store, keys and workers, and say how to mend what is missing. Exit 4 if something is."""
    from predictive_scoring.cli import diagnosing

    with output.answering(as_json):
        diagnosing.doctor(project, models, tracking_uri, as_json, port=port, database=database_url)


@verbs.command(
    epilog=example(
        "predictive-scoring work --project data/projects/sample/scoring.yaml",
        "predictive-scoring work --once --json",
    )
)
def work(
    project: ProjectOption = PROJECT,
    once: Annotated[
        bool, typer.Option("--once", help="Stop when nothing is left to do, and say what was done.")
    ] = False,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score changed leads, work off bulk jobs and deliver webhooks, until Ctrl-C."""
    with output.answering(as_json):
        from predictive_scoring.cli import working

        working.work(project=project, models=models, url=database_url, once=once, as_json=as_json)
