"""Options that verbs share, and what is worked out of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from predictive_scoring.data.engines import Engine

ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The project file.")]
ModelsOption = Annotated[
    Path,
    typer.Option("--models", envvar="PREDICTIVE_SCORING_MODELS", help="Folder of bundles and champions."),
]
TrackingOption = Annotated[
    str, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow database or server.")
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Where features are computed: duckdb, postgres or spark.")
]
DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="PREDICTIVE_SCORING_DSN",
        help="The PostgreSQL database, postgresql://user@host/database (the variable keeps a password out of sight).",
    ),
]
MasterOption = Annotated[
    str, typer.Option("--master", envvar="PREDICTIVE_SCORING_SPARK_MASTER", help="Where Spark runs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
KeepOption = Annotated[
    float,
    typer.Option(
        "--keep-vectors",
        min=0.0,
        max=1.0,
        envvar="PREDICTIVE_SCORING_KEEP_VECTORS",
        help="Share of the served feature vectors to keep for replay, 0 to 1.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="Instant to score at, with offset; default: as far as the log is complete."),
]

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="PREDICTIVE_SCORING_DATABASE_URL",
        help="The store, postgresql://… or sqlite:///…; default: store.db in the project's model folder.",
    ),
]

PROJECT = Path("scoring.yaml")
MODELS = Path("models")
TRACKING = "sqlite:///mlflow.db"
ENGINE = "duckdb"
MASTER = "local[*]"
SHARE = 0.01
SCORES = Path("scores.jsonl")


def example(*lines: str) -> str:
    """The examples below a verb's help."""
    return "[bold]Examples[/]\n\n" + "\n\n".join(f"  {line}" for line in lines)


def now() -> str:
    """The present instant as UTC text. Only doors read the clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def engine_opener(name: str, dsn: str | None, master: str) -> Callable[[], Engine]:
    """Opens the engine once it is needed: starting one takes seconds that a wrong project file should not cost."""
    from predictive_scoring.data.engines import open_engine

    return partial(open_engine, name, dsn=dsn, master=master)
