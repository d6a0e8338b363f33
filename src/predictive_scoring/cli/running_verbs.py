"""Verbs that run and look after the product.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    MODELS,
    PROJECT,
    SHARE,
    TRACKING,
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


@verbs.command(epilog=example("predictive-scoring doctor --json"))
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
