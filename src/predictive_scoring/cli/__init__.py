"""The command line: parse, call one function below, answer. `main` is the console script."""

from __future__ import annotations


def main() -> None:
    """Run the command line on the process's arguments."""
    from predictive_scoring.cli.app import app

    app()
